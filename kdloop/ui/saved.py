"""Under the chat, after a thumb: that it is saved, which vote of how many it is, how to undo it, and after a
thumbs-down what was wrong. The reasons are kept with the thumb: one vote, which undo takes back whole."""

from dataclasses import dataclass
from functools import partial

import gradio as gr
from gradio.events import Dependency

from kdloop.feedback import collect
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.ui.session import PRIVATE, REFUSED, named, paced, refusal, refused
from kdloop.ui.transcript import open_chat
from kdloop.ui.words import t, tell
from storage import feedback, trials

COUNTED = "Saved · vote {new} of {at}"
FULL = "Saved · {at} new votes are there: the next round starts soon"
BY_HAND = "Saved · new votes since the last round: {new}"
ON_TRIAL = "Saved · it counts for the round after the trial"
WHAT_FOR = "A round trains a new version on these votes. It answers only if it is shown to be better."


@dataclass(frozen=True)
class Saved:
    """The line, top to bottom; `row` holds it, `why` what is asked after a thumbs-down."""

    row: gr.Column
    text: gr.Markdown
    undo: gr.Button
    why: gr.Row
    reasons: gr.CheckboxGroup
    words: gr.Textbox

    @property
    def outputs(self) -> list:
        return [self.row, self.text, self.why, self.reasons, self.words]


def lay_out() -> Saved:
    with gr.Column(visible=False, elem_id="saved") as row:
        with gr.Row():
            text = gr.Markdown(elem_id="saved-text")
            undo = gr.Button(t("Undo this vote"), size="sm", scale=0, min_width=120)
        with gr.Row(visible=False) as why:
            reasons = gr.CheckboxGroup(
                [(t(r.capitalize()), r) for r in collect.REASONS],
                label=t("What is wrong with it?"),
                show_label=False,
                container=False,
                elem_id="reasons",
            )
            words = gr.Textbox(
                label=t("Something else"),
                placeholder=t("Something else? Enter saves it"),
                show_label=False,
                container=False,
                max_length=collect.MAX_CHARACTERS,
            )
    return Saved(row, text, undo, why, reasons, words)


def connect(
    settings: Settings,
    supervisor: Supervisor,
    state: gr.State,
    bot: gr.Chatbot,
    shown: Saved,
    liked: Dependency,
    how: dict,
) -> Dependency:
    """After the thumb `liked`; the event of undoing it. All are wired as `how` says."""
    show = named(partial(after_thumb, settings, supervisor), "after_thumb")
    liked.then(show, state, shown.outputs, queue=False, **PRIVATE)
    say = named(partial(say_why, settings), "say_why")
    asked = [shown.reasons, shown.words, state]
    gr.on([shown.reasons.input, shown.words.submit], say, asked, shown.text, **how)
    back = named(partial(undo, settings), "undo_thumb")
    return shown.undo.click(back, state, [bot, *shown.outputs], **how)


def hidden():
    """For `Saved.outputs`."""
    return gr.Column(visible=False), "", gr.Row(visible=False), [], ""


def after_thumb(settings: Settings, supervisor: Supervisor, state: dict):
    """`state["thumb"]` is (completion id, liked) of the last thumb that was saved and not taken back."""
    if not (thumb := (state or {}).get("thumb")):
        return hidden()
    return gr.Column(visible=True), counted(settings, supervisor, state), gr.Row(visible=not thumb[1]), [], ""


def counted(settings: Settings, supervisor: Supervisor, state: dict) -> str:
    new, at = feedback.count_votes(settings.db)[1], supervisor.schedule.starts_at()
    if trials.running(settings.db):
        return tell(ON_TRIAL)
    text = tell(COUNTED if new < at else FULL if at else BY_HAND, new=new, at=at)
    explained, state["explained"] = state.get("explained"), True
    return text if explained else f"{text}. {tell(WHAT_FOR)}"


def say_why(settings: Settings, reasons: list, words: str, state: dict) -> str:
    id, liked = (state or {}).get("thumb") or (None, True)
    if liked:
        raise refused("Give a thumbs-down first")
    why = tuple(map(str, reasons)) if isinstance(reasons, list) else ()
    try:
        collect.thumb(settings.db, paced(settings, state, "votes"), id, False, str(words or ""), why)
    except REFUSED as error:
        raise refusal(error) from error
    return tell("Saved, with what was wrong")


def undo(settings: Settings, state: dict):
    me, (id, _) = paced(settings, state, "votes"), state.get("thumb") or (None, None)
    if not id:
        raise refused("There is no vote to take back")
    try:
        collect.thumb(settings.db, me, id, None)
    except REFUSED as error:
        raise refusal(error) from error
    state.pop("thumb")
    return open_chat(settings, state), *hidden()
