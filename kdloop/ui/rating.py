"""The votes on two answers in the chat; under it, stars, reasons, words, and a better answer."""

from functools import partial

import gradio as gr

from kdloop.feedback import collect
from kdloop.settings import Settings
from kdloop.ui import comparison
from kdloop.ui.session import REFUSED, named, paced, person, refusal, refused
from kdloop.ui.transcript import completion_shown
from kdloop.ui.words import t, tell
from storage import conversations

STARS = [("★" * n + "☆" * (5 - n), n) for n in range(1, 6)]
FIELDS = ("stars", "reasons", "words", "better")


def panel() -> dict:
    """Stars, reasons, words and a better answer, all about the completion that the chat shows last."""
    with gr.Accordion(t("Rate or improve the last answer"), open=False, elem_id="rate"):
        with gr.Row():
            stars = gr.Radio(STARS, label=t("Stars"))
            reasons = gr.CheckboxGroup(
                [(t(r.capitalize()), r) for r in collect.REASONS], label=t("What is wrong with it?")
            )
        words = gr.Textbox(label=t("In your words"), placeholder=t("What should be different?"), max_length=8000)
        better = gr.Textbox(label=t("A better answer"), lines=3, max_length=8000)
        with gr.Row():
            save, undo = gr.Button(t("Save"), variant="primary", size="sm"), gr.Button(t("Undo"), size="sm")
    return {"stars": stars, "reasons": reasons, "words": words, "better": better, "save": save, "undo": undo}


def connect(settings: Settings, bot: gr.Chatbot, state: gr.State, panel: dict, how: dict) -> tuple:
    """The events of (saving, undoing), wired as `how` says: after either, the header's counts have changed."""
    inputs = [panel[k] for k in FIELDS]
    save, retract = (named(partial(f, settings), f.__name__) for f in (rate, undo))
    return (
        panel["save"].click(save, [bot, state, *inputs], inputs, **how),
        panel["undo"].click(retract, [bot, state], inputs, **how),
    )


def prefer(settings: Settings, choice: str, state: dict):
    """For `Comparison.outputs`, after the state."""
    first, second = state.get("compared") or (None, None)
    if not first:
        raise refused("Nothing to compare: try an answer again first")
    try:
        collect.choose(settings.db, paced(settings, state, "votes"), first, second, choice)
    except REFUSED as error:
        raise refusal(error) from error
    state.update(compared=None, preferred=(first, second))
    return state, *comparison.voted(tell("Saved. A choice between two answers is the best lesson there is"))


def prefer_again(settings: Settings, state: dict):
    """The last choice is taken back, and can be made anew."""
    both = state.pop("preferred", None)
    if not both:
        raise refused("No vote to take back")
    try:
        for id in both:
            collect.undo(settings.db, paced(settings, state, "votes"), "choice", id)
        left, right = (conversations.completion(settings.db, id, person(state)).text for id in both)
    except REFUSED as error:
        raise refusal(error) from error
    state.update(compared=both)
    return state, *comparison.shown(left, right, tell("Which is better?"), True)


def rate(settings: Settings, messages: list[dict], state: dict, n, reasons, words, better):
    """Save whatever of the panel is filled in."""
    about, me, saved = completion_shown(messages), paced(settings, state, "votes"), 0
    try:
        if n:
            saved += bool(collect.stars(settings.db, me, about, n))
        if reasons or (words or "").strip():
            saved += bool(collect.critique(settings.db, me, about, words or "", tuple(reasons or ())))
        if (better or "").strip():
            saved += bool(collect.edit(settings.db, me, about, better))
    except REFUSED as error:
        raise refusal(error) from error
    if not saved:
        raise refused("Give stars, a reason, words or a better answer first")
    gr.Info(tell("Votes saved: {n}", n=saved))
    return None, [], "", ""


def undo(settings: Settings, messages: list[dict], state: dict):
    """Take back stars, choice, critique and corrections of the completion that the chat shows last."""
    about, me = completion_shown(messages), paced(settings, state, "votes")
    try:
        n = sum(collect.undo(settings.db, me, channel, about) for channel in ("stars", "choice", "critique", "edit"))
    except REFUSED as error:
        raise refusal(error) from error
    gr.Info(tell("Votes taken back: {n}", n=n))
    return None, [], "", ""
