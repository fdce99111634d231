"""The Arena tab: a blind duel, four votes by button or key; names and scores only afterwards."""

from functools import partial
from random import choice
from threading import Event

import gradio as gr

from kdloop import packs
from kdloop.chat import arena
from kdloop.chat.turn import MAX_CHARACTERS
from kdloop.feedback import collect
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.ui import trial
from kdloop.ui.learning import NO_STANDINGS
from kdloop.ui.replies import frames
from kdloop.ui.session import PRIVATE, REFUSED, named, paced, person, refusal, refused
from kdloop.ui.words import t, tell

VOTES = {"← Left is better": "left", "Right is better →": "right", "↑ Tie": "tie", "↓ Both bad": "both bad"}
ABOUT = (
    "Two versions of the student answer the same prompt. Say which answer is better; who wrote which is told after "
    "your vote. Arrow keys vote too."
)
KEYS = """
() => { if (window.kdloopKeys) return; window.kdloopKeys = true;
  const names = {ArrowLeft: "left", ArrowRight: "right", ArrowUp: "tie", ArrowDown: "down"};
  const shown = element => element && element.offsetParent && !element.disabled;
  document.addEventListener("keydown", e => {
    const at = document.activeElement;
    if (e.altKey || e.ctrlKey || e.metaKey || e.shiftKey || e.repeat) return;
    if (["INPUT", "TEXTAREA"].includes(at.tagName) || at.getAttribute("role") === "tab") return;
    const better = document.querySelector("#teach-better textarea");
    if (e.key === "e" && shown(better)) { e.preventDefault(); better.focus(); }
    const button = ["vote", "teach"].map(tab => document.getElementById(`${tab}-${names[e.key]}`)).find(shown);
    if (button) { e.preventDefault(); button.click(); }
  }); }
"""
LEAVE = "() => document.activeElement.closest('#duel-prompt') && document.activeElement.blur()"  # arrows vote from here


def build(settings: Settings, serving: Serving, supervisor: Supervisor, state: gr.State) -> dict:
    gr.Markdown(t(ABOUT), elem_classes="kd-head")
    with gr.Row(equal_height=True):
        prompt = gr.Textbox(
            label=t("Prompt"), max_length=MAX_CHARACTERS, scale=4, submit_btn=t("Duel"), elem_id="duel-prompt"
        )
        surprise = gr.Button(t("Surprise me"), scale=1)
    with gr.Row():
        boxes = [
            gr.Textbox(label=t(f"{side} answer"), lines=8, interactive=False, elem_id=f"duel-{side.lower()}")
            for side in ("Left", "Right")
        ]
    with gr.Row():
        votes = [
            gr.Button(t(label), interactive=False, elem_id=f"vote-{'down' if value == 'both bad' else value}")
            for label, value in VOTES.items()
        ]
    reveal = gr.Markdown(elem_id="reveal")
    back = gr.Button(t("Undo this vote"), size="sm", visible=False)
    tried = gr.HTML(elem_id="arena-trial")
    fight = named(partial(duel, settings, serving, supervisor), "duel")
    outputs = [*boxes, *votes, reveal, back, state]
    once = {"concurrency_id": "gen", "concurrency_limit": serving.base.at_once, **PRIVATE}
    prompt.submit(fight, [prompt, state], outputs, **once).success(None, None, None, js=LEAVE)
    surprise.click(pick, None, prompt, queue=False, **PRIVATE).then(fight, [prompt, state], outputs, **once)
    for button, value in zip(votes, VOTES.values(), strict=True):
        handler = named(partial(vote, settings, value), "vote")
        button.click(handler, state, [*votes, reveal, back, tried, state], concurrency_limit=None, **PRIVATE)
    undone = named(partial(undo, settings), "undo_vote")
    back.click(undone, state, [reveal, back, tried, state], concurrency_limit=None, **PRIVATE)
    return {"outputs": [tried], "fill": partial(trial.panel, settings)}


def pick() -> str:
    return choice(packs.prompts("general", "train"))


def buttons(on: bool) -> list:
    return [gr.Button(interactive=on)] * len(VOTES)


def duel(settings: Settings, serving: Serving, supervisor: Supervisor, question: str, state: dict):
    if state.get("duelling"):
        raise refused("The duel before this one is still being written")
    me, stop = paced(settings, state, "messages"), Event()
    state["duelling"] = True
    try:
        with supervisor.places.waited_for(), supervisor.yielding():
            for left, right in frames(arena.duel(settings, serving, me, question or "", stop)):
                state.update(duel=None, voted=None)  # only now: until here the page showed the former duel
                yield left.text or "…", right.text or "…", *buttons(False), "", gr.Button(visible=False), gr.skip()
        state["duel"] = (left.completion_id, right.completion_id)
        texts = left.text or "…", right.text or "…"
        yield *texts, *buttons(True), tell("Which is better?"), gr.Button(visible=False), state
    except REFUSED as error:
        raise refusal(error) from error
    finally:
        state["duelling"] = False
        stop.set()


def vote(settings: Settings, value: str, state: dict):
    """One vote per pair: from then on its names are known, so it cannot be voted on again, not even after an undo; and
    what it is as evidence in a trial it stays (storage/trials.py)."""
    me, pair = paced(settings, state, "votes"), state.pop("duel", None)
    if not pair:
        raise refused("No duel to vote on: type a prompt first")
    try:
        collect.choose(settings.db, me, *pair, choice=value)
    except REFUSED as error:
        state["duel"] = pair
        raise refusal(error) from error
    state["voted"] = pair
    left, right = arena.names(settings.db, *pair, person=me)
    text = tell(
        "You voted **{value}**. Left was **{left}**, right was **{right}**.", value=tell(value), left=left, right=right
    )
    told = f"{text}\n\n{table(settings)}"
    return *buttons(False), told, gr.Button(visible=True), trial.panel(settings), state


def undo(settings: Settings, state: dict):
    me, pair = person(state), state.pop("voted", None)
    if not pair:
        raise refused("No vote to take back")
    for id in pair:
        collect.undo(settings.db, me, "choice", id)
    said = tell("Taken back: nothing is learned from this vote. Start another duel.")
    return said, gr.Button(visible=False), trial.panel(settings), state


def table(settings: Settings) -> str:
    rows = [
        f"| {s.name} | {s.score:+.2f} | {s.low:+.2f} to {s.high:+.2f} | {s.n} |" for s in arena.standings(settings.db)
    ]
    if not rows:
        return tell(NO_STANDINGS)
    return "\n".join([tell("| version | Bradley-Terry score | 95 % interval | duels |"), "|---|---|---|---|", *rows])
