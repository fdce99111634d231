"""The Models tab: every version, where it comes from, what it learned from; roll back, and download an adapter."""

import shutil
import tempfile
from functools import partial
from pathlib import Path

import gradio as gr
import pandas as pd

from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.ui.session import PRIVATE, TABLE, allowed, named, refusal
from storage import checkpoints, rounds
from storage.checkpoints import BrokenCheckpoint, Checkpoint

COLUMNS = ["version", "status", "from", "method", "examples", "of them AI", "verdict", "promoted", "licence"]
LICENCE = "apache-2.0 (the base student's)"


def build(settings: Settings, serving: Serving, state: gr.State) -> dict:
    table = gr.Dataframe(
        lineage(settings),
        label="Versions",
        **TABLE,
        column_widths=[110, 100, 80, 100, 120, 110, 420, 170, 170],
    )
    with gr.Row():
        version = gr.Dropdown(versions(settings), label="Version", elem_id="version")
        token = gr.Textbox(label="Admin token", type="password", visible=bool(settings.admin_token))
    with gr.Row():
        adapter = gr.DownloadButton("Download its adapter")
        ask = gr.Button("Roll back to it…")
        sure = gr.Button("Yes, serve this version from now on", variant="stop", visible=False)
    fetch = named(partial(download, settings), "download_adapter")
    adapter.click(fetch, [version, state, token], adapter, concurrency_limit=None, **PRIVATE)
    ask.click(lambda: gr.Button(visible=True), None, sure, queue=False, **PRIVATE)
    act = named(partial(roll_back, settings, serving), "roll_back")
    sure.click(act, [version, state, token], [table, sure], concurrency_limit=None, **PRIVATE)
    return {"outputs": [table, version], "fill": partial(fill, settings)}


def fill(settings: Settings):
    return lineage(settings), gr.Dropdown(versions(settings))


def living(settings: Settings) -> list[Checkpoint]:
    return [k for k in checkpoints.lineage(settings.db) if k.version is not None and not k.pruned_at]


def versions(settings: Settings) -> list[tuple[str, int]]:
    return [(f"{k.name} ({k.status})", k.version) for k in living(settings)]


def lineage(settings: Settings) -> pd.DataFrame:
    known = checkpoints.lineage(settings.db)
    names, played = {k.id: k.name for k in known}, {r.id: r for r in rounds.list_rounds(settings.db, 10_000)}
    rows = []
    for k in reversed(known):
        r = played.get(k.round_id)
        n, ai = (r.counts.get("train", ""), r.counts.get("ai", "")) if r else ("", "")
        why = (r.verdict or {}).get("reason", "") if r else "the student as it came"
        parent, when = names.get(k.parent_id, ""), (k.promoted_at or "")[:16]
        rows.append((k.name, k.status, parent, k.method or "", n, ai, why, when, LICENCE))
    return pd.DataFrame(rows, columns=COLUMNS)


def find(settings: Settings, version) -> Checkpoint:
    for k in living(settings):
        if k.version == version:
            return k
    raise gr.Error("Choose a version first", print_exception=False)


def download(settings: Settings, version, state: dict, token: str) -> str:
    allowed(settings, state, token)
    chosen = find(settings, version)
    try:
        directory = checkpoints.adapter_dir(settings.db, chosen)
    except BrokenCheckpoint as error:
        raise refusal(error) from error
    if directory is None:
        raise gr.Error("v0 is the base student: it has no adapter", print_exception=False)
    return shutil.make_archive(str(Path(tempfile.mkdtemp()) / f"kdloop-{chosen.name}"), "zip", directory)


def roll_back(settings: Settings, serving: Serving, version, state: dict, token: str):
    allowed(settings, state, token)
    chosen = find(settings, version)
    try:
        checkpoints.roll_back(settings.db, chosen.version)
    except BrokenCheckpoint as error:
        raise refusal(error) from error
    serving.current()
    gr.Info(f"{chosen.name} answers from now on")
    return lineage(settings), gr.Button(visible=False)
