"""What a recipe's round needs beside the student, and whether it is there: told before anybody starts one.

What only the round can find out is not here: whether people's votes agree so well that a judge can be made of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from kdloop import packs
from kdloop.feedback.readiness import MIN_EXAMPLES, Readiness
from kdloop.gate.verdict import MIN_HELD_OUT_PAIRS
from kdloop.knowledge import JUDGED_SOURCES, TAUGHT_SOURCES
from kdloop.packs.generated import NEEDED
from kdloop.raters import judge, teacher
from kdloop.raters.judge import Judge
from kdloop.raters.preference_model import MIN_JUDGE_VOTES
from kdloop.raters.teacher import Teachers
from kdloop.recipes import Recipe
from kdloop.rounds.tasks import gate_tasks
from kdloop.settings import Settings, current
from storage import follow_ups

TEACHER = "a teacher whose terms allow training"
JUDGE = "a judge that agrees with people"
PACKAGE = "the prompts of its pack"
VOTES = "votes to learn from"
HELD_OUT = "votes to judge by"
FOLLOW_UPS = "messages that follow an answer, of people who allow it"
SET_TEACHERS = "Name a file of teachers in KDLOOP_TEACHERS (docs/teachers.md) and start the app again"
TERMS = "The teachers' terms forbid it: say confirmed = true in their file where you have the right"
RATE_MORE = "Go on chatting and rating: it takes {most} pairs or likes, or {half} likes and {half} dislikes"
LIKE_MORE = "Like some answers, or write better ones"
SWITCH_ON = "An owner allows it on the Admin tab, or by KDLOOP_HINDSIGHT=on"
ALLOW_IT = "People allow it under *Your data* in the sidebar, and go on chatting: {n} of {most} so far"
HOLD_OUT_MORE = "Go on rating: {n} of {votes} votes, or {pairs} of {most} pairs, are kept for judging"


@dataclass(frozen=True)
class Need:
    """`what` is one of the texts above; `do` is what to do where it is not `met`, with its `values`."""

    what: str
    met: bool
    do: str = ""
    values: dict | None = None


def of(settings: Settings, recipe: Recipe | None, known: Readiness) -> list[Need]:
    """All needs of a recipe; None is people's votes. Raises ValueError for a broken file of teachers."""
    return list(found(settings, recipe, known))


def found(settings: Settings, recipe: Recipe | None, known: Readiness) -> Iterator[Need]:
    if recipe is None:
        yield Need(
            VOTES,
            known.enough or settings.method != "auto",
            RATE_MORE,
            {"most": MIN_EXAMPLES, "half": MIN_EXAMPLES // 2},
        )
        yield to_judge_by(known)
        return
    sources, pack = {step["source"] for step in recipe.knowledge}, packs.load(recipe.pack)
    teachers = teacher.load(settings.teachers, settings.db)
    if sources & TAUGHT_SOURCES:
        may = bool(teachers) and any(t.may_teach for t in teachers.all)
        yield Need(TEACHER, may, TERMS if teachers else SET_TEACHERS)
    if sources & JUDGED_SOURCES and teachers:
        why = judge_refused(settings, teachers, pack.rubric)
        yield Need(JUDGE, not why, "{why}", {"why": why})
    generated = bool(pack.source and "dataset" in pack.source)
    there = not generated or find_spec("reasoning_gym") is not None
    if generated:
        yield Need(PACKAGE, there, NEEDED, {"name": pack.name})
    if "spin" in sources:
        yield Need(VOTES, bool(known.pairs + known.likes), LIKE_MORE)
    if "hindsight" in sources:
        yield to_look_back(settings)
    if there and not gate_tasks(recipe.pack):
        yield to_judge_by(known)


def to_look_back(settings: Settings) -> Need:
    n, on = follow_ups.count(settings.db), current(settings).hindsight == "on"
    return Need(FOLLOW_UPS, on and n >= MIN_EXAMPLES, ALLOW_IT if on else SWITCH_ON, {"n": n, "most": MIN_EXAMPLES})


def judge_refused(settings: Settings, teachers: Teachers, rubric: str) -> str:
    first = Judge(teachers, teachers.all[0], rubric)
    if not first.teacher.may_teach:
        return f"The terms of {first.teacher.name} forbid training on its verdicts"
    return judge.refusal(settings.db, first)


def to_judge_by(known: Readiness) -> Need:
    """What a judge may be made of: enough held-out votes, or the pairs among them. Without either, none can be."""
    values = {"n": known.held_out, "votes": MIN_JUDGE_VOTES, "pairs": known.held_out_pairs, "most": MIN_HELD_OUT_PAIRS}
    met = known.held_out >= MIN_JUDGE_VOTES or known.held_out_pairs >= MIN_HELD_OUT_PAIRS
    return Need(HELD_OUT, met, HOLD_OUT_MORE, values)
