"""The Teach tab: the pairs that most need a person's judgement, one at a time.

The queue holds what AI raters chose in earlier rounds, refused candidates' completions beside the champion's among
them: first what another person disputes, then the least sure. Which of the two the AI preferred is told after the vote,
so that it does not lead.
"""

from collections.abc import Mapping
from functools import partial
from secrets import randbelow

import gradio as gr

from kdloop.feedback import collect
from kdloop.raters import active
from kdloop.settings import Settings, current
from kdloop.ui import comparison, transcript
from kdloop.ui.session import IN_ORDER, PRIVATE, REFUSED, named, paced, person, refusal, refused
from kdloop.ui.words import t, tell
from storage import checkpoints, conversations, feedback, trials
from storage.feedback import AIChoice

EMPTY = (
    "Nothing to check yet. After the first round, the pairs that the AI rater was least sure of wait here. Until then: "
    "compare two answers in the [Arena](?tab=arena), or rate them in the [Chat](?tab=chat)."
)
ON_TRIAL = "One of the two is by a version on trial: your choice counts in what becomes of it."
DISPUTED = "Somebody disagrees with the AI rater here."
SURE_TODAY = "By all votes so far, the AI rater is {sure:.0%} sure here."
CHOSEN = {"left": "the first", "right": "the second"}
BETTER = "Neither? Write a better answer (key E; Shift+Enter saves)"
VOTES = {label: choice for label, choice in comparison.VOTES.items() if choice != "both bad"} | {"Skip": "skip"}


def build(settings: Settings, state: gr.State) -> dict:
    status = gr.Markdown(t(EMPTY), elem_id="teach")
    question = gr.Textbox(label=t("Prompt"), interactive=False, visible=False, max_lines=3)
    lesson = comparison.build("lesson", VOTES)
    with gr.Column(visible=False) as correction:
        better = gr.Textbox(label=t(BETTER), lines=2, max_length=collect.MAX_CHARACTERS, elem_id="teach-better")
        save = gr.Button(t("Save the better answer"), size="sm")
    back = gr.Button(t("Undo the last vote"), size="sm", visible=False)
    shown = gr.Textbox(visible="hidden")  # the pair's id: a second key may come before the page has the next pair
    outputs = [status, question, *lesson.outputs, correction, better, back, shown, state]
    how = {"concurrency_id": "teach", **IN_ORDER}

    def on_vote(shown: str, state: dict, event: gr.EventData):
        return vote(settings, lesson.choice(event), shown, state)

    gr.on(lesson.vote_events, named(on_vote, "teach"), [shown, state], outputs, **how)
    correct = named(partial(fix, settings), "fix")
    gr.on([save.click, better.submit], correct, [better, shown, state], outputs, **how)
    back.click(named(partial(undo, settings), "undo_teach"), state, outputs, concurrency_limit=None, **PRIVATE)
    return {"inputs": state, "outputs": outputs, "fill": partial(fill, settings)}


def fill(settings: Settings, state: dict, result: str = ""):
    """Show the pair most worth checking that this person has neither checked nor skipped."""
    skipped = state.get("skipped", ())
    latest = active.latest(settings.db)
    queue = [a for a in collect.lessons(settings.db, person(state), latest) if a.id not in skipped]
    back, state["teach"] = gr.Button(visible=bool(state.get("taught"))), None
    if not queue:
        text = "\n\n".join(filter(None, [result, tell(EMPTY)]))
        nothing = gr.Textbox("", visible=False), *comparison.hidden(), gr.Column(visible=False)
        return text, *nothing, "", back, "", state
    pair, flipped = queue[0], bool(randbelow(2))
    left, right = (pair.rejected, pair.chosen) if flipped else (pair.chosen, pair.rejected)
    on_trial = {pair.chosen_id, pair.rejected_id} in trials.waiting_pairs(settings.db)
    status = [result, f"{tell('Pairs that wait: {n}.', n=len(queue))} {worth(settings)}"]
    state["teach"] = pair.id, flipped
    said = "\n\n".join(filter(None, status))
    about = tell(ON_TRIAL) if on_trial else doubt(pair, latest)
    both = comparison.shown(left, right, f"{about}\n\n{disclaimers(settings, pair)}", True)
    return said, gr.Textbox(pair.question, visible=True), *both, gr.Column(visible=True), "", back, pair.id, state


def disclaimers(settings: Settings, pair: AIChoice) -> str:
    """HTML: what belongs beside the completions of the versions that wrote these two."""
    wrote = {conversations.completion(settings.db, id).checkpoint_id for id in (pair.chosen_id, pair.rejected_id)}
    return transcript.disclaimers(settings, *(k for k in checkpoints.lineage(settings.db) if k.id in wrote))


def doubt(pair: AIChoice, latest: Mapping[str, float]) -> str:
    """Why this pair waits: by what orders the queue, today's preference model, where it has read the pair."""
    if pair.disputed:
        return tell(DISPUTED)
    today = latest.get(pair.id)
    sure = pair.probability if today is None else max(today, 1 - today)
    return tell("The AI rater was {sure:.0%} sure here." if today is None else SURE_TODAY, sure=sure)


def worth(settings: Settings) -> str:
    """What a vote given now counts for."""
    total, new = feedback.count_votes(settings.db)
    at = current(settings).round_votes
    if not at:
        return tell("Your vote would be number {n} that the next round learns from.", n=total + 1)
    return tell("Your vote would be number {n} of the {of} that start the next round.", n=new + 1, of=at)


def vote(settings: Settings, value: str, shown: str, state: dict):
    id, flipped = pending(shown, state)
    if value == "skip":
        skip(state, id)
        return fill(settings, state)
    ai_side = "right" if flipped else "left"
    choice = value if value == "tie" else "left" if value == ai_side else "right"
    try:
        state["taught"] = collect.review(settings.db, paced(settings, state, "votes"), id, choice), id
    except REFUSED as error:
        raise refusal(error) from error
    return fill(settings, state, tell("Saved. The AI rater had chosen: {side}", side=tell(CHOSEN[ai_side])))


def fix(settings: Settings, better: str, shown: str, state: dict):
    id, _ = pending(shown, state)
    try:
        state["taught"] = collect.fix(settings.db, paced(settings, state, "votes"), id, better), None
    except REFUSED as error:
        raise refusal(error) from error
    return fill(settings, state, tell("Saved: the student will learn from your answer."))


def undo(settings: Settings, state: dict):
    """A vote was answered with the AI rater's choice: its pair does not come again in this session."""
    row, revealed = state.pop("taught", None) or (None, None)
    if not feedback.take_back(settings.db, person(state), row):
        raise refused("No vote to take back")
    if revealed:
        skip(state, revealed)
    return fill(settings, state, tell("Taken back: nothing is learned from this vote."))


def skip(state: dict, id: str) -> None:
    state["skipped"] = (*state.get("skipped", ()), id)


def pending(shown: str, state: dict) -> tuple[str, bool]:
    """(its id, are its sides flipped) of the pair that the page showed when this vote was given."""
    if not state or not state.get("teach"):
        raise refused("Open this tab again: no pair is shown")
    if state["teach"][0] != shown:
        raise refused("This pair has its vote: wait for the next one")
    return state["teach"]
