"""Real completions of the student for `bench gate` and `camps`: sampled once, kept in a file, and read by every row.

Rows that train nothing model a candidate by them: it says the same things as the champion, with other probabilities.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kdloop import packs
from kdloop.knowledge.self_knowledge import SPREAD
from kdloop.settings import Settings
from kdloop.student import Engine, Sample, Sampling
from kdloop.student.base import find_student
from kdloop.student.transformers import TransformersEngine, device_and_dtype
from storage import json_lines
from storage.conversations import Message, as_prompt

PROMPTS, SAMPLES, TOKENS = 256, 4, 96  # of the gate's pool, completions of each, tokens at most
AT_ONCE = 16  # prompts, between two writes


@dataclass(frozen=True)
class Pool:
    """`questions[i]` has the completions `groups[i]`, two or more of them. Arrays (n,) are of all completions, one
    group after the other."""

    questions: list[str]
    groups: list[list[Sample]]

    @cached_property
    def prompts(self) -> list[list[Message]]:
        return [as_prompt(q) for q in self.questions]

    @cached_property
    def samples(self) -> list[Sample]:
        return [s for group in self.groups for s in group]

    @cached_property
    def parts(self) -> list[slice]:
        """Each group's part of an array."""
        ends = np.cumsum([len(group) for group in self.groups]).tolist()
        return [slice(end - len(group), end) for end, group in zip(ends, self.groups, strict=True)]

    @cached_property
    def asked(self) -> list[str]:
        """(n,) each completion's question."""
        return [q for q, group in zip(self.questions, self.groups, strict=True) for _ in group]

    def rated(self, rate: Callable[[str, str], float]) -> np.ndarray:
        """(n,) rate(question, completion)."""
        return np.array([rate(q, s.text) for q, s in zip(self.asked, self.samples, strict=True)], float)

    def within(self, values: np.ndarray) -> np.ndarray:
        """(n,) less their group's mean, in standard deviations of that difference."""
        centred = np.concatenate([values[part] - values[part].mean() for part in self.parts])
        return centred / (centred.std() or 1.0)

    def tilted(self, scores: np.ndarray, tilt: float) -> np.ndarray:
        """(n,) probabilities within each group, proportional to exp(tilt * score): what a policy says that was trained
        towards the score under a KL penalty."""
        weights = np.exp(tilt * scores)
        return np.concatenate([weights[part] / weights[part].sum() for part in self.parts])


def read(path: Path) -> Pool:
    rows = list(json_lines.read(path)) if path.exists() else []
    return Pool([r["question"] for r in rows], [[Sample(**s) for s in r["samples"]] for r in rows])


def sampled(path: Path, engine: Callable[[], Engine], n: int = PROMPTS) -> Pool:
    """The pool in this file; where there is none, or it has fewer than `n` prompts by this function, they are sampled
    and added a few at a time."""
    pool = packs.gate_pool("general")
    questions, known = list(pool[:: max(1, len(pool) // max(1, n))][:n]), set(read(path).questions)
    missing = [q for q in questions if q not in known]
    path.parent.mkdir(parents=True, exist_ok=True)
    student = engine() if missing else None
    for at in range(0, len(missing), AT_ONCE):
        asked = [q for q in missing[at : at + AT_ONCE] for _ in range(SAMPLES)]
        seeds = [22_000_003 + SAMPLES * questions.index(q) + i % SAMPLES for i, q in enumerate(asked)]
        found = student.complete([as_prompt(q) for q in asked], Sampling(TOKENS, temperature=SPREAD), seeds)
        groups = [(asked[i], found[i : i + SAMPLES]) for i in range(0, len(asked), SAMPLES)]
        rows = [json_lines.dump({"question": q, "samples": [asdict(s) for s in group]}) for q, group in groups]
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{row}\n" for row in rows))
        print(f"{at + len(rows)} of {len(missing)} prompts sampled", flush=True)
    return read(path)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pool", type=Path, help="of real completions; sampled into the home where none is given")
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="of the pool, at least")


def asked_for(args: argparse.Namespace, settings: Settings) -> Pool:
    """By `options`; sampled in the dtype of rounds."""

    def student() -> TransformersEngine:
        return TransformersEngine(find_student(settings.student, settings.home), dtype=device_and_dtype()[1])

    return sampled(args.pool or settings.home / "bench" / "gate_pool.jsonl", student, args.prompts)
