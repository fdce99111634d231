"""A button that writes a file and hands it over.

Gradio's DownloadButton hands over what it held before the click, and its event runs afterwards: by itself it would give
the file of the click before.
"""

from functools import partial

import gradio as gr

from kdloop.ui.session import PRIVATE, named

HAND_OVER = "() => { setTimeout(() => document.getElementById('file-%s').click()) }"  # once the page has the new file


def offer(label, write: partial, name: str, inputs: list, size: str = "lg", limit: int | None = None) -> gr.Button:
    """`write(*inputs)` returns the file's path; `name` is its endpoint's."""
    ask = gr.Button(label, size=size)
    file = gr.DownloadButton(visible="hidden", elem_id=f"file-{name}")
    written = ask.click(named(write, name), inputs, file, concurrency_limit=limit, **PRIVATE)
    written.success(None, None, None, js=HAND_OVER % name)
    return ask
