"""Versions that people may choose in the chat: the owner offers them on the Models tab, each person chooses there."""

from functools import partial

import gradio as gr

from kdloop.settings import Settings
from kdloop.student.serving import UNFIT, Serving
from kdloop.ui.session import IN_ORDER, allowed, named, paced, refusal, refused
from kdloop.ui.words import t, tell
from storage import audit, checkpoints, offers

SERVING = "Answered by the version that serves ({name})"
OFFER = "Offer this version in the chat, by this name"
OFFER_INFO = "People choose it above their chat, beside the one that serves. Without a name it is offered no longer."


def build() -> gr.Dropdown:
    """Above the chat; out of sight while nothing is offered."""
    name = t("Who answers you")
    return gr.Dropdown([], label=name, show_label=False, container=False, visible=False, elem_id="who-answers")


def connect(settings: Settings, state: gr.State, choice: gr.Dropdown) -> None:
    choice.select(named(partial(choose, settings), "choose_version"), [choice, state], None, **IN_ORDER)


def shown(settings: Settings, me: str) -> gr.Dropdown:
    """Of a page that loads: what there is, and what this person has chosen."""
    mine = offers.chosen(settings.db, me)
    known = [(o.name, o.checkpoint) for o in offers.offered(settings.db)]
    found = [(tell("Answered by {name} ({version})", name=name, version=k.name), str(k.id)) for name, k in known]
    serving = tell(SERVING, name=checkpoints.serving(settings.db).name), ""
    return gr.Dropdown([serving, *found], value=str(mine.checkpoint.id) if mine else "", visible=bool(found))


def choose(settings: Settings, id, state: dict) -> None:
    me = paced(settings, state, "votes")
    try:
        offers.choose(settings.db, me, int(id) if str(id or "").isdigit() else None)
    except ValueError as error:
        raise refusal(error) from error
    gr.Info(tell("From your next message on"))


def form() -> gr.Textbox:
    """For owners, on the Models tab."""
    return gr.Textbox(
        label=t(OFFER), info=t(OFFER_INFO), submit_btn=t("Offer"), max_length=offers.MAX_NAME, elem_id="offer"
    )


def offer(settings: Settings, serving: Serving, id, name: str, state: dict) -> str:
    """The chosen version, under this name; "" ends it. Returns "", for the next."""
    who = allowed(settings, state)
    known = {k.id: k for k in checkpoints.lineage(settings.db) if not k.pruned_at}
    if id not in known:
        raise refused("Choose a version first")
    k, name = known[id], str(name or "").strip()
    if not name:
        return withdraw(settings, who, k)
    try:
        serving.load(k)  # what cannot answer must not be offered
        offers.offer(settings.db, k.id, name)
    except (*UNFIT, ValueError) as error:
        raise refusal(error) from error
    audit.record(settings.db, who, "offered a version in the chat", k.name)
    gr.Info(tell("Offered in the chat: {name}. Pages show it when they load", name=name))
    return ""


def withdraw(settings: Settings, who: str, k: checkpoints.Checkpoint) -> str:
    if not offers.withdraw(settings.db, k.id):
        raise refused("Type the name first that people choose it by")
    audit.record(settings.db, who, "ended the offer of a version", k.name)
    gr.Info(tell("{name} is offered no longer", name=k.name))
    return ""
