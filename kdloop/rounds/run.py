"""One round: elicit -> select -> train -> gate -> promote, or put on trial | reject. Runs in the trainer's own process.

Read `run` first: each phase is a function below it, in their order. What a round needs is put together once (setup.py)
and handed down.
"""

import random
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from kdloop import packs
from kdloop.feedback.examples import Example, Split, from_feedback, trusted
from kdloop.gate import drift
from kdloop.gate.spending import Turn
from kdloop.gate.trial import announced
from kdloop.gate.verdict import CannotDecide, Verdict, decide
from kdloop.knowledge import elicit
from kdloop.knowledge.rows import Refused, SourceContext
from kdloop.knowledge.self_knowledge import NO_DRIFT_LIMIT, best_of_n
from kdloop.methods import IN_PARTS, METHODS, NothingToLearn, choose, step_size
from kdloop.methods.lora import trainable_student
from kdloop.methods.self_training.self_teaching import caution
from kdloop.raters.preference_model import people_said, proven
from kdloop.rounds import replays, several, shorter
from kdloop.rounds.process import IN_ONE_GO
from kdloop.rounds.progress import Clock
from kdloop.rounds.selection import from_base, is_adopted, readable, relevant, replay, select, too_long
from kdloop.rounds.setup import Setup, Students, Version, load_students, put_together, turn_of, untrained_student
from kdloop.rounds.tasks import gate_prompts, learned_tasks
from kdloop.settings import Settings, current
from kdloop.student import Engine, Sampling
from kdloop.student.base import base_name
from kdloop.student.identity import identity, name_base
from kdloop.student.journal import Journal, OutOfTime
from kdloop.student.serving import fingerprint
from storage import checkpoints, rounds
from storage.checkpoints import Checkpoint
from storage.rounds import Round

CHOOSING_STEP_SIZE = "choosing the step size"  # shown on the Rounds tab
MAX_EPOCHS = 3  # however few the examples are that `Recipe.passes` is shared by
CONTESTED_PROMPTS = 8  # on which people may compare a refused candidate with the champion: some minutes' reading
TRIAL_PROMPTS = 16  # the same of one on trial, whose comparisons decide: about half of what a trial takes
MIN_PROBABILITY = 0.51  # the rater's, that one of the two is better: at 0.5 they are the same to it


@dataclass(frozen=True)
class Lesson:
    """What is trained: `method` on `examples`, from the base or the champion on. `why` says so to people; `counts` are
    the round's."""

    method: str
    why: str
    examples: list[Example]
    at_base: bool
    counts: dict

    def origin(self, setup: Setup) -> Version:
        """The version that is trained further."""
        return setup.students.base if self.at_base else setup.students.champion


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


def judged(
    setup: Setup, split: Split, lesson: Lesson, candidate: Checkpoint, clock: Clock, journal: Journal
) -> tuple[Checkpoint, Verdict, list[Verdict]]:
    """(the candidate, its verdict, those of its longer steps), as `until_it_holds`."""

    def judge(candidate: Checkpoint, turn: Turn, times: int) -> Verdict:
        return journal.once(f"verdict-{times}", lambda: gate(replace(setup, turn=turn), split, candidate, clock, times))

    def shorten(candidate: Checkpoint, times: int) -> Checkpoint:
        return journal.once(f"candidate-{times}", lambda: shortened(setup, lesson, candidate, clock, journal))

    return shorter.until_it_holds(candidate, setup.turn, judge, shorten)


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


def judged_today(setup: Setup, clock: Clock) -> tuple[Setup, Split]:
    """For the gate of a repeated round: the champion of today, and the votes of today, on prompts drawn anew. Raises
    NothingToLearn or CannotDecide where these cannot judge."""
    settings, base = setup.settings, setup.students.base.engine
    round = replace(setup.round, seed=setup.round.id, replays=None, origin_id=None)
    split = readable(from_feedback(settings.db), base.tokenizer, settings.context_tokens)
    students = load_students(settings, round.base_id, base)
    return put_together(settings, round, students, split, clock), split


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


def train(setup: Setup, lesson: Lesson, clock: Clock, journal: Journal) -> tuple[Checkpoint, dict]:
    """(the candidate, published; the training's metrics). Raises NothingToLearn."""
    settings, recipe, base = setup.settings, setup.recipe, setup.students.base.engine
    origin = lesson.origin(setup)
    elsewhere = several.processes(settings, lesson.method) > 1
    model = trainable_student(base.source, origin.adapter, base.dtype, setup.round.seed, base.untrained, elsewhere)
    start = journal.once("start", lambda: step_size.parameters(model))  # another device would draw another one
    step_size.place(model, start, start, 0.0)

    def fitted() -> tuple[dict, step_size.Parameters]:
        metrics = fit(setup, lesson, model, step_size.parameters(model), clock, journal)
        return metrics, step_size.parameters(model)

    metrics, end = journal.once("trained", fitted)
    step_size.place(model, start, end, 1.0)
    clock.note(CHOOSING_STEP_SIZE)
    sampled = settings.round_max_tokens, settings.gate_prompts
    metrics |= step_size.settle(model, start, base, origin.engine, *sampled, recipe.strength)
    if disclaimer := packs.load(recipe.pack).disclaimer:
        metrics["disclaimer"] = disclaimer  # it holds for the version also when the pack is removed
    return publish(settings, setup.round, origin.checkpoint, model, base, lesson.method, metrics), metrics


def fit(setup: Setup, lesson: Lesson, model, start: step_size.Parameters, clock: Clock, journal: Journal) -> dict:
    """Train the model, which has the parameters `start`; the metrics. Raises NothingToLearn, and OutOfTime also where
    this part has an end and the method trains in one go."""
    recipe, tokenizer = setup.recipe, setup.students.base.engine.tokenizer
    plan = replace(setup.plan, epochs=min(MAX_EPOCHS, recipe.passes / len(lesson.examples)))
    if journal.folder and lesson.method in IN_PARTS:
        plan = replace(plan, journal=journal)
    elif journal.folder:
        journal.put(IN_ONE_GO, lesson.method)
        if journal.has_end:
            raise OutOfTime(f"{lesson.method} trains in one go, which is left to the round's own process")
    if several.processes(setup.settings, lesson.method) > 1:
        base, adapter = setup.students.base.engine, lesson.origin(setup).adapter
        what = lesson.method, lesson.examples, plan, base.source, adapter
        split = several.sharded()
        dtype = torch.bfloat16 if split else base.dtype  # on the GPUs; this process is on the CPU
        job = several.Job(setup.round.id, *what, dtype, recipe.early_stop, gpus=[], sharded=split)
        return several.train(setup.settings, job, model, start)
    on_step = step_size.DirectionEarlyStopping(model, start, clock.step) if recipe.early_stop else clock.step
    return METHODS[lesson.method].train(model, tokenizer, lesson.examples, plan, on_step)


def publish(
    settings: Settings, round: Round, parent: Checkpoint, model, base: Engine, method: str, metrics: dict
) -> Checkpoint:
    """Write the candidate; `metrics` gets the fingerprint that the serving side will check."""
    student = identity(base.source)

    def save(directory: Path) -> None:
        model.save_pretrained(directory, selected_adapters=["default"])
        name_base(directory, base_name(settings.student, settings.home))
        metrics["fingerprint"] = fingerprint(base.load(directory))

    about = {"method": method, "seed": round.seed, "metrics": metrics, "student": student}
    return checkpoints.publish(settings.db, round.id, save, parent_id=parent.id, **about)


def shortened(setup: Setup, lesson: Lesson, candidate: Checkpoint, clock: Clock, journal: Journal) -> Checkpoint:
    """The candidate with SHORTER of its step, published in its place."""
    clock.note(CHOOSING_STEP_SIZE)
    base, origin = setup.students.base.engine, lesson.origin(setup)
    written = checkpoints.adapter_dir(setup.settings.db, candidate)
    end = step_size.parameters(trainable_student(base.source, written, base.dtype, setup.round.seed, base.untrained))
    model = trainable_student(base.source, origin.adapter, base.dtype, setup.round.seed, base.untrained)
    start = journal.once("start", lambda: step_size.parameters(model))
    step_size.place(model, start, end, shorter.SHORTER)
    metrics = candidate.metrics | {"step scale": candidate.metrics["step scale"] * shorter.SHORTER}
    return publish(setup.settings, setup.round, origin.checkpoint, model, base, lesson.method, metrics)


def gate(setup: Setup, split: Split, candidate: Checkpoint, clock: Clock, times: int = 0) -> Verdict:
    """The candidate, shortened so many `times`, beside the champion on prompts that were held out from its training."""
    settings, students = setup.settings, setup.students
    engine = students.base.engine.load(checkpoints.adapter_dir(settings.db, candidate))
    verdict = decide(
        engine,
        students.champion.engine,
        students.base.engine,
        split,
        gate_prompts(split, settings.gate_prompts, setup.turn.seed),
        setup.rater,
        Sampling(settings.round_max_tokens),
        setup.turn,
        setup.checked,
        learned_tasks(setup.line, setup.recipe),
        clock.step,
    )
    verdict = replace(verdict, drift=drifted(setup, split, engine))
    # last, as it writes: were the time of a part up after it, the next part would judge, and write the pairs, again
    last = times == shorter.MOST or not shorter.can_be_shorter(verdict)
    if last and (not verdict.passed or current(settings).promotion != "judge"):
        ask_people(setup.context, engine, candidate, TRIAL_PROMPTS if verdict.passed else CONTESTED_PROMPTS)
    return verdict


def drifted(setup: Setup, split: Split, candidate: Engine) -> dict:
    """The pairs that people decided first, as judge and candidate see them, beside how they were seen at the last gate
    that a champion passed: {"pairs", "said"}; {} where no preference model can judge."""
    if not proven(setup.rater):
        return {}
    pairs = drift.read(setup.rater, split, candidate)
    earlier = ((r.verdict or {}).get("drift") for r in setup.line[::-1])
    before = next(filter(None, earlier), None)
    if before is None:  # the first: the candidate beside the base
        before = {"pairs": drift.read(setup.rater, split, setup.students.base.engine)}
    return {"pairs": pairs, "said": drift.sentence(pairs, before["pairs"])}


def ask_people(context: SourceContext, engine: Engine, candidate: Checkpoint, n: int = CONTESTED_PROMPTS) -> None:
    """Write pairs for the Teach tab: the candidate beside the champion, on `n` prompts that may be learned from. They
    ask whether the AI's choice is right, so there are none without a proven preference model."""
    if proven(context.rater):
        tasks = random.Random(context.round.seed).sample(packs.tasks("general", "train"), n)
        both = replace(context, writers=((engine, candidate), context.writers[0]))
        best_of_n(both, tasks, n=2, sure=MIN_PROBABILITY, astray=NO_DRIFT_LIMIT)


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
