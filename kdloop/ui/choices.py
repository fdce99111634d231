"""On the Admin tab: the settings that an owner may change while the app runs (kdloop/settings.py: CHANGEABLE)."""

from collections.abc import Callable
from functools import partial

import gradio as gr

from kdloop.settings import CHANGEABLE, OPTIONS, Settings, change, current, fixed_by, kind
from kdloop.ui.session import IN_ORDER, PRIVATE, allowed, named, refusal
from kdloop.ui.words import t, tell

LABELS = {
    "round_votes": "New votes that start a round (0: none)",
    "idle_minutes": "Minutes without a chat that start a round (0: none)",
    "round_timeout_minutes": "Minutes that a round may take",
    "promotion": "Who decides on what the judge has passed",
    "gate_prompts": "Prompts that the gate asks",
    "compare_every": "Messages from one choice between two answers to the next (0: never)",
    "delegate_below": "A teacher answers where the student's confidence is below (0: never)",
    "max_tokens": "Tokens of a chat answer",
    "round_max_tokens": "Tokens of what a round samples",
    "messages_a_minute": "Messages of one person a minute",
    "votes_a_minute": "Votes of one person a minute",
    "hindsight": "May rounds learn from what people write next, of those who allow it?",
    "notice": "Your own words to people, above the tabs",
}
OPTIONS_SAID = {
    "trial": "People, while it answers: it is confirmed or rolled back",
    "confirm": "People, before it answers",
    "judge": "The judge alone",
    "off": "No",
    "on": "Yes",
}
EXPLAINED = {"promotion": "docs/trust.md", "hindsight": "docs/knowledge.md"}
HOW = (
    "They hold from now on, also after a restart; a round that is running goes on as it began. An empty field goes "
    "back to the default. What an environment variable sets, it alone can change."
)


def build(settings: Settings, state: gr.State) -> tuple[list, Callable]:
    """The fields that `fill` fills, and what wires the buttons: call it with the Admin tab's own filler."""
    with gr.Accordion(t("Change the settings"), open=False, elem_id="choices"):
        gr.Markdown(t(HOW), elem_classes="kd-head")
        numbers = [name for name in LABELS if kind(name) is not str]
        fields = {}
        for pair in zip(numbers[::2], numbers[1::2], strict=True):
            with gr.Row():
                fields |= {name: gr.Number(label=t(LABELS[name]), elem_id=f"set-{name}") for name in pair}
        for name in EXPLAINED:
            said = [(t(OPTIONS_SAID[option]), option) for option in OPTIONS[name]]
            fields[name] = gr.Dropdown(said, label=t(LABELS[name]), elem_id=f"set-{name}")
        fields["notice"] = gr.Textbox(label=t(LABELS["notice"]), lines=2, max_length=2000, elem_id="set-notice")
        with gr.Row():
            save = gr.Button(t("Save the settings"), variant="primary")
            back = gr.Button(t("Back to the defaults"))
    boxes = [fields[name] for name in LABELS]

    def connect(fill: Callable, outputs: list) -> None:
        save_all = named(partial(store, settings), "save_settings")
        reset_all = named(partial(reset, settings), "default_settings")
        again = named(fill, "settings_changed")
        for event in (
            save.click(save_all, [*boxes, state], None, **IN_ORDER),
            back.click(reset_all, state, None, concurrency_limit=None, **PRIVATE),
        ):
            event.success(again, state, outputs, queue=False, **PRIVATE)

    return boxes, connect


def nothing() -> list:
    return [None] * len(LABELS)


def fill(settings: Settings) -> list:
    """Each field with its value, what is allowed, and whether a flag or the environment has set it."""
    known = current(settings)
    return [field(settings, name, getattr(known, name)) for name in LABELS]


def field(settings: Settings, name: str, value):
    default, (least, most) = getattr(settings, name), CHANGEABLE[name]
    component = gr.Dropdown if name in OPTIONS else gr.Textbox if kind(name) is str else gr.Number
    if by := fixed_by(settings, name):
        info = tell("Set by {variable}", variable=by)
    elif name in OPTIONS:
        info = tell("Default: {default}. See {page}", default=tell(OPTIONS_SAID[default]), page=EXPLAINED[name])
    elif kind(name) is str:
        info = tell("At most {most} characters; Markdown. Empty: nothing is shown", most=most)
    else:
        info = tell("{least:g} to {most:g}; default {default:g}", least=least, most=most, default=default)
    return component(value=value, info=info, interactive=not by)


def store(settings: Settings, *values_and_state) -> None:
    *values, state = values_and_state
    who = allowed(settings, state)
    given = {name: None if v in (None, "") else v for name, v in zip(LABELS, values, strict=True)}
    apply(settings, given, who)


def reset(settings: Settings, state: dict) -> None:
    apply(settings, dict.fromkeys(LABELS), allowed(settings, state))


def apply(settings: Settings, values: dict, who: str) -> None:
    try:
        changed = change(settings, values, who)
    except ValueError as error:
        raise refusal(error) from error
    names = "; ".join(tell(LABELS[name]) for name in changed)
    gr.Info(tell("Changed: {names}", names=names) if changed else tell("As it was"))
