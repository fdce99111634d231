"""A button for what cannot be taken back: the first click asks, in red, naming what will be gone, with a way out."""

from collections.abc import Callable

import gradio as gr
from gradio.events import Dependency

from kdloop.ui.session import PRIVATE, named
from kdloop.ui.words import t


def ask_first(
    label,
    describe: Callable,
    act: Callable,
    name: str,
    chosen: gr.Dropdown | gr.Textbox,
    state: gr.State,
    outputs: list,
    size: str = "lg",
    cancels: list[Dependency] | None = None,
) -> Dependency:
    """`describe(chosen, state)` names what `act(chosen, state)` will do; the latter returns a tuple, for `outputs`. The
    question is taken back when something else is chosen: it was not about that. Returns the event of the deed."""
    ask = gr.Button(label, size=size)
    sure = gr.Button(visible=False, variant="stop", size=size, elem_id=f"sure-{name}")
    cancel = gr.Button(t("Cancel"), visible=False, size=size)
    both = [sure, cancel]

    def question(about, state: dict):
        return gr.Button(describe(about, state), visible=True), gr.Button(visible=True)

    ask.click(named(question, f"ask_{name}"), [chosen, state], both, queue=False, **PRIVATE)
    how = {"concurrency_limit": None, "cancels": cancels, **PRIVATE}
    put_away = named(lambda: (gr.Button(visible=False),) * 2, f"put_away_{name}")
    gr.on([cancel.click, chosen.change], put_away, None, both, queue=False, **PRIVATE)

    def deed(about, state: dict):
        return *act(about, state), *put_away()

    return sure.click(named(deed, name), [chosen, state], [*outputs, *both], **how)
