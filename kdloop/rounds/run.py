"""One round: elicit -> select -> train -> gate -> promote, or put on trial | reject. Runs in the trainer's own process.

Read `run` first; its phases are below it, in training.py and in gating.py. What a round needs is put together once
(setup.py) and handed down.
"""

from collections import Counter
from functools import partial
from pathlib import Path

from kdloop.feedback.examples import Example, Split, from_feedback, trusted
from kdloop.gate.spending import Turn
from kdloop.gate.trial import announced
from kdloop.gate.verdict import CannotDecide, Verdict
from kdloop.knowledge import elicit
from kdloop.knowledge.rows import Refused
from kdloop.methods import NothingToLearn, choose
from kdloop.methods.self_training.self_teaching import caution
from kdloop.raters.preference_model import people_said, proven
from kdloop.rounds import replays, several, shorter
from kdloop.rounds.gating import judged, judged_today
from kdloop.rounds.progress import Clock
from kdloop.rounds.selection import from_base, is_adopted, readable, relevant, replay, select, too_long
from kdloop.rounds.setup import Setup, Students, load_students, put_together, turn_of, untrained_student
from kdloop.rounds.training import Lesson, train
from kdloop.settings import Settings, current
from kdloop.student.journal import Journal
from storage import checkpoints, rounds
from storage.checkpoints import Checkpoint
from storage.rounds import Round


def run(settings: Settings, round: Round, journal: Journal | None = None) -> None:
    """Carry a round to its end: its candidate promoted or rejected, or the round refused without one.

    Raises what goes wrong; the trainer process records it. With a `journal` it goes on where the part before has
    stopped, and raises OutOfTime when the time of this part is up.
    """
    journal = journal or Journal()
    with untrained_student(settings, journal) as student:
        through_phases(settings, round, load_students(settings, round.origin_id or round.base_id, student), journal)


def through_phases(settings: Settings, round: Round, students: Students, journal: Journal) -> None:
    db, clock = settings.db, Clock(settings.db, round.id, journal)
    tokenizer, context = students.base.engine.tokenizer, settings.context_tokens

    with clock.phase("eliciting"):
        among = rounds.rows_read(db, round.replays) if round.replays else None
        split = journal.once("votes", lambda: readable(from_feedback(db, round.id, among=among), tokenizer, context))
        rounds.note_read(db, round.id, split.read)
        try:
            setup = put_together(settings, round, students, split, clock)
            elicited = journal.once("elicited", lambda: elicit_anew(setup, journal))
            rows = partial(from_feedback, db, round.id, setup.recipe.pack, among=split.read)
            split = journal.once("split", lambda: readable(rows(), tokenizer, context, known=split))
            lesson = journal.once("lesson", lambda: choose_lesson(setup, split, elicited))
        except (NothingToLearn, CannotDecide, Refused) as refusal:
            tested = turn_of(settings, round, students) if getattr(refusal, "tested", False) else None
            return refuse(db, round, split, f"{refusal}{too_long(split, context)}", gate=tested)
    record_rows(db, round, lesson.examples, split)

    with clock.phase("training", method=lesson.method, why=lesson.why, counts=lesson.counts):
        try:
            candidate, metrics = journal.once("candidate", lambda: train(setup, lesson, clock, journal))
        except NothingToLearn as refusal:  # a method that samples for itself knows only now what it has
            return refuse(db, round, split, str(refusal), "training")

    if round.replays and not replays.is_last(db, round):
        told = {"verdict": not_judged(replays.NOT_GATED), "metrics": metrics, "seconds": clock.seconds}
        return checkpoints.reject(db, candidate.id, round.id, **told)
    with clock.phase("gating", metrics=metrics):
        try:
            judging = judged_today(setup, clock) if round.replays else (setup, split)
            found = judged(*judging, lesson, candidate, clock, journal)
        except (NothingToLearn, CannotDecide) as refusal:
            told = {"verdict": not_judged(replays.told(round, f"Not gated: {refusal}", False))}
            return checkpoints.reject(db, candidate.id, round.id, **told, seconds=clock.seconds)
    end(settings, round, *found, clock)


def end(
    settings: Settings, round: Round, candidate: Checkpoint, verdict: Verdict, given_up: list[Verdict], clock: Clock
) -> None:
    mode = current(settings).promotion
    reason = announced(verdict.reason, mode) if verdict.passed else verdict.reason
    reason = replays.told(round, shorter.in_words(reason, given_up), verdict.passed)
    told = {"verdict": verdict.as_dict() | {"reason": reason} | shorter.told(given_up), "seconds": clock.seconds}
    if given_up:
        told["metrics"] = candidate.metrics
    if verdict.passed:
        checkpoints.promote(settings.db, candidate.id, round.id, mode, **told)
    else:
        checkpoints.reject(settings.db, candidate.id, round.id, **told)


def elicit_anew(setup: Setup, journal: Journal) -> dict[str, int]:
    """Rows written, by source. What a part before wrote, and did not come to the end of, is written again."""
    if journal.folder:
        rounds.forget_rows(setup.settings.db, setup.round.id)
    return elicit(setup.context, setup.tasks, setup.recipe.knowledge)


def choose_lesson(setup: Setup, split: Split, elicited: dict[str, int]) -> Lesson:
    """What was elicited, people's votes, and a share of what the champion has learned before, for the method that they
    fit. Raises NothingToLearn where they are too few."""
    recipe, seed, champion = setup.recipe, setup.round.seed, setup.students.champion
    train = trusted(relevant(split.train, recipe, setup.tasks), setup.reliability)
    method, why = choose(setup.method, train, split.dropped["contradictory"])
    chosen = select(method, train, recipe, seed, champion.engine, setup.context.teachers)
    adopted = is_adopted(setup.settings.db, champion.checkpoint)
    at_base = from_base(recipe, len(people_said(split)), setup.line, adopted)
    all_again = at_base and recipe.start == "auto"  # then `chosen` holds all votes that were ever learned from
    repeats = setup.round.replays is not None
    replayed = [] if all_again else replay(setup.settings.db, setup.line, method, chosen, recipe, seed, repeats)
    examples = [*chosen, *trusted(replayed, setup.reliability)]
    if proven(setup.rater):
        why += f". People seem to like {', '.join(setup.rater.strongest())}"
    return Lesson(
        method,
        why
        + too_long(split, setup.settings.context_tokens)
        + caution(method, champion.engine.tokenizer)
        + several.in_words(setup.settings, method),
        examples,
        at_base,
        counts(split, examples, elicited) | {"replayed": len(replayed)},
    )


def refuse(db: Path, round: Round, split: Split, reason: str, at: str = "eliciting", gate: Turn | None = None) -> None:
    """End the round without a candidate: what there is cannot be learned from, or could not be judged; by a test that
    counts as the `gate`, where there is one."""
    verdict = not_judged(f"Rejected before training: {reason}") | ({"gate": gate.as_dict()} if gate else {})
    record_rows(db, round, split.train, split)
    rounds.advance(db, round.id, at, verdict=verdict, counts=counts(split, [], {}))
    rounds.finish_round(db, round.id, "rejected")


def not_judged(reason: str) -> dict:
    return {"passed": False, "reason": reason, "n": 0, "guards": {}}


def record_rows(db: Path, round: Round, examples: list[Example], split: Split) -> None:
    """Which feedback rows the round read, the outvoted ones too: the lineage of whatever it trains."""
    rows = [[id for e in part for id in (*e.rows, *e.outvoted)] for part in (examples, split.held_out)]
    rounds.use_feedback(db, round.id, *rows)


def counts(split: Split, examples: list[Example], elicited: dict[str, int]) -> dict:
    """The round's `counts`: examples trained on and held out, feedback left out by reason, rows written by source."""
    sources, held_out = Counter(e.source for e in examples), len(split.held_out)
    return {
        "train": len(examples),
        "ai": len(examples) - sources["human"] - sources["import"],
        "imported": sources["import"],
        "held_out": held_out,
        "dropped": dict(split.dropped),
        "elicited": elicited,
    }
