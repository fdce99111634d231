"""Self-knowledge by construction and by role: the student is contrasted with, judged by, or argues with itself.

No source here needs a teacher or a verifier; rows carry source `student`, and the rater says which construction it was.
"""

import math
import random
import re
from collections.abc import Sequence

from kdloop.knowledge.rows import Refused, SourceContext, with_how
from kdloop.knowledge.self_knowledge import SPREAD, answer_in, vote
from kdloop.packs import Task
from kdloop.raters import thoughts
from kdloop.raters.features import ends_sentence
from storage.conversations import Draft, as_prompt

GOOD = "\n\n(Write a short, clear, friendly and correct answer.)"
BAD = "\n\n(Write a long, vague, unfriendly and wrong answer.)"
MIN_READABLE = 0.8
POINTS = """Review the user's question and the response, and give 0 to 5 points, one for each that is true:
- it is relevant; - it answers a good part of the question; - it answers the whole question usefully;
- it is clear and well organised; - it is excellent, with nothing to improve.

User: {question}
Response: {completion}

Conclude with the line "Score: <points>"."""
SCORE = re.compile(r"\bscore\s*[:=]?\s*\**\s*([0-5])(?:\s*/\s*5)?(?!\.?\d|\s*/)", re.IGNORECASE)
LONGER = "Rewrite this text so that it is about twice as long. Keep its meaning, and add details.\n\n{text}"
GAIN = 1.2  # a longer text must have so many times the words
LOOP = 13  # a repeated n-gram of so many words is a loop
ARGUE = "\n\nOther people answered:\n{others}\n\nTake these into account, and give your own final answer."


def rlcd(context: SourceContext, tasks: Sequence[Task], good: str = GOOD, bad: str = BAD) -> int:
    """RLCD (Yang et al. 2023): the same prompt with a positive and with a negative affix makes a pair; nobody judges
    it."""
    sides = [
        context.draw([as_prompt(t.prompt + affix) for t in tasks], 1, affix, temperature=SPREAD)
        for affix in (good, bad)
    ]
    rows = 0
    for task, (chosen,), (rejected,) in zip(tasks, *sides, strict=True):
        if chosen.text and rejected.text and chosen.text != rejected.text:
            context.write(task.prompt, with_how(chosen, affix=good), with_how(rejected, affix=bad), **by("contrast"))
            rows += 1
    return rows


def spin(context: SourceContext, tasks: Sequence[Task], temperature: float = SPREAD) -> int:
    """SPIN (Chen et al. 2024): people's own or liked completions are chosen, the writers' samples of the same prompts
    are rejected. The writers are the champion and what it came from: iteration t learns from t and t - 1.

    Raises Refused where people have liked or written nothing.
    """
    targets = [e for e in context.examples if e.chosen is not None]
    if not targets:
        raise Refused("spin needs completions that people liked, chose or wrote")
    rows = 0
    drawn = context.draw([e.prompt for e in targets], len(context.writers), "spin", temperature=temperature)
    for target, group in zip(targets, drawn, strict=True):
        for own in group:
            if own.text and own.text != target.chosen.text:
                context.write(target.prompt, as_draft(target.chosen), own, **by("self-play"))
                rows += 1
    return rows


def self_rewarding(context: SourceContext, tasks: Sequence[Task], n: int = 4) -> int:
    """Self-Rewarding (Yuan et al. 2024): the student gives its own samples 0 to 5 points; best and worst make a pair.

    Raises Refused where too few of its verdicts can be read, as is to be expected of a very small student.
    """
    groups = context.ask(tasks, n, "self-rewarding", temperature=SPREAD)
    asked = [
        as_prompt(POINTS.format(question=t.prompt, completion=s.text))
        for t, g in zip(tasks, groups, strict=True)
        for s in g
    ]
    said = [points(s.text) for (s,) in context.draw(asked, 1, "points", temperature=0.0)]
    read = sum(p is not None for p in said)
    if read < MIN_READABLE * len(said):
        raise Refused(f"The student cannot judge itself: {read} of {len(said)} of its verdicts could be read")
    rows = 0
    for i, (task, group) in enumerate(zip(tasks, groups, strict=True)):
        scored = sorted(
            ((p, at) for at, p in enumerate(said[i * n : i * n + n]) if p is not None and group[at].text), reverse=True
        )
        if scored and scored[0][0] > scored[-1][0]:
            best, worst = group[scored[0][1]], group[scored[-1][1]]
            context.write(task.prompt, best, worst, score=0.5 + (scored[0][0] - scored[-1][0]) / 10, **by("own points"))
            rows += 1
    return rows


def points(text: str) -> int | None:
    """The points of a verdict; None where it holds no single score: no number is made up."""
    found = {int(p) for p in SCORE.findall(thoughts.split(text)[1])}
    return found.pop() if len(found) == 1 else None


def self_lengthen(context: SourceContext, tasks: Sequence[Task], least: int = 40, most: int = 80) -> int:
    """Self-Lengthen (Quan et al. 2024): the student extends its own first half, then the whole from there.

    Kept where it has 1.2 times the words, ends a sentence and holds no loop. The prompt asks for the length it got.
    """
    drafts = [g[0] for g in context.ask(tasks, 1, "drafts")]
    halves = [s.text[: math.ceil(len(s.text) / 2)] for s in drafts]
    longer = [g[0].text for g in context.draw([as_prompt(LONGER.format(text=t)) for t in halves], 1, "first half")]
    heads = [" ".join(t.split()[: math.ceil(2 / 3 * len(t.split()))]) for t in longer]
    whole = [LONGER.format(text=d.text) + f"\n\nBegin with: {h}" for d, h in zip(drafts, heads, strict=True)]
    rows = 0
    for task, draft, (s,) in zip(tasks, drafts, context.draw(list(map(as_prompt, whole)), 1, "whole"), strict=True):
        words = len(s.text.split())
        if least <= words <= most and extended(draft.text, s.text):
            context.write(f"{task.prompt} Use about {words} words.", s, draft, **by("self-lengthen"))
            rows += 1
    return rows


def extended(before: str, after: str) -> bool:
    return len(after.split()) > GAIN * len(before.split()) and ends_sentence(after) and not loops(after)


def loops(text: str, n: int = LOOP) -> bool:
    """Some n words in a row occur twice."""
    words = text.lower().split()
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(set(grams)) < len(grams)


def debate(context: SourceContext, tasks: Sequence[Task], agents: int = 3, keep: float = 0.5) -> int:
    """Multiagent debate (Subramaniam et al. 2025): `agents` answer, read each other, and answer again; the consensus is
    the majority of the last answers. First answers that equal it are liked; answers that were wrong and came right, or
    (with probability `keep`) stayed right, are liked under the prompt that holds the others' answers.

    The paper trains an adapter for each agent; here the agents are one student under different seeds.
    """
    first = context.ask(tasks, agents, "debate", temperature=1.0)
    again = [as_prompt(argued(t, group, i)) for t, group in zip(tasks, first, strict=True) for i in range(agents)]
    second = [s for (s,) in context.draw(again, 1, "debate again", temperature=1.0)]
    rows, coin = 0, random.Random(context.round.seed)
    for i, (task, opening) in enumerate(zip(tasks, first, strict=True)):
        closing = second[i * agents : (i + 1) * agents]
        for prompt, kept in debated(task, opening, closing, again[i * agents : (i + 1) * agents], coin, keep):
            context.write(prompt, kept, **by("debate"))
            rows += 1
    return rows


def argued(task: Task, group: list[Draft], own: int) -> str:
    others = [f"- {s.text}" for at, s in enumerate(group) if at != own]
    return task.prompt + ARGUE.format(others="\n".join(others))


def debated(task: Task, opening: list[Draft], closing: list[Draft], prompts: list, coin: random.Random, keep: float):
    """(prompt, completion) of each row that a debate gives; none without a consensus."""
    agreed, _ = vote(closing, 0.5)
    if not agreed:
        return []
    consensus = answer_in(agreed[0].text)
    rows = [(as_prompt(task.prompt), s) for s in opening if answer_in(s.text) == consensus]
    for before, after, prompt in zip(opening, closing, prompts, strict=True):
        came_right = answer_in(before.text) != consensus
        if answer_in(after.text) == consensus and (came_right or coin.random() < keep):
            rows.append((prompt, after))
    return rows


def by(construction: str) -> dict:
    return {"source": "student", "rater": construction}


def as_draft(k) -> Draft:
    """A stored completion, to be recorded again beside another one."""
    columns = {"name": k.name, "licence": k.licence, "restricted": k.restricted, "checkpoint_id": k.checkpoint_id}
    return Draft(k.text, k.status, k.author, columns)
