"""Who answers in the chat: each person chooses one of the versions that an owner offers on the Models tab."""

from functools import partial

import gradio as gr

from kdloop.settings import Settings
from kdloop.ui.session import IN_ORDER, named, paced, refusal
from kdloop.ui.words import t, tell
from storage import checkpoints, offers

SERVING = "Answered by the version that serves ({name})"


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
    return gr.Dropdown([serving, *found], value=str(mine.id) if mine else "", visible=bool(found))


def choose(settings: Settings, id, state: dict) -> None:
    me = paced(settings, state, "votes")
    try:
        offers.choose(settings.db, me, int(id) if str(id or "").isdigit() else None)
    except ValueError as error:
        raise refusal(error) from error
    gr.Info(tell("From your next message on"))
