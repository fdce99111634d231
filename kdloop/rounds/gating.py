"""The gate of a round: candidate and champion side by side, after a shorter step if need be; what people are asked."""

import random
from dataclasses import replace

from kdloop import packs
from kdloop.feedback.examples import Split, from_feedback
from kdloop.gate import drift
from kdloop.gate.spending import Turn
from kdloop.gate.verdict import Verdict, decide
from kdloop.knowledge.rows import SourceContext
from kdloop.knowledge.self_knowledge import NO_DRIFT_LIMIT, best_of_n
from kdloop.raters.preference_model import proven
from kdloop.rounds import shorter
from kdloop.rounds.progress import Clock
from kdloop.rounds.selection import readable
from kdloop.rounds.setup import Setup, load_students, put_together
from kdloop.rounds.tasks import gate_prompts, learned_tasks
from kdloop.rounds.training import Lesson, shortened
from kdloop.settings import current
from kdloop.student import Engine, Sampling
from kdloop.student.journal import Journal
from storage import checkpoints
from storage.checkpoints import Checkpoint

CONTESTED_PROMPTS = 8  # on which people may compare a refused candidate with the champion: some minutes' reading
TRIAL_PROMPTS = 16  # the same of one on trial, whose comparisons decide: about half of what a trial takes
MIN_PROBABILITY = 0.51  # the rater's, that one of the two is better: at 0.5 they are the same to it


def judged(
    setup: Setup, split: Split, lesson: Lesson, candidate: Checkpoint, clock: Clock, journal: Journal
) -> tuple[Checkpoint, Verdict, list[Verdict]]:
    """(the candidate, its verdict, those of its longer steps), as `until_it_holds`."""

    def judge(candidate: Checkpoint, turn: Turn, times: int) -> Verdict:
        return journal.once(f"verdict-{times}", lambda: gate(replace(setup, turn=turn), split, candidate, clock, times))

    def shorten(candidate: Checkpoint, times: int) -> Checkpoint:
        return journal.once(f"candidate-{times}", lambda: shortened(setup, lesson, candidate, clock, journal))

    return shorter.until_it_holds(candidate, setup.turn, judge, shorten)


def judged_today(setup: Setup, clock: Clock) -> tuple[Setup, Split]:
    """For the gate of a repeated round: the champion of today, and the votes of today, on prompts drawn anew. Raises
    NothingToLearn or CannotDecide where these cannot judge."""
    settings, base = setup.settings, setup.students.base.engine
    round = replace(setup.round, seed=setup.round.id, replays=None, origin_id=None)
    split = readable(from_feedback(settings.db), base.tokenizer, settings.context_tokens)
    students = load_students(settings, round.base_id, base)
    return put_together(settings, round, students, split, clock), split


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
