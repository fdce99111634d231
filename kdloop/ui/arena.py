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
from kdloop.ui import comparison, transcript, trial, verdicts
from kdloop.ui.learning import NO_STANDINGS, span
from kdloop.ui.replies import frames
from kdloop.ui.session import PRIVATE, REFUSED, named, paced, person, refusal, refused
from kdloop.ui.words import t, tell

ABOUT = (
    "Two versions of the student answer the same prompt. Say which answer is better; who wrote which is told after "
    "your vote. Arrow keys vote too."
)
ALONE = "There is one version of the student yet: it answers twice. Say which answer is better. Arrow keys vote too."
TWO = "Two versions: which answer is better?"
ONE = "One version answered twice: which answer is better?"
WRITING = "Both are being written…"


def build(settings: Settings, serving: Serving, supervisor: Supervisor, state: gr.State) -> dict:
    about = gr.Markdown(t(ABOUT), elem_classes="kd-head")
    with gr.Row(elem_classes="kd-ask"):
        prompt = gr.Textbox(
            label=t("Prompt"), max_length=MAX_CHARACTERS, scale=4, submit_btn=t("Duel"), elem_id="duel-prompt"
        )
        surprise = gr.Button(t("Surprise me"), scale=0, min_width=140, size="sm")
    duelling = comparison.build("duel", comparison.VOTES, "Next duel")
    table = gr.Markdown(elem_id="duel-table")
    tried = gr.HTML(elem_id="arena-trial")
    fight = named(partial(duel, settings, serving, supervisor), "duel")
    outputs = [*duelling.outputs, table, state]
    once = {"concurrency_id": "gen", "concurrency_limit": serving.base.at_once, **PRIVATE}
    prompt.submit(fight, [prompt, state], outputs, **once)
    picked = gr.on([surprise.click, duelling.next.click], pick, None, prompt, queue=False, **PRIVATE)
    picked.then(fight, [prompt, state], outputs, **once)

    def on_vote(state: dict, event: gr.EventData):
        return vote(settings, duelling.choice(event), state)

    told = [*duelling.outputs, table, tried, state]
    gr.on(duelling.vote_events, named(on_vote, "vote"), state, told, concurrency_limit=None, **PRIVATE)
    undone = named(partial(undo, settings), "undo_vote")
    duelling.undo.click(undone, state, told, concurrency_limit=None, **PRIVATE)
    return {"outputs": [about, tried], "fill": partial(fill, settings)}


def fill(settings: Settings):
    """When the tab opens."""
    return tell(ABOUT if len(arena.opponents(settings.db)) > 1 else ALONE), trial.panel(settings)


def pick() -> str:
    return choice(packs.prompts("general", "train"))


def duel(settings: Settings, serving: Serving, supervisor: Supervisor, question: str, state: dict):
    if state.get("duelling"):
        raise refused("The duel before this one is still being written")
    me, stop = paced(settings, state, "messages"), Event()
    state["duelling"] = True
    try:
        with supervisor.places.waited_for(), supervisor.yielding():
            for left, right in frames(arena.duel(settings, serving, me, question or "", stop)):
                state.update(duel=None, voted=None)  # only now: until here the page showed the former duel
                yield *comparison.shown(left.text, right.text, tell(WRITING), False), "", gr.skip()
        state["duel"] = (left.completion_id, right.completion_id)
        asked = tell(ONE if left.checkpoint.id == right.checkpoint.id else TWO)
        asked += f"\n\n{transcript.disclaimers(settings, left.checkpoint, right.checkpoint)}"
        yield *comparison.shown(left.text, right.text, asked, True), "", state
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
    first, second = map(verdicts.in_words, arena.names(settings.db, *pair, person=me))
    said = next(label for label, choice in comparison.VOTES.items() if choice == value)
    told = tell(
        "You voted: **{vote}**. The first was **{first}**, the second was **{second}**.",
        vote=tell(said), first=first, second=second,
    )  # fmt: skip
    return *comparison.voted(told), table(settings), trial.panel(settings), state


def undo(settings: Settings, state: dict):
    me, pair = person(state), state.pop("voted", None)
    if not pair:
        raise refused("No vote to take back")
    for id in pair:
        collect.undo(settings.db, me, "choice", id)
    said = tell("Taken back: nothing is learned from this vote. Start another duel.")
    return *comparison.taken_back(said), "", trial.panel(settings), state


def table(settings: Settings) -> str:
    rows = [
        f"| {verdicts.in_words(s.name)} | {s.score:+.2f} | {span(f'{s.low:+.2f}', f'{s.high:+.2f}')} | {s.n} |"
        for s in arena.standings(settings.db)
    ]
    if not rows:
        return tell(NO_STANDINGS)
    return "\n".join([tell("| version | Bradley-Terry score | 95 % interval | duels |"), "|---|---|---|---|", *rows])
