"""Feedback knowledge: the teacher judges, criticises or improves the student's completions.

    D = { (x, y, phi(x, y; T)) | x ~ X, y ~ p_S(y | x) }                     survey Eq. 7

Scores and preferences come from a judge, and are refused until it is shown to agree with people. A revision is the
teacher's text, preferred to the student's; its row keeps the critique and the principle behind it.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from kdloop.knowledge.labeling import REFUSALS, allowed_teachers, ask, in_template, unusable
from kdloop.knowledge.rows import Refused, SourceContext
from kdloop.knowledge.self_knowledge import SPREAD, by_check, checkable
from kdloop.packs import Task
from kdloop.raters import judge as judging
from kdloop.raters import verifiers
from kdloop.raters.judge import ASPECTS, Judge
from kdloop.raters.teacher import by_teacher
from storage.conversations import Draft

MIN_SCORE_GAP = 1.0  # points of the 1 to 5 scale: a smaller one is within what two orders differ by
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
    """The judge, if its verdicts may be trained on. Raises Refused with the reason if not."""
    allowed_teachers(context)
    if not context.judge.teacher.may_teach:
        raise Refused(f"The terms of {context.judge.teacher.name} forbid training on its verdicts")
    if why := judging.refusal(context.db, context.judge):
        raise Refused(why)
    return context.judge


def compare(context: SourceContext, tasks: Sequence[Task]) -> int:
    """RLAIF (Bai et al. 2022): two samples per prompt; the judge's choice makes a pair where both orders agree."""
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
    """PandaLM (Wang et al. 2024): the student learns to judge. The judge's prompt about two samples is the prompt, its
    rationale and verdict the completion; one row per order, where both orders agree.

    Like every judge, such a student is trusted only after a calibration of its own.
    """
    judge, rows = trusted(context), 0
    groups = [
        g for g in zip(tasks, context.ask(tasks, 2, "verdicts", temperature=SPREAD), strict=True) if distinct(g[1])
    ]
    for both in judge.ask_pairs([(t.messages, a.text, b.text) for t, (a, b) in groups]):
        if both.comparison and both.comparison.side != "tie":
            for call in (both.forward, both.backward):
                letter = "A" if call.verdict.side == "first" else "B"
                verdict = {"rationale": call.verdict.rationale, "verdict": letter}
                text = json.dumps(verdict, ensure_ascii=False)  # without fence or prose
                context.write(call.prompt, replace(by_teacher(call.answer, origin="verdicts"), text=text), **by(judge))
                rows += 1
    return rows


def scores(context: SourceContext, tasks: Sequence[Task], n: int = 4, gap: float = MIN_SCORE_GAP) -> int:
    """UltraFeedback (Cui et al. 2023): `n` samples scored on four aspects; best and worst by the mean score make a pair
    if they are at least `gap` points apart. Each score is stored too, with its rationale. Returns the number of
    pairs."""
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
    """Constitutional AI (Bai et al. 2022): a critique by one of the principles, then a revision that is preferred.

    An unchanged revision is dropped. `principles` replace the pack's. Raises Refused if there are none.
    """
    principles = principles or context.pack.principles
    if not principles:
        raise Refused(f"The pack {context.pack.name} has no principles to criticise by")
    drafts = [g[0] for g in context.ask(tasks, 1, "drafts")]
    assigned = [principles[(context.round.seed + i) % len(principles)] for i in range(len(tasks))]
    requests = [
        in_template(t.messages, CRITIQUE, completion=d.text, principle=p)
        for t, d, p in zip(tasks, drafts, assigned, strict=True)
    ]
    answers = [a.text for a in ask(context, requests, temperature=0.0)]
    critiques = ["" if REFUSALS.match(text) else text for text in answers]
    return improved(context, tasks, drafts, critiques, REVISE, assigned)


def refine(context: SourceContext, tasks: Sequence[Task], n: int = 4) -> int:
    """PERsD (Chen et al. 2023): where all samples fail the checks, the teacher corrects one of them, given the
    findings; kept if the correction passes."""
    groups = zip(checkable(tasks), context.ask(tasks, n, "refine", temperature=SPREAD), strict=True)
    failed = [(t, wrong[0]) for t, (right, wrong) in ((t, by_check(t, g)) for t, g in groups) if wrong and not right]
    unsolved = [t for t, _ in failed]
    findings = ["; ".join(f.reason for f in verifiers.verify(t, s.text) if f.reason) for t, s in failed]
    return improved(context, unsolved, [s for _, s in failed], findings, REFINE) if failed else 0


def improved(
    context: SourceContext,
    tasks: Sequence[Task],
    drafts: list[Draft],
    critiques: list[str],
    template: str,
    principles: Sequence[str] = (),
) -> int:
    """A pair for each draft that the teacher improved: revision over draft, with critique and principle; rows
    written."""
    kept = [i for i, (d, c) in enumerate(zip(drafts, critiques, strict=True)) if d.text and c]
    requests = [
        in_template(tasks[i].messages, template, completion=drafts[i].text, critique=critiques[i]) for i in kept
    ]
    rows = 0
    for i, answer in zip(kept, ask(context, requests, temperature=0.0), strict=True):
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
