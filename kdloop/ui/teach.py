"""The Teach tab: what is most worth a person's minute, one pair at a time.

The queue holds what AI raters chose in earlier rounds, the least sure first. Which of the two the AI preferred is told
after the vote, so that it does not lead.
"""

from functools import partial
from secrets import randbelow

import gradio as gr

from kdloop import collect
from kdloop.settings import Settings
from kdloop.ui.session import PRIVATE, REFUSED, named, paced, person, refusal
from storage import feedback

EMPTY = "Nothing to check yet. After the first round, the pairs that the AI rater was least sure of wait here."
VOTES = {"Left is better": "left", "Right is better": "right", "Equally good": "tie", "Skip": "skip"}


def build(settings: Settings, state: gr.State) -> dict:
    status = gr.Markdown(EMPTY, elem_id="teach")
    question = gr.Textbox(label="Prompt", interactive=False, visible=False)
    with gr.Row():
        sides = [
            gr.Textbox(label=f"{side} answer", lines=8, interactive=False, visible=False) for side in ("Left", "Right")
        ]
    with gr.Row():
        buttons = [gr.Button(label, visible=False) for label in VOTES]
    outputs = [status, question, *sides, *buttons, state]
    for button in buttons:
        act = named(partial(vote, settings, VOTES[button.value]), "teach")
        button.click(act, state, outputs, concurrency_limit=None, **PRIVATE)
    return {"inputs": state, "outputs": outputs, "fill": partial(fill, settings)}


def fill(settings: Settings, state: dict, said: str = ""):
    """Show the least sure pair that this person has neither checked nor skipped."""
    skipped = state.get("skipped", ())
    queue = [a for a in feedback.ai_choices(settings.db, person(state)) if a.id not in skipped]
    if not queue:
        hidden = [gr.Textbox(visible=False)] * 3 + [gr.Button(visible=False)] * len(VOTES)
        return f"{said}\n\n{EMPTY}".strip(), *hidden, {**state, "teach": None}
    pair, flipped = queue[0], bool(randbelow(2))
    left, right = (pair.rejected, pair.chosen) if flipped else (pair.chosen, pair.rejected)
    status = f"{said}\n\n{len(queue)} pairs wait. The AI rater was {pair.probability:.0%} sure of this one."
    shown = [gr.Textbox(text, visible=True) for text in (pair.question, left, right)]
    buttons = [gr.Button(visible=True)] * len(VOTES)
    return status.strip(), *shown, *buttons, {**state, "teach": (pair.id, flipped)}


def vote(settings: Settings, value: str, state: dict):
    if not state.get("teach"):
        raise gr.Error("Open this tab again: no pair is shown", print_exception=False)
    id, flipped = state["teach"]
    if value == "skip":
        return fill(settings, {**state, "skipped": (*state.get("skipped", ()), id)})
    ai_side = "right" if flipped else "left"
    choice = value if value == "tie" else "left" if value == ai_side else "right"
    try:
        collect.review(settings.db, paced(person(state), "votes"), id, choice)
    except REFUSED as error:
        raise refusal(error) from error
    return fill(settings, state, f"Saved. The AI rater had chosen the {ai_side} one.")
