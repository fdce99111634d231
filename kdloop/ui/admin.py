"""The Admin tab: sign in; raters; settings; keys; exports; snapshots; what owners did. Empty until an owner is in."""

from functools import partial

import gradio as gr
import pandas as pd

from kdloop.feedback import exports
from kdloop.settings import NAMES, Settings, current, variable
from kdloop.student.base import licence
from kdloop.ui import choices, files, imports, keys, raters, trial
from kdloop.ui.files import fresh_path
from kdloop.ui.session import PRIVATE, TABLE, allowed, named, paced, refusal, refused, sign_in
from kdloop.ui.times import local
from kdloop.ui.words import t, tell
from storage import audit, snapshots

SECRET = "admin_token"
AUDIT, SETTINGS = ("at", "who", "did", "about"), ("setting", "value")
HERE = "On this computer whoever sits at it is the owner."
ELSEWHERE = "Sign in as the owner with the admin token (`KDLOOP_ADMIN_TOKEN`)."
ON_SPACE = "Sign in as the owner: with the Hub, as this Space's author, or with the admin token (`KDLOOP_ADMIN_TOKEN`)."
ON_DISK = "All data is in `{home}` on this computer's disk. `KDLOOP_SNAPSHOTS=FOLDER` keeps copies elsewhere."
KEPT = (
    "Snapshots go to `{snapshots}` after every round and at an orderly stop. A start with an empty disk restores the "
    "latest. A crash loses what was said since then."
)
NOTHING_KEPT = (
    "**Nothing survives**: a Space's disk is new after each restart, sleep or commit, and no snapshots are set up. Set "
    "the variable `KDLOOP_SNAPSHOTS=hf://datasets/OWNER/NAME` and the secret `HF_TOKEN` (see docs/spaces.md)."
)
ZERO_GPU = (
    "This is a ZeroGPU Space: its GPU is lent to visitors, on their daily quota. Rounds train on its CPU, slowly, "
    "except for the parts that somebody gives some of their quota for, below the chat."
)


def build(settings: Settings, state: gr.State) -> dict:
    alone = not settings.shared
    gr.Markdown(t(HERE if alone else ON_SPACE if settings.oauth else ELSEWHERE), elem_classes="kd-head")
    with gr.Row(visible=not alone):
        token = gr.Textbox(label=t("Admin token"), type="password", max_length=200)
        enter = gr.Button(t("Sign in"), variant="primary")
    if settings.oauth:
        gr.LoginButton()
    with gr.Column(visible=alone) as inside:
        alarm = gr.HTML(elem_id="alarm")
        people = raters.build(settings, state)
        boxes, connect = choices.build(settings, state)
        programs = keys.build(settings, state)
        imported = imports.build(settings, state)
        export_panel(settings, state)
        kept = snapshot_panel(settings, state)
        log = gr.Dataframe(label=t("What owners did"), **TABLE)
        values = gr.Dataframe(label=t("Settings (environment variables)"), **TABLE)
        leave = gr.Button(t("Sign out"), visible=not alone)
    opened = named(partial(fill, settings), "admin")
    outputs = [inside, alarm, kept, log, values, *people, *programs, *boxes, *imported]
    connect(partial(fill, settings), outputs)
    entered, left = (named(partial(f, settings), f.__name__) for f in (sign_in_as_owner, sign_out))
    for event in (
        enter.click(entered, [token, state], [state, token], concurrency_limit=None, **PRIVATE),
        leave.click(left, state, state, concurrency_limit=None, **PRIVATE),
    ):
        event.success(opened, state, outputs, queue=False, **PRIVATE)
    return {"inputs": state, "outputs": outputs, "fill": partial(fill, settings)}


def export_panel(settings: Settings, state: gr.State) -> None:
    with gr.Accordion(t("Export people's feedback"), open=False):
        with gr.Row():
            format = gr.Dropdown(list(exports.FORMATS), value="dpo", label=t("For the method"))
            files.offer(t("Export as JSONL"), partial(download, settings), "export", [format, state])
        with gr.Row():
            repo = gr.Textbox(label=t("Private Hub dataset"), placeholder=t("OWNER/NAME"), max_length=100)
            push = gr.Button(t("Push all formats and a card there"))
    pushed = named(partial(push_dataset, settings), "push_dataset")
    push.click(pushed, [repo, state], None, concurrency_limit=1, **PRIVATE)


def snapshot_panel(settings: Settings, state: gr.State) -> gr.Markdown:
    with gr.Accordion(t("Snapshots: what survives a restart"), open=False):
        kept = gr.Markdown(elem_id="persistence")
        take = gr.Button(t("Take a snapshot now"), interactive=bool(settings.snapshots))
    taken = named(partial(take_snapshot, settings), "take_snapshot")
    take.click(taken, state, None, concurrency_limit=1, **PRIVATE)
    return kept


def persistence(settings: Settings) -> str:
    """Where the data lies, and when it is lost."""
    text = tell(
        KEPT if settings.snapshots else NOTHING_KEPT if settings.space else ON_DISK,
        snapshots=settings.snapshots,
        home=settings.home,
    )
    return f"{text}\n\n{tell(ZERO_GPU)}" if settings.zero_gpu else text


def fill(settings: Settings, state: dict):
    """Empty for those who are not owners: anyone can call the endpoint that fills a component."""
    try:
        allowed(settings, state)
    except gr.Error:
        panels = *raters.nothing(), *keys.nothing(), *choices.nothing(), *imports.nothing()
        return gr.Column(visible=False), "", "", None, None, *panels
    deeds = [(local(at), *deed) for at, *deed in audit.entries(settings.db)]
    log = pd.DataFrame(deeds, columns=[tell(head) for head in AUDIT])
    panels = *raters.fill(settings), *keys.fill(settings), *choices.fill(settings), *imports.fill(settings)
    told = trial.alarm_box(settings), persistence(settings)
    return gr.Column(visible=True), *told, log, table(current(settings)), *panels


def sign_in_as_owner(settings: Settings, token: str, state: dict):
    state = sign_in(settings, token, state)
    audit.record(settings.db, state["owner"], "signed in")
    gr.Info(tell("Signed in as the owner"))
    return state, ""


def sign_out(settings: Settings, state: dict) -> dict:
    audit.record(settings.db, allowed(settings, state), "signed out")
    state["owner"] = None
    gr.Info(tell("Signed out"))
    return state


def table(settings: Settings) -> pd.DataFrame:
    rows = [
        (
            variable(name),
            "set" if name == SECRET and settings.admin_token else str(getattr(settings, name)),
        )
        for name in NAMES
    ]
    return pd.DataFrame(rows, columns=[tell(head) for head in SETTINGS])


def download(settings: Settings, format: str, state: dict) -> str:
    who = allowed(settings, state)
    paced(settings, state, "downloads")
    path = fresh_path(f"kdloop-{format}.jsonl")
    n = exports.export(settings.db, format, path)
    audit.record(settings.db, who, f"exported {format}", f"{n} rows")
    gr.Info(tell("{n} rows", n=n))
    return str(path)


def push_dataset(settings: Settings, repo: str, state: dict) -> None:
    who = allowed(settings, state)
    if str(repo or "").count("/") != 1:
        raise refused("Name the dataset as OWNER/NAME")
    try:
        written = exports.publish(
            settings.db, snapshots.HubDataset(repo.strip()), licence(settings.student, settings.home)
        )
    except (OSError, ValueError) as error:  # no token, no access, not reachable
        raise refusal(error) from error
    audit.record(settings.db, who, "pushed the dataset", repo)
    gr.Info(tell("Pushed {n} rows; the dataset is private", n=sum(written.values())))


def take_snapshot(settings: Settings, state: dict) -> None:
    who = allowed(settings, state)
    if not settings.snapshots:
        raise refused("Set KDLOOP_SNAPSHOTS first: no place for snapshots is named")
    try:
        name = snapshots.take(settings.db, snapshots.open_target(settings.snapshots))
    except (OSError, ValueError) as error:
        raise refusal(error) from error
    audit.record(settings.db, who, "took a snapshot", name)
    gr.Info(tell("Took {name}", name=name))
