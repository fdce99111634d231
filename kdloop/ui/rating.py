"""Under the chat: stars, reasons, words, a better answer, and "which is better?" after a retry."""

from functools import partial

import gradio as gr

from kdloop import collect
from kdloop.settings import Settings
from kdloop.ui.session import PRIVATE, REFUSED, named, paced, person, refusal
from storage import conversations

STARS = [("★" * n + "☆" * (5 - n), n) for n in range(1, 6)]
COMPARED = {"The new one": "right", "The first one": "left", "Equally good": "tie", "Both bad": "both bad"}
FIELDS = ("stars", "reasons", "words", "better")


def panel() -> dict:
    """Stars, reasons, words and a better answer, all about the last completion."""
    with gr.Accordion("Rate or improve the last answer", open=False, elem_id="rate"):
        with gr.Row():
            stars = gr.Radio(STARS, label="Stars")
            reasons = gr.CheckboxGroup([(r.capitalize(), r) for r in collect.REASONS], label="What is wrong with it?")
        words = gr.Textbox(label="In your words", placeholder="What should be different?", max_length=8000)
        better = gr.Textbox(label="A better answer", lines=3, max_length=8000)
        with gr.Row():
            save, undo = gr.Button("Save", variant="primary", size="sm"), gr.Button("Undo", size="sm")
    return {"stars": stars, "reasons": reasons, "words": words, "better": better, "save": save, "undo": undo}


def connect(settings: Settings, state: gr.State, panel: dict) -> list:
    """The events after which the header's counts have changed."""
    inputs = [panel[k] for k in FIELDS]
    save, take_back = (named(partial(f, settings), f.__name__) for f in (rate, undo))
    return [
        panel["save"].click(save, [state, *inputs], inputs, concurrency_limit=None, **PRIVATE),
        panel["undo"].click(take_back, state, inputs, concurrency_limit=None, **PRIVATE),
    ]


def last_completion(settings: Settings, state: dict) -> str:
    last = state.get("conversation") and conversations.last_turn(settings.db, state["conversation"], person(state))
    if not last:
        raise gr.Error("No answer yet: type a message first", print_exception=False)
    return last[1].id


def prefer(settings: Settings, label: str, state: dict):
    first, second = state.get("compared") or (None, None)
    if not first:
        raise gr.Error("Nothing to compare: try an answer again first", print_exception=False)
    try:
        collect.choose(settings.db, paced(person(state), "votes"), first, second, COMPARED[label])
    except REFUSED as error:
        raise refusal(error) from error
    gr.Info("Saved. A choice between two answers is the best lesson there is")
    return {**state, "compared": None}, gr.Row(visible=False)


def rate(settings: Settings, state: dict, n, reasons, words, better):
    """Save whatever of the panel is filled in."""
    about, me, saved = last_completion(settings, state), paced(person(state), "votes"), 0
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
        raise gr.Error("Give stars, a reason, words or a better answer first", print_exception=False)
    gr.Info(f"Saved: {saved} vote{'s' * (saved > 1)}")
    return None, [], "", ""


def undo(settings: Settings, state: dict):
    """Take back stars, choice, critique and corrections of the last completion."""
    about, me = last_completion(settings, state), person(state)
    n = sum(collect.undo(settings.db, me, channel, about) for channel in ("stars", "choice", "critique", "edit"))
    gr.Info(f"Taken back: {n} vote{'s' * (n != 1)}")
    return None, [], "", ""
