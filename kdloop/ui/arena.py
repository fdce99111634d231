"""The Arena tab: a blind duel, four votes by button or key, names and score only afterwards."""

from functools import partial
from random import choice
from threading import Event

import gradio as gr

from kdloop import arena, chat, collect, packs
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.supervisor import Supervisor
from kdloop.ui.chat import frames
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
  document.addEventListener("keydown", e => {
    if (["INPUT", "TEXTAREA"].includes(document.activeElement.tagName)) return;
    if (document.activeElement.getAttribute("role") === "tab") return;
    const buttons = ["vote", "teach"].map(tab => document.getElementById(`${tab}-${names[e.key]}`));
    const button = buttons.find(b => b && b.offsetParent && !b.disabled);
    if (button) { e.preventDefault(); button.click(); }
  }); }
"""


def build(settings: Settings, serving: Serving, supervisor: Supervisor, state: gr.State) -> None:
    gr.Markdown(t(ABOUT), elem_classes="kd-head")
    with gr.Row(equal_height=True):
        prompt = gr.Textbox(label=t("Prompt"), max_length=chat.MAX_CHARACTERS, scale=4, submit_btn=t("Duel"))
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
    fight = named(partial(duel, settings, serving, supervisor), "duel")
    outputs = [*boxes, *votes, reveal, back, state]
    once = {"concurrency_id": "gen", "concurrency_limit": serving.base.at_once, **PRIVATE}
    prompt.submit(fight, [prompt, state], outputs, **once)
    surprise.click(pick, None, prompt, queue=False, **PRIVATE).then(fight, [prompt, state], outputs, **once)
    for button, value in zip(votes, VOTES.values(), strict=True):
        handler = named(partial(vote, settings, value), "vote")
        button.click(handler, state, [*votes, reveal, back], concurrency_limit=None, **PRIVATE)
    undone = named(partial(undo, settings), "undo_vote")
    back.click(undone, state, [*votes, reveal, back], concurrency_limit=None, **PRIVATE)


def pick() -> str:
    return choice(packs.prompts("general", "train"))


def buttons(on: bool) -> list:
    return [gr.Button(interactive=on)] * len(VOTES)


def duel(settings: Settings, serving: Serving, supervisor: Supervisor, question: str, state: dict):
    me, stop = paced(state, "messages"), Event()
    try:
        with supervisor.yielding():
            for left, right in frames(arena.duel(settings, serving, me, question or "", stop)):
                yield left.text or "…", right.text or "…", *buttons(False), "", gr.Button(visible=False), state
        state = {**state, "duel": (left.completion_id, right.completion_id)}
        yield (
            left.text or "…",
            right.text or "…",
            *buttons(True),
            tell("Which is better?"),
            gr.Button(visible=False),
            state,
        )
    except REFUSED as error:
        raise refusal(error) from error
    finally:
        stop.set()


def vote(settings: Settings, value: str, state: dict):
    pair = pending(state)
    try:
        collect.choose(settings.db, paced(state, "votes"), *pair, value)
    except REFUSED as error:
        raise refusal(error) from error
    left, right = arena.names(settings.db, *pair, person(state))
    told = tell(
        "You voted **{value}**. Left was **{left}**, right was **{right}**.", value=tell(value), left=left, right=right
    )
    return *buttons(False), f"{told}\n\n{table(settings)}", gr.Button(visible=True)


def undo(settings: Settings, state: dict):
    for id in pending(state):
        collect.undo(settings.db, person(state), "choice", id)
    return *buttons(True), tell("Taken back. Which is better?"), gr.Button(visible=False)


def pending(state: dict) -> tuple[str, str]:
    if not state.get("duel"):
        raise refused("No duel to vote on: type a prompt first")
    return state["duel"]


def table(settings: Settings) -> str:
    rows = [
        f"| {s.name} | {s.score:+.2f} | {s.low:+.2f} to {s.high:+.2f} | {s.n} |" for s in arena.standings(settings.db)
    ]
    if not rows:
        return tell("Standings appear when two different versions have met.")
    return "\n".join([tell("| version | Bradley-Terry score | 95 % interval | duels |"), "|---|---|---|---|", *rows])
