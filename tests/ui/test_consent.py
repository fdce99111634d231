"""What the page says of where people's words are kept is true of where they are kept."""

import gradio as gr
import pytest

from kdloop.settings import Settings
from kdloop.ui import consent

HUB = "hf://datasets/ann/data"
SPACE = {"space": "ann/kdloop", "host": "0.0.0.0"}


def said(**values) -> str:
    with gr.Blocks() as page:
        consent.build(Settings(**values))
    return "\n".join(str(b.value) for b in page.blocks.values() if isinstance(b, gr.Markdown))


@pytest.mark.parametrize(
    ("values", "told", "not_told"),
    [
        ({}, "stored on this computer", "snapshots"),
        ({"host": "0.0.0.0"}, "on the computer that serves this page", "this computer"),
        ({"snapshots": "/mnt/copies"}, "in its owner's snapshots", "on this computer"),
        ({"snapshots": HUB}, "private dataset on the Hugging Face Hub", "on this computer"),
        (SPACE, "on this Hugging Face Space until it restarts", "computer"),
        (SPACE | {"snapshots": HUB}, "in its owner's snapshots, also after a restart", "computer"),
        ({"teachers": "teachers.toml"}, "Rounds may show it to teachers", "ZeroGPU"),
        (SPACE | {"zero_gpu": True}, "Rounds train on its CPU, slowly", "teachers"),
    ],
)
def test_the_line_above_the_tabs_says_where_words_are_kept_and_who_sees_them(values, told, not_told):
    assert told in said(**values) and not_told not in said(**values)
    assert "trains this student" in said(**values) and "*Your data*" in said(**values)
