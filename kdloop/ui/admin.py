"""The Admin tab: export what people said, and see the settings this app runs with."""

import tempfile
from dataclasses import fields
from functools import partial
from pathlib import Path

import gradio as gr
import pandas as pd

from kdloop import exports
from kdloop.settings import Settings
from kdloop.ui.session import PRIVATE, allowed, named

SECRET = "admin_token"


def build(settings: Settings, state: gr.State) -> None:
    gr.Markdown(
        "On this computer whoever sits at it is the owner. Elsewhere set `KDLOOP_ADMIN_TOKEN`, and give it here.",
        elem_classes="kd-head",
    )
    token = gr.Textbox(label="Admin token", type="password", visible=bool(settings.admin_token))
    with gr.Row():
        format = gr.Dropdown(list(exports.FORMATS), value="dpo", label="Export people's feedback for")
        file = gr.DownloadButton("Export as JSONL")
    gr.Dataframe(table(settings), label="Settings (environment variables, read at start)", interactive=False)
    fetch = named(partial(download, settings), "export")
    file.click(fetch, [format, state, token], file, concurrency_limit=None, **PRIVATE)


def table(settings: Settings) -> pd.DataFrame:
    rows = [
        (
            f"KDLOOP_{f.name.upper()}",
            "set" if f.name == SECRET and settings.admin_token else str(getattr(settings, f.name)),
        )
        for f in fields(settings)
    ]
    return pd.DataFrame(rows, columns=["setting", "value"])


def download(settings: Settings, format: str, state: dict, token: str) -> str:
    allowed(settings, state, token)
    path = Path(tempfile.mkdtemp()) / f"kdloop-{format}.jsonl"
    try:
        n = exports.export(settings.db, str(format), path)
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error
    gr.Info(f"{n} rows")
    return str(path)
