"""On the Admin tab: each rater's weight, and the erasure of somebody's data on their request."""

from functools import partial

import gradio as gr
import pandas as pd

from kdloop.settings import Settings
from kdloop.ui import sure
from kdloop.ui.session import IN_ORDER, TABLE, allowed, erasure_notice, named, refusal, refused
from kdloop.ui.times import local
from kdloop.ui.words import t, tell
from storage import audit, people

GONE = "Delete for good what {person} wrote: {chats} conversations, {messages} messages, {votes} votes"
COLUMNS = ["person", "votes", "last vote", "weight"]


def build(settings: Settings, state: gr.State) -> list:
    """Returns what `fill` fills."""
    with gr.Accordion(t("Raters"), open=True):
        table = gr.Dataframe(label=t("People whose votes stand"), **TABLE)
        with gr.Row():
            who = gr.Dropdown([], label=t("Person"))
            weight = gr.Slider(0, 1, 1, step=0.1, label=t("Weight of their word (0 blocks)"))
            save = gr.Button(t("Set the weight"))
        outputs, label = [table, who], t("Erase this person's data…")
        with gr.Row():
            forget = partial(erase, settings)
            sure.ask_first(label, partial(what_goes, settings), forget, "erase_person", who, state, outputs)
    weigh = named(partial(set_weight, settings), "set_weight")
    save.click(weigh, [who, weight, state], outputs, **IN_ORDER)
    return outputs


def nothing():
    return pd.DataFrame(columns=[tell(head) for head in COLUMNS]), gr.Dropdown([], value=None)


def fill(settings: Settings):
    known = people.raters(settings.db)
    rows = [(r.person[:8], r.votes, local(r.last), r.weight) for r in known]
    choices = [(f"{r.person[:8]} ({r.votes} votes)", r.person) for r in known]
    return pd.DataFrame(rows, columns=[tell(head) for head in COLUMNS]), gr.Dropdown(choices, value=None)


def chosen(settings: Settings, person: str) -> str:
    if person not in {r.person for r in people.raters(settings.db)}:
        raise refused("Choose a person first")
    return person


def set_weight(settings: Settings, person: str, weight: float, state: dict):
    who, about = allowed(settings, state), chosen(settings, person)
    try:
        people.set_weight(settings.db, about, weight)
    except ValueError as error:
        raise refusal(error) from error
    audit.record(settings.db, who, f"set a rater's weight to {weight:g}", about[:8])
    gr.Info(tell("From the next round on" if weight else "Blocked: from the next round on their votes teach nothing"))
    return fill(settings)


def what_goes(settings: Settings, person: str, state: dict) -> str:
    allowed(settings, state)
    about = chosen(settings, person)
    n = {name: len(rows) for name, rows in people.everything(settings.db, about).items()}
    return tell(GONE, person=about[:8], chats=n["conversations"], votes=n["feedback"], messages=n["turns"])


def erase(settings: Settings, person: str, state: dict):
    who, about = allowed(settings, state), chosen(settings, person)
    affected = people.erase(settings.db, about)
    audit.record(settings.db, who, "erased a person's data", about[:8])
    gr.Info(erasure_notice(settings, affected))
    return fill(settings)
