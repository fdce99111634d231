"""Self-knowledge by construction: contrast prompts, self-play, self-judgement, self-extension, debate.

No source here needs a teacher or a verifier. Rows have the source `student`; their rater names the construction.
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
MIN_READABLE = 0.8  # of its own verdicts; as for a judge
POINTS = """Review the user's question and the response, and give 0 to 5 points, one for each that is true:
- it is relevant; - it answers a good part of the question; - it answers the whole question usefully;
- it is clear and well organised; - it is excellent, with nothing to improve.

User: {question}
Response: {completion}

Conclude with the line "Score: <points>"."""
SCORE = re.compile(r"\bscore\s*[:=]?\s*\**\s*([0-5])(?:\s*/\s*5)?(?!\.?\d|\s*/)", re.IGNORECASE)
LONGER = "Rewrite this text so that it is about twice as long. Keep its meaning, and add details.\n\n{text}"
MIN_LENGTH_GAIN = 1.2  # words of the extended text over the draft's; it is asked for twice the length
LOOP_NGRAM = 13  # words; a repeated n-gram of this length is a loop, not a phrase
ARGUE = "\n\nOther people answered:\n{others}\n\nTake these into account, and give your own final answer."


def rlcd(context: SourceContext, tasks: Sequence[Task], good: str = GOOD, bad: str = BAD) -> int:
    """RLCD (Yang et al. 2023): samples of a prompt with a positive and with a negative affix make a pair, unjudged."""
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
    """SPIN (Chen et al. 2024): completions that people wrote or liked are chosen, the writers' samples of the same
    prompts rejected. The writers are the champion and the base.

    Raises Refused if people have neither liked nor written anything.
    """
    targets = [e for e in context.examples if e.chosen is not None]
    if not targets:
        raise Refused("spin needs completions that people liked, chose or wrote")
    rows = 0
    groups = context.draw([e.prompt for e in targets], len(context.writers), "spin", temperature=temperature)
    for target, group in zip(targets, groups, strict=True):
        for own in group:
            if own.text and own.text != target.chosen.text:
                context.write(target.prompt, as_draft(target.chosen), own, **by("self-play"))
                rows += 1
    return rows


def self_rewarding(context: SourceContext, tasks: Sequence[Task], n: int = 4) -> int:
    """Self-Rewarding (Yuan et al. 2024): the student scores its own samples with 0 to 5 points; best and worst make a
    pair.

    Raises Refused if too few of its verdicts can be parsed, as is usual for a very small student.
    """
    groups = context.ask(tasks, n, "self-rewarding", temperature=SPREAD)
    requests = [
        as_prompt(POINTS.format(question=t.prompt, completion=s.text))
        for t, g in zip(tasks, groups, strict=True)
        for s in g
    ]
    scores = [points(s.text) for (s,) in context.draw(requests, 1, "points", temperature=0.0)]
    read = sum(p is not None for p in scores)
    if read < MIN_READABLE * len(scores):
        raise Refused(f"The student cannot judge itself: {read} of {len(scores)} of its verdicts could be read")
    rows = 0
    for i, (task, group) in enumerate(zip(tasks, groups, strict=True)):
        scored = sorted(
            ((p, at) for at, p in enumerate(scores[i * n : i * n + n]) if p is not None and group[at].text),
            reverse=True,
        )
        if scored and scored[0][0] > scored[-1][0]:
            best, worst = group[scored[0][1]], group[scored[-1][1]]
            context.write(task.prompt, best, worst, score=0.5 + (scored[0][0] - scored[-1][0]) / 10, **by("own points"))
            rows += 1
    return rows


def points(text: str) -> int | None:
    """The points of a verdict; None unless it holds exactly one score."""
    found = {int(p) for p in SCORE.findall(thoughts.split(text)[1])}
    return found.pop() if len(found) == 1 else None


def self_lengthen(context: SourceContext, tasks: Sequence[Task], least: int = 40, most: int = 80) -> int:
    """Self-Lengthen (Quan et al. 2024): the student extends the first half of its draft, then all of it from there.

    Kept if it has 1.2 times the draft's words, ends with a sentence and does not loop. The stored prompt asks for the
    length that the text has, `least` to `most` words.
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
    return len(after.split()) > MIN_LENGTH_GAIN * len(before.split()) and ends_sentence(after) and not loops(after)


def loops(text: str, n: int = LOOP_NGRAM) -> bool:
    """Whether some word n-gram occurs twice."""
    words = text.lower().split()
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(set(grams)) < len(grams)


def debate(context: SourceContext, tasks: Sequence[Task], agents: int = 3, keep: float = 0.5) -> int:
    """Multiagent debate (Subramaniam et al. 2025): `agents` answer, read each other's answers, and answer again; the
    consensus is the majority of the second answers. First answers that agree with it are liked. Second answers are
    liked under the prompt with the others' answers if they changed to the consensus, or kept it (with probability
    `keep`).

    The paper trains an adapter per agent; here the agents are one student with different seeds.
    """
    first = context.ask(tasks, agents, "debate", temperature=1.0)
    rebuttals = [as_prompt(argued(t, group, i)) for t, group in zip(tasks, first, strict=True) for i in range(agents)]
    second = [s for (s,) in context.draw(rebuttals, 1, "debate again", temperature=1.0)]
    rows, coin = 0, random.Random(context.round.seed)
    for i, (task, opening) in enumerate(zip(tasks, first, strict=True)):
        closing = second[i * agents : (i + 1) * agents]
        for prompt, kept in debated(task, opening, closing, rebuttals[i * agents : (i + 1) * agents], coin, keep):
            context.write(prompt, kept, **by("debate"))
            rows += 1
    return rows


def argued(task: Task, group: list[Draft], own: int) -> str:
    others = [f"- {s.text}" for at, s in enumerate(group) if at != own]
    return task.prompt + ARGUE.format(others="\n".join(others))


def debated(task: Task, opening: list[Draft], closing: list[Draft], prompts: list, coin: random.Random, keep: float):
    """(prompt, completion) of each row of one debate; none without a consensus."""
    agreed, _ = vote(closing, 0.5)
    if not agreed:
        return []
    consensus = answer_in(agreed[0].text)
    rows = [(as_prompt(task.prompt), s) for s in opening if answer_in(s.text) == consensus]
    for before, after, prompt in zip(opening, closing, prompts, strict=True):
        changed = answer_in(before.text) != consensus
        if answer_in(after.text) == consensus and (changed or coin.random() < keep):
            rows.append((prompt, after))
    return rows


def by(construction: str) -> dict:
    return {"source": "student", "rater": construction}


def as_draft(k) -> Draft:
    """A stored completion as a draft of another row."""
    columns = {"name": k.name, "licence": k.licence, "restricted": k.restricted}
    columns |= {"checkpoint_id": k.checkpoint_id, "thought": k.thought}
    return Draft(k.text, k.status, k.author, columns)
