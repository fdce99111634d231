"""Reflection: the teacher improves an answer, and the student says which version it can learn from.

IFD(y) = PPL_S(y | x) / PPL_S(y)                                  Li et al. 2024 (Selective Reflection-Tuning)
"""

from collections.abc import Sequence

import numpy as np

from kdloop.knowledge.curation import ifd
from kdloop.knowledge.labeling import ask, in_template, unusable
from kdloop.knowledge.rows import SourceContext
from kdloop.packs import Task
from kdloop.raters.teacher import by_teacher
from kdloop.student import Engine
from storage.conversations import Draft, Message, as_prompt

REFLECT = """{question}

An answer to this was:
{completion}

Think about whether it is relevant, correct, complete and clear. Then write a better answer. Give that answer alone."""


def reflect(context: SourceContext, tasks: Sequence[Task]) -> int:
    """The teacher answers and then rewrites its answer; of the two, the one that `pick` picks is liked. Both are kept.

    A rewriting that changes nothing, and items where neither version fits its prompt, leave no row.
    """
    first = ask(context, [t.messages for t in tasks])
    fit = [i for i, a in enumerate(first) if a.ok and not unusable(a.text)]
    asked = [in_template(tasks[i].messages, REFLECT, completion=first[i].text) for i in fit]
    student, rows = context.writers[0][0], 0
    for i, again in zip(fit, ask(context, asked) if asked else [], strict=True):
        if not again.ok or unusable(again.text) or again.text == first[i].text:
            continue
        bound = first[i].teacher.restricted  # the second version was made from the first
        versions = [by_teacher(a, bound, origin="reflect", version=v) for v, a in enumerate((first[i], again))]
        ratios = difficulty(student, tasks[i].messages, versions)
        if (picked := pick(*ratios)) is None:
            continue
        for version, ratio in zip(versions, ratios, strict=True):
            version.columns["sampling"]["ifd"] = ratio
        turn, ids = context.turn(tasks[i].messages, versions)
        context.say(turn, source="teacher", rater=again.teacher.name, chosen_id=ids[picked])
        rows += 1
    return rows


def difficulty(student: Engine, prompt: list[Message], versions: Sequence[Draft]) -> list[float]:
    """Each version's IFD by the student, rounded to what a row keeps."""
    said = [v.said for v in versions]
    nll = [[-float(np.mean(row)) for row in student.logprobs([p] * len(said), said)] for p in (prompt, as_prompt(""))]
    return [round(float(ifd(with_prompt, without)), 4) for with_prompt, without in zip(*nll, strict=True)]


def pick(original: float, rewritten: float) -> int | None:
    """0 or 1, the version of the higher IFD, from which there is more to learn; one of 1 and above does not belong to
    its prompt and is not picked; equal ones leave the original."""
    fitting = [(ratio, -at) for at, ratio in enumerate((original, rewritten)) if ratio < 1]
    return -max(fitting)[1] if fitting else None
