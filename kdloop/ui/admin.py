"""The Admin tab: sign in; raters; settings; keys; exports; snapshots; what owners did. Empty until an owner is in."""

from functools import partial

import gradio as gr
import pandas as pd

from kdloop.feedback import exports
from kdloop.settings import NAMES, Settings, current, variable
from kdloop.student.base import licence
from kdloop.ui import choices, files, imports, keys, pack_panel, raters, trial
from kdloop.ui.files import fresh_path
from kdloop.ui.session import (
    PRIVATE,
    SIGNED_OUT,
    TABLE,
    allowed,
    named,
    owner_session,
    owner_token,
    paced,
    refusal,
    refused,
    sign_in,
)
from kdloop.ui.times import local
from kdloop.ui.verdicts import in_words
from kdloop.ui.words import t, tell
from storage import audit, snapshots

SECRET = "admin_token"
AUDIT, SETTINGS = ("at", "who", "did", "about"), ("setting", "value")
HERE = "On this computer whoever sits at it is the owner."
ELSEWHERE = "Sign in as the owner with the admin token (`KDLOOP_ADMIN_TOKEN`)."
ON_SPACE = "Sign in as the owner: with the Hub, as this Space's author, or with the admin token (`KDLOOP_ADMIN_TOKEN`)."
ON_DISK = "All data is in `{home}` on this computer's disk. `KDLOOP_SNAPSHOTS=FOLDER` keeps copies elsewhere."
KEPT = (
    "Snapshots go to `{snapshots}` after every round and at an orderly stop. A start with an empty disk restores the "
    "latest. A crash loses what was said since then."
)
NOTHING_KEPT = (
    "**Nothing survives**: a Space's disk is new after each restart, sleep or commit, and no snapshots are set up. Set "
    "the variable `KDLOOP_SNAPSHOTS=hf://datasets/OWNER/NAME` and the secret `HF_TOKEN` (see docs/spaces.md)."
)
ZERO_GPU = (
    "This is a ZeroGPU Space: its GPU is lent to visitors, on their daily quota. Rounds train on its CPU, slowly, "
    "except for the parts that somebody gives some of their quota for, below the chat."
)


def build(settings: Settings, state: gr.State, kept_session: gr.BrowserState) -> dict:
    alone = not settings.shared
    with gr.Column(visible=not alone) as form:
        gr.Markdown(t(ON_SPACE if settings.oauth else ELSEWHERE), elem_classes="kd-head")
        with gr.Row():
            token = gr.Textbox(label=t("Admin token"), type="password", max_length=200)
            enter = gr.Button(t("Sign in"), variant="primary")
        if settings.oauth:
            gr.LoginButton()
    with gr.Row(visible=alone) as here:
        who = gr.Markdown(t(HERE), elem_classes="kd-head", elem_id="signed-in")
        leave = gr.Button(t("Sign out"), visible=not alone, size="sm", scale=0, min_width=120)
    with gr.Column(visible=alone) as inside:
        alarm = gr.HTML(elem_id="alarm")
        people = raters.build(settings, state)
        boxes, connect = choices.build(settings, state)
        programs = keys.build(settings, state)
        imported = imports.build(settings, state)
        known_packs = pack_panel.build(settings, state)
        export_panel(settings, state)
        kept = snapshot_panel(settings, state)
        log = gr.Dataframe(label=t("What owners did"), **TABLE)
        values = gr.Dataframe(label=t("Settings (environment variables)"), **TABLE)
    opened = named(partial(fill, settings), "admin")
    outputs = [inside, form, here, who, alarm, kept, log, values, *people, *programs, *boxes, *imported, *known_packs]
    connect(partial(fill, settings), outputs)
    entered, left = (named(partial(f, settings), f.__name__) for f in (sign_in_as_owner, sign_out))
    given, signed = [token, state], [state, token, kept_session]
    for event in (
        gr.on([enter.click, token.submit], entered, given, signed, concurrency_limit=None, **PRIVATE),
        leave.click(left, state, [state, kept_session], concurrency_limit=None, **PRIVATE),
    ):
        event.success(opened, state, outputs, queue=False, **PRIVATE)
    return {"inputs": state, "outputs": outputs, "fill": partial(fill, settings)}


def export_panel(settings: Settings, state: gr.State) -> None:
    with gr.Accordion(t("Export people's feedback"), open=False):
        with gr.Row():
            format = gr.Dropdown(list(exports.FORMATS), value="dpo", label=t("For the method"))
            files.offer(t("Export as JSONL"), partial(download, settings), "export", [format, state])
        with gr.Row():
            repo = gr.Textbox(label=t("Private Hub dataset"), placeholder=t("OWNER/NAME"), max_length=100)
            push = gr.Button(t("Push all formats and a card there"))
    pushed = named(partial(push_dataset, settings), "push_dataset")
    push.click(pushed, [repo, state], None, concurrency_limit=1, **PRIVATE)


def snapshot_panel(settings: Settings, state: gr.State) -> gr.Markdown:
    with gr.Accordion(t("Snapshots: what survives a restart"), open=False):
        kept = gr.Markdown(elem_id="persistence")
        take = gr.Button(t("Take a snapshot now"), interactive=bool(settings.snapshots))
    taken = named(partial(take_snapshot, settings), "take_snapshot")
    take.click(taken, state, None, concurrency_limit=1, **PRIVATE)
    return kept


def persistence(settings: Settings) -> str:
    """Where the data lies, and when it is lost."""
    text = tell(
        KEPT if settings.snapshots else NOTHING_KEPT if settings.space else ON_DISK,
        snapshots=settings.snapshots,
        home=settings.home,
    )
    return f"{text}\n\n{tell(ZERO_GPU)}" if settings.zero_gpu else text


def fill(settings: Settings, state: dict):
    """Empty for those who are not owners: anyone can call the endpoint that fills a component."""
    try:
        allowed(settings, state)
    except gr.Error:
        panels = *raters.nothing(), *keys.nothing(), *choices.nothing(), *imports.nothing(), *pack_panel.nothing()
        return gr.Column(visible=False), *signed_in(settings, None), "", "", None, None, *panels
    deeds = [(local(at), who, in_words(deed), about) for at, who, deed, about in audit.entries(settings.db)]
    log = pd.DataFrame(deeds, columns=[tell(head) for head in AUDIT])
    panels = *raters.fill(settings), *keys.fill(settings), *choices.fill(settings), *imports.fill(settings)
    panels += pack_panel.kept()
    told = trial.alarm_box(settings), persistence(settings)
    who = signed_in(settings, state.get("owner"))
    return gr.Column(visible=True), *who, *told, log, table(current(settings)), *panels


def signed_in(settings: Settings, owner: str | None):
    """For (the form, the line in its place, that line's words)."""
    words = tell("Signed in as the owner ({who})", who=owner) if owner else tell(HERE)
    return gr.Column(visible=settings.shared and not owner), gr.Row(visible=bool(owner) or not settings.shared), words


def sign_in_as_owner(settings: Settings, token: str, state: dict):
    state = sign_in(settings, token, state)
    kept = state["session"] = owner_token(settings, state["person"])
    audit.record(settings.db, state["owner"], "signed in", owner_session(settings, kept, state["person"]))
    gr.Info(tell("Signed in as the owner"))
    return state, "", kept


def sign_out(settings: Settings, state: dict):
    """Here and wherever else a copy of this session's token is."""
    who, session = allowed(settings, state), state.get("session")
    number = session and owner_session(settings, session, state["person"])
    audit.record(settings.db, who, SIGNED_OUT, number or "")
    state["owner"] = state["session"] = None
    gr.Info(tell("Signed out"))
    return state, None


def table(settings: Settings) -> pd.DataFrame:
    rows = [
        (
            variable(name),
            "set" if name == SECRET and settings.admin_token else str(getattr(settings, name)),
        )
        for name in NAMES
    ]
    return pd.DataFrame(rows, columns=[tell(head) for head in SETTINGS])


def download(settings: Settings, format: str, state: dict) -> str:
    who = allowed(settings, state)
    paced(settings, state, "downloads")
    path = fresh_path(f"kdloop-{format}.jsonl")
    n = exports.export(settings.db, format, path)
    audit.record(settings.db, who, f"exported {format}", f"{n} rows")
    gr.Info(tell("{n} rows", n=n))
    return str(path)


def push_dataset(settings: Settings, repo: str, state: dict) -> None:
    who = allowed(settings, state)
    if str(repo or "").count("/") != 1:
        raise refused("Name the dataset as OWNER/NAME")
    try:
        written = exports.publish(
            settings.db, snapshots.HubDataset(repo.strip()), licence(settings.student, settings.home)
        )
    except (OSError, ValueError) as error:  # no token, no access, not reachable
        raise refusal(error) from error
    audit.record(settings.db, who, "pushed the dataset", repo)
    gr.Info(tell("Pushed {n} rows; the dataset is private", n=sum(written.values())))


def take_snapshot(settings: Settings, state: dict) -> None:
    who = allowed(settings, state)
    if not settings.snapshots:
        raise refused("Set KDLOOP_SNAPSHOTS first: no place for snapshots is named")
    try:
        name = snapshots.take(settings.db, snapshots.open_target(settings.snapshots))
    except (OSError, ValueError) as error:
        raise refusal(error) from error
    audit.record(settings.db, who, "took a snapshot", name)
    gr.Info(tell("Took {name}", name=name))
