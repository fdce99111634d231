"""Selective reflection: the teacher improves an answer, and the student's IFD selects a version.

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
    """The teacher answers and rewrites its answer; both are stored, and the one that `pick` picks is liked.

    An unchanged rewriting, or two versions that do not fit the prompt, leave no row.
    """
    first = ask(context, [t.messages for t in tasks])
    fit = [i for i, a in enumerate(first) if a.ok and not unusable(a.text)]
    requests = [in_template(tasks[i].messages, REFLECT, completion=first[i].text) for i in fit]
    student, rows = context.writers[0][0], 0
    for i, second in zip(fit, ask(context, requests) if requests else [], strict=True):
        if not second.ok or unusable(second.text) or second.text == first[i].text:
            continue
        terms = first[i].teacher.restricted  # the second version is derived from the first
        versions = [by_teacher(a, terms, origin="reflect", version=v) for v, a in enumerate((first[i], second))]
        ratios = difficulty(student, tasks[i].messages, versions)
        if (picked := pick(*ratios)) is None:
            continue
        for version, ratio in zip(versions, ratios, strict=True):
            version.columns["sampling"]["ifd"] = ratio
        turn, ids = context.turn(tasks[i].messages, versions)
        context.say(turn, source="teacher", rater=second.teacher.name, chosen_id=ids[picked])
        rows += 1
    return rows


def difficulty(student: Engine, prompt: list[Message], versions: Sequence[Draft]) -> list[float]:
    """The student's IFD of each version, to four places, as stored."""
    completions = [v.said for v in versions]
    logprobs = (student.logprobs([p] * len(completions), completions) for p in (prompt, as_prompt("")))
    nll = [[-float(np.mean(row)) for row in rows] for rows in logprobs]
    return [round(float(ifd(with_prompt, without)), 4) for with_prompt, without in zip(*nll, strict=True)]


def pick(original: float, rewritten: float) -> int | None:
    """0 or 1: the version with the higher IFD below 1, from which there is more to learn; the original if they are
    equal. None if both are 1 or above: such a completion does not belong to its prompt."""
    candidates = [at for at, ratio in enumerate((original, rewritten)) if ratio < 1]
    return max(candidates, key=(original, rewritten).__getitem__, default=None)
