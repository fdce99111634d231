"""Skill and domain packs as data. A pack is a directory; nothing in it is code.

pack.toml      about; rubric, principles and topics; checks for every completion; a generator ([source]); [harm] weights
train.jsonl    prompts for rounds, and for the votes of `simulate`
gate.jsonl     prompts of the gate, beside those of the templates in pack.toml's [fresh]; never trained on
heldout.jsonl  prompts for measurements: `simulate` and `measure` compare with the base on them

A line is {"prompt": ...} and, for verifiable prompts, "answer" and "checks" (raters/verifiers.py). A pack with a
[source] has no files: its prompts are generated, and a hash of each prompt assigns it to a part. May import storage
alone.
"""

import hashlib
import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from storage import files, json_lines
from storage.conversations import Message, as_prompt

PACKS = Path(__file__).parent
PARTS = ("train", "gate", "heldout")
CUMULATIVE_SHARES = (0.6, 0.75, 1.0)  # of PARTS in a generated pack


@dataclass(frozen=True)
class Task:
    """A prompt with its reference answer and checks. `before` is the conversation that precedes a follow-up
    question."""

    prompt: str
    answer: str = ""
    checks: tuple[dict, ...] = ()
    before: tuple[Message, ...] = ()

    @property
    def messages(self) -> list[Message]:
        return [*self.before, *as_prompt(self.prompt)]

    @property
    def verifiable(self) -> bool:
        return bool(self.checks)


@dataclass(frozen=True)
class Pack:
    """`checks` apply to every prompt, beside the prompt's own. `max_tokens` is for completions of its prompts; None is
    the setting's.
    """

    name: str
    about: str = ""
    rubric: str = ""
    principles: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    checks: tuple[dict, ...] = ()
    max_tokens: int | None = None
    harm: dict | None = None  # weights of raters/harm.py
    source: dict | None = None
    fresh: dict | None = None  # templates and subjects of further gate prompts (`gate_pool`)


def names() -> list[str]:
    return sorted(path.parent.name for path in PACKS.glob("*/pack.toml"))


@lru_cache
def load(name: str) -> Pack:
    """Raises ValueError for an unknown pack, with the names of all."""
    if name not in names():
        raise ValueError(f"No pack {name!r}; there are {', '.join(names())}")
    values = tomllib.loads(files.read_text(PACKS / name / "pack.toml"))
    return Pack(name, **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@lru_cache
def tasks(name: str, part: str) -> tuple[Task, ...]:
    """The tasks of one part, the same in every process. Raises ValueError for an unknown part."""
    pack = load(name)
    if part not in PARTS:
        raise ValueError(f"No part {part!r}; there are {', '.join(PARTS)}")
    if pack.source:
        from kdloop.packs.generated import generate

        return tuple(t for t in generate(pack) if part_of(split_key(pack, t.prompt)) == part)
    path = PACKS / name / f"{part}.jsonl"
    rows = json_lines.read(path) if path.exists() else ()
    return tuple(Task(r["prompt"], r.get("answer", ""), (*pack.checks, *r.get("checks", ()))) for r in rows)


def prompts(name: str, part: str) -> list[str]:
    return [t.prompt for t in tasks(name, part)]


@lru_cache
def gate_pool(name: str) -> tuple[str, ...]:
    """What the gate draws from, anew in each round: gate.jsonl, and each of the pack's templates with each subject, so
    that few prompts are asked twice."""
    fresh = load(name).fresh or {"templates": (), "subjects": ()}
    written = [t.format(subject) for t in fresh["templates"] for subject in fresh["subjects"]]
    return (*prompts(name, "gate"), *written)


def split_key(pack: Pack, prompt: str) -> str:
    """The text of a generated prompt that its part is a hash of: all, or the match of the pattern `decides`.

    The terms of a sum are sorted, or b + a would leak what is held out as a + b.
    """
    if "decides" not in pack.source:
        return normal(prompt)
    return " + ".join(sorted(re.search(pack.source["decides"], prompt)[0].split(" + ")))


def part_of(text: str) -> str:
    """One of PARTS, by a stable hash."""
    digest = hashlib.sha256(f"kdloop part {text}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return next(part for part, end in zip(PARTS, CUMULATIVE_SHARES, strict=True) if share < end)


def normal(prompt: str) -> str:
    """The prompt without case and spacing, to compare it with held-out ones."""
    return " ".join(prompt.lower().split())


@lru_cache
def held_out(*packs: str) -> frozenset[str]:
    """The normalised gate and held-out prompts of these packs: no round on them may train on one."""
    asked = [*(t.prompt for name in packs for t in tasks(name, "heldout")), *(q for n in packs for q in gate_pool(n))]
    return frozenset(map(normal, asked))
