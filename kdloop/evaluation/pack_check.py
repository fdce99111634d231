"""Is a pack sound? Leaks between its parts, duplicates, what is missing, and checks that can be passed without a skill.

A leak is a held-out prompt that training sees: the same text, the same words in other case or punctuation, or by
MiniLM's cosine a near one whose answer, checks and numbers are the same (12 + 7 and 12 + 8 are two tasks). Words that
most prompts of the pack share do not count: they are its template.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from kdloop import packs
from kdloop.evaluation import pack_findings as says
from kdloop.evaluation.pack_findings import Found
from kdloop.evaluation.pack_install import problems
from kdloop.packs import PARTS, Task
from kdloop.raters import verifiers

NEAR = 0.9  # cosine, as DEITA's filter (Liu et al. 2024)
MOST = 4000  # prompts of a part that are embedded, or asked the tricks: more take minutes
ASKED = 300
SANDBOXED = 10  # of tasks whose checks run code
TEMPLATE_SHARE = 0.5  # a word in more of the prompts is the template's
HELD_OUT = 30  # fewer held-out prompts measure nothing
UNRELATED = "I am not quite sure about that, but I will gladly try to help you with it."
ALLOWED = {"nothing at all": 0.0, "the prompt again": 0.01, "an unrelated sentence": 0.05, "the majority answer": 0.55}


@dataclass(frozen=True)
class Report:
    """`passed` has, by part and kind of completion, the share of the tasks with checks that it passes."""

    pack: str
    sizes: dict[str, int]
    found: list[Found]
    passed: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        return not any(f.fails for f in self.found)


def check(name: str, embed: Callable[[list[str]], np.ndarray] | None) -> Report:
    """All of it; near prompts only with `embed`, texts -> (n, d) unit vectors. Raises ValueError for no such pack."""
    folder = packs.place(name).folder
    if wrong := problems(folder):
        places = (f"{p.file}:{p.line}" if p.line else p.file for p in wrong)
        found = [Found(at, says.MISTAKE, says.CORRECT, vars(p)) for at, p in zip(places, wrong, strict=True)]
        return Report(name, {}, found)
    parts = {part: packs.tasks(name, part) for part in PARTS}
    found = [*missing(name, parts), *same(parts), *(near(parts, embed) if embed else not_looked())]
    passed = {part: tricks(tasks) for part, tasks in parts.items() if any(t.verifiable for t in tasks)}
    found += chain.from_iterable(weak(part, parts[part], shares) for part, shares in passed.items())
    return Report(name, {part: len(tasks) for part, tasks in parts.items()}, found, passed)


def missing(name: str, parts: dict[str, Sequence[Task]]) -> Iterator[Found]:
    pack = packs.load(name)
    for text, what, do in (
        (pack.licence, says.NO_LICENCE, says.SAY_LICENCE),
        (pack.origin, says.NO_ORIGIN, says.SAY_ORIGIN),
        (pack.about, says.NO_ABOUT, says.SAY_ABOUT),
    ):
        if not text.strip():
            yield Found("pack.toml", what, do)
    if not parts["train"]:
        yield Found("train.jsonl", says.NO_TRAIN, says.MOVE_SOME, fails=False)
    if (n := len(parts["heldout"])) < HELD_OUT:
        yield Found("heldout.jsonl", says.FEW, says.ADD, {"n": n, "least": HELD_OUT}, fails=False)


def same(parts: dict[str, Sequence[Task]]) -> Iterator[Found]:
    """The same prompt twice: by its text, or by its words alone."""
    seen: dict[str, tuple[str, str]] = {}
    for part in reversed(PARTS):
        for task in parts[part]:
            words = packs.words_of(task.prompt)
            if words not in seen:
                seen[words] = part, task.prompt
                continue
            first, prompt = seen[words]
            values, equal = {"prompt": short(task.prompt), "other": short(prompt)}, prompt == task.prompt
            if first == part:
                what = says.TWICE if equal else says.TWICE_IN_WORDS
                yield Found(f"{part}.jsonl", what, says.REMOVE_ONE, values)
            else:
                what = says.LEAK if equal else says.LEAK_IN_WORDS
                yield Found(f"{part}.jsonl", what, says.REMOVE, values | {"part": first, "here": part})


def not_looked() -> list[Found]:
    return [Found("", says.NOT_LOOKED, says.LOOK, fails=False)]


def near(parts: dict[str, Sequence[Task]], embed: Callable[[list[str]], np.ndarray]) -> Iterator[Found]:
    """Training prompts that are nearly a gate or held-out one."""
    common = template_words([t.prompt for tasks in parts.values() for t in tasks])
    train = parts["train"][:MOST]
    vectors = embed([without(t.prompt, common) for t in train]) if train else None
    for part in PARTS[1:]:
        tasks = parts[part][:MOST]
        if not tasks or vectors is None:
            continue
        alike = vectors @ embed([without(t.prompt, common) for t in tasks]).T
        for i, j in zip(*np.nonzero(alike > NEAR), strict=True):
            if one_task(train[i], tasks[j]):
                values = {"prompt": short(train[i].prompt), "other": short(tasks[j].prompt), "part": part}
                values["cosine"] = f"{alike[i, j]:.2f}"
                yield Found("train.jsonl", says.NEARLY, says.REMOVE_EITHER, values)


def one_task(a: Task, b: Task) -> bool:
    """Whether two near prompts ask for the same; equal words are `same`'s."""
    numbers = [sorted(re.findall(r"\w*\d\w*|[-+*/=<>%]", t.prompt)) for t in (a, b)]
    equal = packs.words_of(a.prompt) == packs.words_of(b.prompt)
    return not equal and (a.answer, a.checks) == (b.answer, b.checks) and numbers[0] == numbers[1]


def template_words(prompts: list[str]) -> set[str]:
    """Words of more than half of the prompts; none where there are few."""
    if len(prompts) < 20:
        return set()
    counts = Counter(chain.from_iterable(set(packs.words_of(p).split()) for p in prompts))
    return {word for word, n in counts.items() if n > TEMPLATE_SHARE * len(prompts)}


def without(prompt: str, common: set[str]) -> str:
    kept = [w for w in prompt.split() if not set(packs.words_of(w).split()) <= common]
    return " ".join(kept) or prompt


def tricks(tasks: Sequence[Task]) -> dict[str, float]:
    """Kind of completion -> share of the tasks with checks that it passes. `the reference answer` is asked only of
    those that have one, and is absent where none has."""
    asked = [t for t in tasks if t.verifiable]
    runs_code = any(c["check"] == "python" for t in asked for c in t.checks)
    asked = random.Random(1).sample(asked, min(len(asked), SANDBOXED if runs_code else ASKED))
    answers = Counter(t.answer for t in tasks if t.answer)
    every = ", ".join(answer for answer, _ in answers.most_common(30))
    kinds: dict[str, Callable[[Task], list[str]]] = {
        "nothing at all": lambda t: ["", "\n"],
        "the prompt again": lambda t: [t.prompt, f"{t.prompt}\n{t.prompt}"],
        "an unrelated sentence": lambda t: [UNRELATED],
        "the majority answer": lambda t: [answer for answer, _ in answers.most_common(1)],
        "all options": lambda t: [every, *all_options(t)],
    }
    shares = {kind: share(asked, of) for kind, of in kinds.items()}
    with_answer = [t for t in asked if t.answer]
    return shares | ({"the reference answer": share(with_answer, lambda t: [t.answer])} if with_answer else {})


def share(tasks: Sequence[Task], completions: Callable[[Task], list[str]]) -> float:
    """Of the tasks that at least one of the completions passes."""
    return sum(any(verifiers.passed(t, c) for c in completions(t)) for t in tasks) / len(tasks)


def all_options(task: Task) -> list[str]:
    """Texts that name all that its checks choose between."""
    named = []
    for check in task.checks:
        if options := check.get("options"):
            letters = [chr(ord("A") + i) for i in range(len(options))]
            both = [f"{letter}) {text}" for letter, text in zip(letters, options, strict=True)]
            named += [", ".join(options), ", ".join(letters), f"The answer is {' or '.join(letters)}.", "\n".join(both)]
        if passages := check.get("passages"):
            named.append(" ".join(f"[{i}]" for i in range(1, max(passages) + 3)))
    return named


def weak(part: str, tasks: Sequence[Task], shares: dict[str, float]) -> Iterator[Found]:
    """Checks that nothing or everything passes, or a completion that needs no skill."""
    file, distinct = f"{part}.jsonl", len({t.answer for t in tasks if t.answer})
    for kind, most in (ALLOWED | {"all options": max(0.02, 1.2 / max(distinct, 1) if distinct > 1 else 0.02)}).items():
        if shares[kind] > most and not (kind == "the majority answer" and len(tasks) < 4):
            yield Found(file, *says.TRICKS[kind], {"share": f"{shares[kind]:.0%}"})
    if shares.get("the reference answer", 1) < 1:
        failing = next(t for t in tasks if t.verifiable and t.answer and not verifiers.passed(t, t.answer))
        why = "; ".join(f.reason for f in verifiers.verify(failing, failing.answer) if f.reason)
        values = {"share": f"{1 - shares['the reference answer']:.0%}", "example": f"{short(failing.answer)} ({why})"}
        yield Found(file, says.OWN_FAIL, says.MEND_ANSWER, values)
    elif "the reference answer" not in shares:
        yield Found(file, says.NO_ANSWERS, says.GIVE_ANSWERS, fails=False)


def short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else f"{line[:57]}...")


def table(report: Report) -> str:
    """What a person reads: each thing to do on a line, and what the tricks pass."""
    sizes = ", ".join(f"{part} {n}" for part, n in report.sizes.items())
    lines = [f"{report.pack}: {sizes}" if sizes else f"{report.pack}: its files have mistakes"]
    for part, shares in report.passed.items():
        lines.append(f"  {part}: " + ", ".join(f"{kind} {value:.0%}" for kind, value in shares.items()))
    for f in sorted(report.found, key=lambda f: not f.fails):
        mark = "FAILS" if f.fails else "note "
        lines.append(f"{mark} | {f.where or 'pack'} | {f.said} | {f.to_do}")
    return "\n".join([*lines, "sound" if report.sound else "not sound"])
