"""The loop as the chat shows it: above it, what a round is doing now, once what came of a person's votes, and the
evidence of a trial."""

from dataclasses import dataclass
from functools import partial
from html import escape

import gradio as gr

from kdloop.rounds import estimate
from kdloop.settings import Settings
from kdloop.ui import addresses, trial, verdicts
from kdloop.ui.session import PRIVATE, named
from kdloop.ui.words import t, tell
from storage import ancestry, checkpoints, rounds, trials
from storage.rounds import Progress, Round

DOING = {  # status -> (in steps, without)
    "eliciting": ("sampling {step} of {steps}", "preparing"),
    "training": ("training, step {step} of {steps}", "preparing the training"),
    "gating": ("comparing {step} of {steps}", "comparing"),
}
STARTING = "starting, which takes about half a minute"  # PyTorch and TRL are imported
LEARNED = "{name} learned from {n} of your votes:"
JUDGED = "{name} was judged by {n} of your votes:"
REFUSED = "Round {id} read {n} of your votes, and the student stays as it was:"
BROKE = "This round broke off, and the student that answered before goes on answering. Its owner can read here why."
NEWS = ("promoted", "on trial", "rejected", "failed")  # ends of rounds that people hear of


def learning_now(settings: Settings, running: Round) -> str:
    """What the running round does, in Markdown, with a link to the Rounds tab."""
    parts = doing(settings, running), left(settings, running)
    return f"[{tell('learning: {doing}', doing=' · '.join(parts))}](?tab=rounds)"


def doing(settings: Settings, running: Round) -> str:
    now = rounds.progress_now(settings.db, running.id)
    if not now:
        return tell(STARTING)
    at: Progress = now[0]
    in_steps, without = DOING[at.phase]
    if at.note:
        return tell(at.note)
    return tell(in_steps, step=at.step, steps=at.steps) if at.steps > 1 else tell(without)


def left(settings: Settings, running: Round) -> str:
    seconds, measured = estimate.seconds_left(settings.db, running)
    if seconds < 60:
        return tell("less than a minute" if measured else "roughly a minute, by a guess")
    return tell("about {n} min" if measured else "roughly {n} min, by a guess", n=round(seconds / 60))


@dataclass(frozen=True)
class News:
    """A line that comes and goes: its box, its words, the button that puts it away."""

    row: gr.Row
    said: gr.HTML
    close: gr.Button


def lay_out() -> News:
    with gr.Row(visible=False, elem_id="news") as row:
        said = gr.HTML(padding=False)
        close = gr.Button(t("Close"), size="sm", scale=0, min_width=80)
    return News(row, said, close)


def connect(settings: Settings, state: gr.State, head: gr.Markdown, shown: News) -> None:
    """The header changes whenever there can be news."""
    told = gr.BrowserState(None, storage_key="kdloop-told", secret="kdloop-public")
    update = named(partial(news, settings), "news")
    head.change(update, [told, state], [shown.row, shown.said, shown.close, told], queue=False, **PRIVATE)
    shown.close.click(named(partial(put_away, settings), "put_away"), state, shown.row, queue=False, **PRIVATE)


def news(settings: Settings, told, state: dict):
    """What came of the last round, once to those whose votes it read; and while a trial runs, what people have said."""
    state = state or {}
    last = next((r for r in rounds.list_rounds(settings.db, 5) if r.status in NEWS), None)
    if last and state.get("person") and last.id != told:
        told = state["news"] = last.id
    own = of_round(settings, last, state["person"]) if last and state.get("news") == last.id else ""
    text = own + of_trial(settings)
    return gr.Row(visible=bool(text)), text, gr.Button(visible=bool(own)), told


def put_away(settings: Settings, state: dict) -> gr.Row:
    """What came of the last round; a trial's evidence comes again with the next change."""
    (state or {}).pop("news", None)
    return gr.Row(visible=False)


def of_round(settings: Settings, r: Round, person: str) -> str:
    read = ancestry.votes_read(settings.db, r.id, person)
    if not read:
        return ""
    if r.status in ("promoted", "on trial"):
        name = verdicts.in_words(checkpoints.get_checkpoint(settings.db, r.candidate_id).name)
        learned = read.get("train", 0)
        said = tell(LEARNED if learned else JUDGED, name=name, n=learned or sum(read.values()))
        return f"<p>{escape(said)} {addresses.link('learning', tell('see before and after'))}</p>"
    why = tell(BROKE) if r.status == "failed" else verdicts.in_words((r.verdict or {}).get("reason", ""))
    said = tell(REFUSED, id=r.id, n=sum(read.values()))
    return f"<p>{escape(said)} {escape(why)} {addresses.link('rounds', tell('see the round'))}</p>"


def of_trial(settings: Settings) -> str:
    if not trials.running(settings.db):
        return ""
    return f"<p>{escape(trial.said(settings))} {addresses.link('arena', tell('compare in the Arena'))}</p>"
