"""On the Admin tab: bring ratings that were made elsewhere: a dry run, shown as a table; the import; undo."""

from functools import partial

import gradio as gr
import pandas as pd

from kdloop.feedback import imports
from kdloop.settings import Settings
from kdloop.ui import sure
from kdloop.ui.files import given
from kdloop.ui.session import PRIVATE, TABLE, allowed, done, named, paced, refused, short
from kdloop.ui.times import local
from kdloop.ui.words import t, tell
from storage import imports as stored
from storage.imports import UnknownImport

COUNTS = ("what", "rows")
COLUMNS = ("import", "file", "format", "rows", "licence", "trains", "at")
BROUGHT = ("pairs", "likes", "dislikes", "ties", "scored completions")  # kinds of rows, by kdloop.feedback.imports
LEFT_OUT = (
    "twice in the file",
    "imported before",
    "uses tools",
    "has images or other media",
    "a completion without a text",
    "both completions are the same",
    "nobody rated it",
    "no completion",
    "no message of a person before the completion",
    "two conversations that go apart before their end",
    "a comparison of which the two completions are not in the data",
    "the judge's verdict could not be read",
    "the judge wrote two verdicts",
    "the question and the answers are not where MT-bench shows them to a judge (second turns)",
    "without a snapshot of the chat",
    "the rated message is not in the snapshot",
)  # its reasons
NAME_LENGTH = 100
SUFFIXES = [".json", ".jsonl", ".parquet", ".gz"]


def build(settings: Settings, state: gr.State) -> list:
    """Returns what `fill` fills."""
    with gr.Accordion(t("Import ratings that were made elsewhere"), open=False):
        file = gr.File(label=t("JSON, JSON Lines or Parquet, also as gz"), file_types=SUFFIXES, type="filepath")
        counts = gr.Dataframe(label=t("Dry run: nothing is written yet"), **TABLE)
        with gr.Row():
            rater = gr.Textbox(label=t("Who rated (empty: the names in the file)"), max_length=NAME_LENGTH)
            licence = gr.Textbox(label=t("Licence of the answers"), max_length=NAME_LENGTH)
            train = gr.Checkbox(True, label=t("Rounds may train on them"))
            restricted = gr.Checkbox(False, label=t("The licence forbids to train other models on them"))
        bring = gr.Button(t("Import"), variant="primary")
        table = gr.Dataframe(label=t("Imported"), **TABLE)
        with gr.Row():
            which = gr.Dropdown([], label=t("Import number"))
            switch = gr.Button(t("Train on it, or no more"))
            outputs, undo = [table, which], partial(remove, settings)
            label = t("Remove all its rows…")
            sure.ask_first(label, partial(what_goes, settings), undo, "import_undo", which, state, outputs)
    how = {"concurrency_limit": 1, **PRIVATE}
    file.upload(named(partial(dry_run, settings), "import_dry_run"), [file, state], counts, **how)
    bring.click(
        named(partial(write, settings), "import_file"),
        [file, rater, licence, train, restricted, state],
        [counts, *outputs],
        **how,
    )
    switch.click(named(partial(set_train, settings), "import_train"), [which, state], outputs, **how)
    return outputs


def nothing():
    return pd.DataFrame(columns=[tell(head) for head in COLUMNS]), gr.Dropdown([], value=None)


def fill(settings: Settings):
    known = [one for one in stored.all(settings.db) if one.finished_at]
    rows = [
        (k.id, k.file, k.format, k.rows, k.licence, tell("yes") if k.train else tell("no"), local(k.created_at))
        for k in known
    ]
    return pd.DataFrame(rows, columns=[tell(head) for head in COLUMNS]), gr.Dropdown(
        [(f"{k.id}: {k.file}", k.id) for k in known], value=None
    )


def dry_run(settings: Settings, file: str, state: dict) -> pd.DataFrame:
    allowed(settings, state)
    paced(settings, state, "downloads")
    return counted(done(imports.dry_run, settings.db, given(file)))


def write(settings: Settings, file: str, rater: str, licence: str, train: bool, restricted: bool, state: dict):
    who = allowed(settings, state)
    paced(settings, state, "downloads")
    named_as = {"rater": short(rater, NAME_LENGTH), "licence": short(licence, NAME_LENGTH)}
    about = named_as | {"train": bool(train), "restricted": bool(restricted)}
    report = done(partial(imports.import_file, who=who, **about), settings.db, given(file))
    gr.Info(tell("{n} rows", n=report.done.rows))
    return counted(report), *fill(settings)


def counted(report: imports.Report) -> pd.DataFrame:
    rows = [(report.format, report.file), *imports.table(report, tell)]
    return pd.DataFrame(rows, columns=[tell(head) for head in COUNTS])


def set_train(settings: Settings, id, state: dict):
    who, one = allowed(settings, state), find(settings, id)
    stored.set_train(settings.db, one.id, not one.train, who)
    gr.Info(tell("From the next round on"))
    return fill(settings)


def what_goes(settings: Settings, id, state: dict) -> str:
    allowed(settings, state)
    one = find(settings, id)
    return tell("Remove the {n} rows of import {id}, {file}", n=one.rows, id=one.id, file=one.file)


def remove(settings: Settings, id, state: dict):
    who, one = allowed(settings, state), find(settings, id)
    rows, taught = stored.remove(settings.db, one.id, who)
    gr.Info(tell("Removed {n} rows; {k} versions have learned from them", n=rows, k=len(taught)))
    return fill(settings)


def find(settings: Settings, id) -> stored.Import:
    try:
        return stored.get(settings.db, id)
    except UnknownImport as error:
        raise refused("Choose an import first") from error
