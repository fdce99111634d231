"""Above the tabs: where what people write and rate is kept, who else is shown it, and what it is for."""

import gradio as gr

from kdloop.settings import LOCAL, Settings, current
from kdloop.ui.admin import ZERO_GPU
from kdloop.ui.words import t
from storage.snapshots import HUB

HERE = (
    "What you write and rate is stored on this computer and trains this student. "
    "A copy, or its deletion: *Your data* in the sidebar."
)
SERVED = (
    "What you write and rate is stored on the computer that serves this page and trains this student. "
    "A copy, or its deletion: *Your data* in the sidebar."
)
COPIED = (
    "What you write and rate is stored on the computer that serves this page and in its owner's snapshots, and trains "
    "this student. A copy, or its deletion: *Your data* in the sidebar."
)
COPIED_TO_HUB = (
    "What you write and rate is stored on the computer that serves this page and in its owner's private dataset on the "
    "Hugging Face Hub, and trains this student. A copy, or its deletion: *Your data* in the sidebar."
)
SPACE = (
    "What you write and rate is stored on this Hugging Face Space until it restarts, and trains this student. "
    "A copy, or its deletion: *Your data* in the sidebar."
)
SPACE_KEPT = (
    "What you write and rate is stored on this Hugging Face Space and in its owner's snapshots, also after a restart, "
    "and trains this student. A copy, or its deletion: *Your data* in the sidebar."
)
TEACHERS = "Rounds may show it to teachers and judges: models that the owner chose, here or elsewhere."
PLACES = (HERE, SERVED, COPIED, COPIED_TO_HUB, SPACE, SPACE_KEPT)


def build(settings: Settings) -> gr.Markdown:
    """Returns what `notice` fills: the owner's own words, which may change while the app runs."""
    gr.Markdown(t(place(settings)), elem_classes="kd-head", elem_id="consent")
    if settings.teachers:
        gr.Markdown(t(TEACHERS), elem_classes="kd-head")
    if settings.zero_gpu:
        gr.Markdown(t(ZERO_GPU), elem_classes="kd-head")
    return gr.Markdown(visible=False, elem_classes="kd-head", elem_id="notice")


def notice(settings: Settings) -> gr.Markdown:
    text = current(settings).notice
    return gr.Markdown(text, visible=bool(text))


def place(settings: Settings) -> str:
    if settings.space:
        return SPACE_KEPT if settings.snapshots else SPACE
    if settings.snapshots:
        return COPIED_TO_HUB if settings.snapshots.startswith(HUB) else COPIED
    return HERE if settings.host in LOCAL else SERVED
