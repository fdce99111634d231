"""Feedback: the teacher judges, criticises or improves what the student said.

    D = { (x, y, phi(x, y; T)) | x ~ X, y ~ p_S(y | x) }                     survey Eq. 7

Scores and rankings are a judge's, and refused until it is shown to agree with people; a revision is the teacher's text,
preferred to the student's, and its row keeps the critique and the principle that led to it.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from kdloop.knowledge.labeling import REFUSALS, ask, in_template, teaching, unusable
from kdloop.knowledge.rows import Refused, SourceContext
from kdloop.knowledge.self_knowledge import SPREAD, by_check, checkable
from kdloop.packs import Task
from kdloop.raters import judge as judging
from kdloop.raters import verifiers
from kdloop.raters.judge import ASPECTS, Judge
from kdloop.raters.teacher import by_teacher
from storage.conversations import Draft

GAP = 1.0  # mean points of 1 to 5 between chosen and rejected
CRITIQUE = """{question}

An answer to this was:
{completion}

Criticise the answer in one or two sentences, by this principle only: {principle}"""
REVISE = """{question}

An answer to this was:
{completion}

What is wrong with it: {critique}

Write a better answer. Give the answer alone."""
REFINE = """{question}

An attempt was:
{completion}

It fails: {critique}

Correct the attempt with as few changes as you can. Give the corrected text alone."""


def trusted(context: SourceContext) -> Judge:
    """The judge, if what it says may be trained on. Raises Refused, saying why not."""
    teaching(context)
    if not context.judge.teacher.may_teach:
        raise Refused(f"The terms of {context.judge.teacher.name} forbid training on its verdicts")
    if why := judging.refusal(context.db, context.judge):
        raise Refused(why)
    return context.judge


def compare(context: SourceContext, tasks: Sequence[Task]) -> int:
    """Two samples of the student a prompt; the judge's choice, the same in both orders, makes a pair."""
    judge = trusted(context)
    groups = [
        g for g in zip(tasks, context.ask(tasks, 2, "compare", temperature=SPREAD), strict=True) if distinct(g[1])
    ]
    verdicts = judge.compare([(t.messages, a.text, b.text) for t, (a, b) in groups])
    rows = 0
    for (task, (a, b)), verdict in zip(groups, verdicts, strict=True):
        if verdict and verdict.side != "tie":
            sides = (a, b) if verdict.side == "first" else (b, a)
            context.write(task.messages, *sides, **by(judge), critique=" / ".join(verdict.rationales))
            rows += 1
    return rows


def verdicts(context: SourceContext, tasks: Sequence[Task]) -> int:
    """PandaLM (Wang et al. 2024): the student learns to judge. What the judge said of two samples, with its reason, is
    the completion of what it was asked; one row for each order, where both orders agree.

    Whether such a student may judge is for its own calibration to say, as for every judge.
    """
    judge, rows = trusted(context), 0
    groups = [
        g for g in zip(tasks, context.ask(tasks, 2, "verdicts", temperature=SPREAD), strict=True) if distinct(g[1])
    ]
    asked = [p for t, (a, b) in groups for p in judge.prompts(t.messages, a.text, b.text)]
    answers = judge.ask(asked, judging.PAIR_SCHEMA, 1)
    for i in range(0, len(asked), 2):
        verdict = judging.judged(*answers[i : i + 2], asked=asked[i : i + 2])
        if verdict and verdict.side != "tie":
            for prompt, answer in zip(asked[i : i + 2], answers[i : i + 2], strict=True):
                side, why = judging.parse_pair(answer.text, prompt[-1]["content"])
                text = json.dumps({"rationale": why, "verdict": side}, ensure_ascii=False)  # without fence or prose
                context.write(prompt, replace(by_teacher(answer, origin="verdicts"), text=text), **by(judge))
                rows += 1
    return rows


def scores(context: SourceContext, tasks: Sequence[Task], n: int = 4, gap: float = GAP) -> int:
    """UltraFeedback (Cui et al. 2023): `n` samples, each scored on four aspects; best and worst by their mean make a
    pair where they are at least `gap` points apart. Every score is a row too, with its rationale. Returns the pairs."""
    judge, rows = trusted(context), 0
    for task, group in zip(tasks, context.ask(tasks, n, "scores", temperature=SPREAD), strict=True):
        group = list({s.text: s for s in group if s.text}.values())
        rated = judge.rate(task.messages, [s.text for s in group]) if len(group) > 1 else {}
        if not rated or None in rated.values():
            continue
        turn, ids = context.turn(task.messages, group)
        for aspect, points in rated.items():
            for id, (score, why) in zip(ids, points, strict=True):
                context.say(
                    turn, chosen_id=id, **by(judge, "stars"), score=(score - 1) / 4, aspect=aspect, critique=why
                )
        total = [sum(rated[a][i][0] for a in ASPECTS) / len(ASPECTS) for i in range(len(group))]
        best, worst = total.index(max(total)), total.index(min(total))
        if total[best] - total[worst] >= gap:
            context.say(turn, chosen_id=ids[best], rejected_id=ids[worst], **by(judge))
            rows += 1
    return rows


def revise(context: SourceContext, tasks: Sequence[Task], principles: Sequence[str] = ()) -> int:
    """Constitutional AI (Bai et al. 2022): critique by one of the pack's principles, then a revision that is preferred.

    A revision that changes nothing is dropped. `principles` replaces the pack's.
    """
    principles = principles or context.pack.principles
    if not principles:
        raise Refused(f"The pack {context.pack.name} has no principles to criticise by")
    drafts = [g[0] for g in context.ask(tasks, 1, "drafts")]
    told = [principles[(context.round.seed + i) % len(principles)] for i in range(len(tasks))]
    asked = [
        in_template(t.messages, CRITIQUE, completion=d.text, principle=p)
        for t, d, p in zip(tasks, drafts, told, strict=True)
    ]
    said = [a.text for a in ask(context, asked, temperature=0.0)]
    critiques = ["" if REFUSALS.match(text) else text for text in said]
    return improved(context, tasks, drafts, critiques, REVISE, told)


def refine(context: SourceContext, tasks: Sequence[Task], n: int = 4) -> int:
    """PERsD (Chen et al. 2023): where the student fails the checks, the teacher corrects the student's own attempt,
    given what the checks found; kept if it passes."""
    groups = zip(checkable(tasks), context.ask(tasks, n, "refine", temperature=SPREAD), strict=True)
    failed = [(t, wrong[0]) for t, (right, wrong) in ((t, by_check(t, g)) for t, g in groups) if wrong and not right]
    missed = [t for t, _ in failed]
    said = ["; ".join(f.said for f in verifiers.verify(t, s.text) if f.said) for t, s in failed]
    return improved(context, missed, [s for _, s in failed], said, REFINE) if failed else 0


def improved(
    context: SourceContext,
    tasks: Sequence[Task],
    drafts: list[Draft],
    critiques: list[str],
    template: str,
    principles: Sequence[str] = (),
) -> int:
    """One pair for each draft that the teacher made better: revision preferred to draft, with critique and
    principle."""
    kept = [i for i, (d, c) in enumerate(zip(drafts, critiques, strict=True)) if d.text and c]
    asked = [in_template(tasks[i].messages, template, completion=drafts[i].text, critique=critiques[i]) for i in kept]
    rows = 0
    for i, answer in zip(kept, ask(context, asked, temperature=0.0), strict=True):
        if not answer.ok or unusable(answer.text) or answer.text == drafts[i].text:
            continue
        if tasks[i].verifiable and not verifiers.passed(tasks[i], answer.text):
            continue
        values = {"critique": critiques[i], "reason": principles[i] if principles else ""}
        revision = by_teacher(answer, template="revise" if template is REVISE else "refine")
        context.write(tasks[i].messages, revision, drafts[i], source="teacher", rater=answer.teacher.name, **values)
        rows += 1
    return rows


def by(judge: Judge, channel: str = "ranking") -> dict:
    return {"source": "judge", "rater": judge.name, "channel": channel}


def distinct(group: list[Draft]) -> bool:
    return len({s.text for s in group if s.text}) == len(group)
