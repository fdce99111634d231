"""A button that writes a file and hands it over, and where that file lies until then; and a file that was given.

Gradio's DownloadButton hands over what it held before the click, and its event runs afterwards: by itself it would give
the file of the click before.
"""

import shutil
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import gradio as gr

from kdloop.ui.session import PRIVATE, named, refused

DOWNLOADS = "kdloop-download-"  # prefix of directories that hold our files until Gradio has its own copy, kept a day
KEEP_SECONDS = 3600  # longer than any browser takes to fetch one
HAND_OVER = "() => { setTimeout(() => document.getElementById('file-%s').click()) }"  # once the page has the new file


def offer(label, write: partial, name: str, inputs: list, size: str = "lg", limit: int | None = None) -> gr.Button:
    """`write(*inputs)` returns the file's path; `name` is its endpoint's."""
    button = gr.Button(label, size=size)
    file = gr.DownloadButton(visible="hidden", elem_id=f"file-{name}")
    write_file = button.click(named(write, name), inputs, file, concurrency_limit=limit, **PRIVATE)
    write_file.success(None, None, None, js=HAND_OVER % name)
    return button


def given(file: str) -> Path:
    if not file:
        raise refused("Choose a file first")
    return Path(file)


def fresh_path(name: str) -> Path:
    """A path for a file to hand over; directories of more than KEEP_SECONDS ago are removed."""
    directory = Path(tempfile.mkdtemp(prefix=DOWNLOADS))
    for old in directory.parent.glob(f"{DOWNLOADS}*"):
        with suppress(FileNotFoundError):  # another request may remove it too
            if abs(time.time() - old.stat().st_mtime) > KEEP_SECONDS:  # or ahead: the clock has gone back since
                shutil.rmtree(old, ignore_errors=True)
    return directory / name
