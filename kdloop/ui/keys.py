"""On the Admin tab: keys for programs that ask by the API. A key is shown once, when it is made."""

from functools import partial

import gradio as gr
import pandas as pd

from kdloop.settings import Settings
from kdloop.ui import sure
from kdloop.ui.session import PRIVATE, TABLE, allowed, named, refusal, refused
from kdloop.ui.times import local
from kdloop.ui.words import t, tell
from storage import keys

COLUMNS = ["key", "a minute", "metrics", "made", "last used", "revoked"]
ABOUT = (
    "A program asks with its key, wherever it is; on this computer none is needed while nobody else reaches the app. "
    "See docs/api.md."
)


def build(settings: Settings, state: gr.State) -> list:
    """Returns what `fill` fills."""
    with gr.Accordion(t("Keys of the API"), open=False):
        gr.Markdown(t(ABOUT), elem_classes="kd-head")
        table = gr.Dataframe(label=t("Keys"), **TABLE)
        with gr.Row():
            name = gr.Textbox(label=t("For whom or what"), max_length=keys.MAX_NAME)
            most = gr.Number(keys.A_MINUTE, precision=0, label=t("Requests a minute, at most"))
            metrics = gr.Checkbox(label=t("May read /metrics"))
            make = gr.Button(t("Make a key"))
        made = gr.Textbox(label=t("The new key: copy it now, it is not shown again"), visible=False, buttons=["copy"])
        with gr.Row():
            known = gr.Dropdown([], label=t("Key"))
            outputs, gone = [table, known], partial(revoke, settings)
            describe = partial(what_ends, settings)
            sure.ask_first(t("Revoke it…"), describe, gone, "revoke_key", known, state, [made, *outputs])
    new = named(partial(make_key, settings), "make_key")
    make.click(new, [name, most, metrics, state], [made, name, *outputs], concurrency_limit=None, **PRIVATE)
    return outputs


def nothing():
    return pd.DataFrame(columns=[tell(head) for head in COLUMNS]), gr.Dropdown([], value=None)


def fill(settings: Settings):
    every = keys.all_keys(settings.db)
    rows = [(k.name, str(k.a_minute), tell("yes") if k.owner else "", *map(local, times(k))) for k in every]
    names = [k.name for k in every if not k.revoked_at]
    return pd.DataFrame(rows, columns=[tell(head) for head in COLUMNS]), gr.Dropdown(names, value=None)


def times(key: keys.Key) -> tuple[str | None, ...]:
    return key.created_at, key.used_at, key.revoked_at


def make_key(settings: Settings, name: str, most: float, metrics: bool, state: dict):
    who = allowed(settings, state)
    try:
        key = keys.new_key(settings.db, name, most, bool(metrics), who)
    except ValueError as error:
        raise refusal(error) from error
    return gr.Textbox(key, visible=True), "", *fill(settings)


def what_ends(settings: Settings, name: str, state: dict) -> str:
    allowed(settings, state)
    if name not in {k.name for k in keys.all_keys(settings.db) if not k.revoked_at}:
        raise refused("Choose a key first")
    return tell("Revoke the key {name}: its program is refused from now on", name=name)


def revoke(settings: Settings, name: str, state: dict):
    who = allowed(settings, state)
    try:
        keys.revoke(settings.db, str(name or ""), who)
    except ValueError as error:
        raise refusal(error) from error
    gr.Info(tell("Revoked: requests with it are refused from now on"))
    return gr.Textbox("", visible=False), *fill(settings)
