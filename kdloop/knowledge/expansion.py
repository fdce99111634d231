"""Expansion: the teacher writes new prompts from known ones, and answers them.

    D = { (x, y) | x ~ p_T(x | I + c), y ~ p_T(y | I + x) }                  survey Eq. 4

A new prompt is dropped if it is close, by ROUGE-L, to a known or a held-out one.
"""

import random
import re
from collections.abc import Iterable, Sequence

from kdloop import packs
from kdloop.knowledge.feedback import trusted
from kdloop.knowledge.labeling import allowed_teachers, ask, prompts_restricted, request_in, unusable, yes_or_no
from kdloop.knowledge.rows import SourceContext
from kdloop.packs import Task
from kdloop.raters.judge import Judge
from kdloop.raters.teacher import by_teacher
from storage.conversations import as_prompt

MAX_ROUGE_L = 0.7  # F-measure to any known prompt (Wang et al. 2023)
HUMAN_DEMONSTRATIONS, MACHINE_DEMONSTRATIONS = 6, 2  # as in the paper
BLOCKED = re.compile(r"\b(images?|graphs?|pictures?|files?|maps?|draw|plot|go to|video|audio)\b", re.IGNORECASE)
MIN_PROMPT_WORDS, MAX_PROMPT_WORDS = 4, 150  # the filter of Self-Instruct's code
MORE = """Here are some requests that people sent to an assistant. Write 8 more, different from these and from each
other, of many kinds, each on a line of its own with its number.

{shown}
{next}."""
OPERATORS = {  # Evol-Instruct (Xu et al. 2023), in our words
    "constraint": "Add one more constraint or requirement to it.",
    "deepen": "Make it ask about the same thing in more depth.",
    "concretize": "Replace general ideas in it by more specific ones.",
    "reasoning": "Change it so that answering it needs one more step of reasoning.",
    "breadth": "Write a new request of the same field that is rarer, and of about the same length.",
}
EVOLVE = "Rewrite this request. {how} Use at most 20 more words. Give the new request alone.\n\n{prompt}"
SAME_GAIN = (
    "Do these two requests ask for the same, with nothing more in the second? Say yes or no.\n\n1. {a}\n\n2. {b}"
)
HARD = "Write one new request of the same field as this one, but rarer and harder. Give it alone.\n\n{prompt}"
EASY = "Write one new request of the same kind as this one, and as easy. Give it alone.\n\n{prompt}"


def self_instruct(context: SourceContext, tasks: Sequence[Task], n: int = 20, calls: int = 0) -> int:
    """Self-Instruct (Wang et al. 2023): 6 known and 2 new prompts as demonstrations for 8 more, which are filtered and
    answered; `n` new prompts from at most `calls` calls (0: n / 4)."""
    known, new = [t.prompt for t in tasks], []
    novelty, draw = NoveltyFilter([*known, *held_out(context)]), random.Random(context.round.seed)
    for _ in range(calls or -(-n // 4)):
        if len(new) >= n:
            break
        (answer,) = ask(context, [as_prompt(more(demonstrations(known, new, draw)))], temperature=0.7)
        new += [p for p in numbered(answer.text) if not out_of_reach(p) and novelty.admit(p)]
    return answered(context, new[:n], "self_instruct")


def demonstrations(known: list[str], new: list[str], draw: random.Random) -> list[str]:
    machine = draw.sample(new, min(MACHINE_DEMONSTRATIONS, len(new)))
    human = draw.sample(known, min(HUMAN_DEMONSTRATIONS + MACHINE_DEMONSTRATIONS - len(machine), len(known)))
    examples = [*human, *machine]
    draw.shuffle(examples)
    return examples


def more(examples: list[str]) -> str:
    lines = [f"{i}. {' '.join(p.split())}" for i, p in enumerate(examples, 1)]
    return MORE.format(shown="\n".join(lines), next=len(examples) + 1)


def numbered(text: str) -> list[str]:
    """The items of a numbered list. A first line without a number continues the prompt's list, unless it ends in a
    colon. Text after an item and an empty line is a comment on the list."""
    before, *items = re.split(r"^\s*(?:\*\*)?\d+\s*[.)](?:\*\*)?\s*", text, flags=re.MULTILINE)
    items = items if before.rstrip(" \n*`").endswith(":") else [before, *items]
    lines = [" ".join(re.split(r"\n\s*\n|\n?```", item.strip())[0].split()) for item in items]
    return [line for line in lines if line]


def out_of_reach(prompt: str) -> bool:
    """What Self-Instruct filters out: too short or long, not for a text model, programs, odd first characters."""
    words = len(prompt.split())
    odd = not prompt[:1].isascii() or not prompt[:1].isalnum()
    program = prompt.lower().startswith("write a program")
    return not MIN_PROMPT_WORDS <= words <= MAX_PROMPT_WORDS or bool(BLOCKED.search(prompt)) or program or odd


def evolve(context: SourceContext, tasks: Sequence[Task], rounds: int = 1) -> int:
    """Evol-Instruct (Xu et al. 2023): each prompt is rewritten by a random operator, up to 4 times; rewritings without
    a gain, copies of the instruction and unanswerable ones are eliminated."""
    novelty, draw = NoveltyFilter(held_out(context)), random.Random(context.round.seed)
    living, rows = [t.prompt for t in tasks], 0
    for depth in range(min(rounds, 4)):
        how = [draw.choice(list(OPERATORS)) for _ in living]
        requests = [as_prompt(EVOLVE.format(how=OPERATORS[o], prompt=p)) for o, p in zip(how, living, strict=True)]
        new = [request_in(a) for a in ask(context, requests, temperature=0.7)]
        evolved = [(a, b, o) for a, b, o in zip(living, new, how, strict=True) if not eliminated(a, b)]
        checks = [as_prompt(SAME_GAIN.format(a=a, b=b)) for a, b, _ in evolved]
        same = [yes_or_no(a.text) for a in ask(context, checks, temperature=0.0)] if checks else []
        kept = [
            (b, {"operator": o, "parent": a, "depth": depth + 1})
            for (a, b, o), s in zip(evolved, same, strict=True)
            if s is False and novelty.admit(b)  # no gain is certified without a clear "no"
        ]
        rows += answered(context, [p for p, _ in kept], "evolve", [h for _, h in kept])
        living = [p for p, _ in kept] or living
    return rows


def eliminated(before: str, after: str) -> bool:
    """No gain, a copy of the instruction to rewrite, or a refusal instead of a prompt."""
    copied = re.search(r"(given|new|rewritten|#) ?(prompt|request)", after, re.IGNORECASE)
    return unusable(after) or out_of_reach(after) or rouge_l(before, after) > 0.95 or bool(copied)


def hard_and_easy(context: SourceContext, tasks: Sequence[Task], gap: float = 1.0) -> int:
    """Lion (Jiang et al. 2023): a prompt is hard if the judge rates the teacher's answer at least `gap` points above
    the student's. Equal numbers of new hard prompts (same field, rarer) and new easy ones (same kind) are written and
    answered."""
    judge, novelty = trusted(context), NoveltyFilter([*(t.prompt for t in tasks), *held_out(context)])
    students = [g[0].text for g in context.ask(tasks, 1, "imitation")]
    teachers = [a.text for a in ask(context, [as_prompt(t.prompt) for t in tasks], temperature=0.7)]
    gaps = [referee(judge, t.prompt, a, b) for t, a, b in zip(tasks, teachers, students, strict=True)]
    hard = [t.prompt for t, g in zip(tasks, gaps, strict=True) if g is not None and g >= gap]
    easy = [t.prompt for t, g in zip(tasks, gaps, strict=True) if g is not None and g < gap]
    n, written = min(len(hard), len(easy)), []
    for template, parents in ((HARD, hard[:n]), (EASY, easy[:n])):
        answers = ask(context, [as_prompt(template.format(prompt=p)) for p in parents]) if parents else []
        new = [request_in(a) for a in answers]
        written.append([p for p in new if not unusable(p) and not out_of_reach(p) and novelty.admit(p)])
    n = min(map(len, written))
    return answered(context, [p for part in written for p in part[:n]], "hard_and_easy")


def referee(judge: Judge, question: str, teacher: str, student: str) -> float | None:
    """Mean points of the teacher's completion minus the student's, over both orders; None if a rating is unreadable."""
    rated = judge.rate(question, [teacher, student]) if teacher and student else {}
    if not rated or None in rated.values():
        return None
    return sum(a - b for (a, _), (b, _) in rated.values()) / len(rated)


def answered(context: SourceContext, prompts: list[str], origin: str, notes: Sequence[dict] = ()) -> int:
    """The teacher answers new prompts: liked completions that note the prompt's origin and `notes`; rows written."""
    answers = ask(context, [as_prompt(p) for p in prompts]) if prompts else []
    rows, terms = 0, prompts_restricted(context)
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        if answer.ok and not unusable(answer.text):
            draft = by_teacher(answer, terms, origin=origin, **(notes[i] if notes else {}))
            context.write(prompt, draft, source="teacher", rater=answer.teacher.name)
            rows += 1
    return rows


def held_out(context: SourceContext) -> list[str]:
    """The packs' held-out prompts. Raises Refused where no teacher may be used."""
    allowed_teachers(context)
    return sorted(packs.held_out(*{"general", context.pack.name}))


class NoveltyFilter:
    """Admits prompts whose ROUGE-L to all known and admitted ones is at most MAX_ROUGE_L."""

    def __init__(self, known: Iterable[str]):
        self.known = [words(p) for p in known]

    def admit(self, prompt: str) -> bool:
        new = self.is_new(prompt)
        if new:
            self.known.append(words(prompt))
        return new

    def is_new(self, prompt: str) -> bool:
        new = words(prompt)
        return not any(f_measure(new, old) > MAX_ROUGE_L for old in self.known)


def rouge_l(a: str, b: str) -> float:
    """F-measure of the longest common subsequence of words (Lin 2004). The package rouge-score would be a dependency
    for these fifteen lines."""
    return f_measure(words(a), words(b))


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def f_measure(a: list[str], b: list[str]) -> float:
    """2 LCS / (|a| + |b|), by dynamic programming over one row."""
    if not a or not b:
        return 0.0
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, 1):
            row[j], diagonal = (diagonal + 1 if x == y else max(row[j], row[j - 1])), row[j]
    return 2 * row[-1] / (len(a) + len(b))
