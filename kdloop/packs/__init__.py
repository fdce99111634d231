"""Skill and domain packs as data. A pack is a directory; nothing in it is code.

pack.toml      what it is for; its rubric, principles and topics; checks that hold for every completion; a generator;
               weights of [harm]
train.jsonl    prompts that a round may ask the student, and that `simulate` asks its rater about
gate.jsonl     prompts that the gate asks; never trained on
heldout.jsonl  prompts for measuring alone: `simulate` and `measure` compare with the base on them

A line is {"prompt": ...} and, where a completion can be checked, "answer" and "checks" (raters/verifiers.py). A pack
with a [source] has no files: its prompts are generated, and a hash of each prompt's own text says which part it belongs
to. May import storage alone.
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
SHARES = (0.6, 0.75, 1.0)  # of the hash, where each part of a generated pack ends


@dataclass(frozen=True)
class Task:
    """A prompt, and what can be said of a completion of it without asking anybody.

    `before` is the conversation that it follows: what people ask next is often no question by itself.
    """

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
    """`max_tokens` and `temperature` are how its completions are sampled for a verdict; None and 0 elsewhere.

    `checks` apply to each of its prompts; a prompt may bring its own beside them.
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


def names() -> list[str]:
    return sorted(path.parent.name for path in PACKS.glob("*/pack.toml"))


@lru_cache
def load(name: str) -> Pack:
    """Raises ValueError for an unknown pack, naming those that there are."""
    if name not in names():
        raise ValueError(f"No pack {name!r}; there are {', '.join(names())}")
    values = tomllib.loads(files.read_text(PACKS / name / "pack.toml"))
    return Pack(name, **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@lru_cache
def tasks(name: str, part: str) -> tuple[Task, ...]:
    """The prompts of one part with their checks; the same in every process. Raises ValueError for an unknown part."""
    pack = load(name)
    if part not in PARTS:
        raise ValueError(f"No part {part!r}; there are {', '.join(PARTS)}")
    if pack.source:
        from kdloop.packs.generated import generate

        return tuple(t for t in generate(pack) if part_of(deciding(pack, t.prompt)) == part)
    path = PACKS / name / f"{part}.jsonl"
    rows = json_lines.read(path) if path.exists() else ()
    return tuple(Task(r["prompt"], r.get("answer", ""), (*pack.checks, *r.get("checks", ()))) for r in rows)


def prompts(name: str, part: str) -> list[str]:
    return [t.prompt for t in tasks(name, part)]


def deciding(pack: Pack, prompt: str) -> str:
    """What of a generated prompt says which part it belongs to: all, or what `decides`, a pattern, finds in it.

    The terms of a sum are sorted: who has learned a + b has learned b + a.
    """
    if "decides" not in pack.source:
        return normal(prompt)
    return " + ".join(sorted(re.search(pack.source["decides"], prompt)[0].split(" + ")))


def part_of(text: str) -> str:
    """A part, by a stable hash: what is repeated never changes sides."""
    digest = hashlib.sha256(f"kdloop part {text}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return next(part for part, end in zip(PARTS, SHARES, strict=True) if share < end)


def normal(prompt: str) -> str:
    return " ".join(prompt.lower().split())


@lru_cache
def held_out(*packs: str) -> frozenset[str]:
    """The (normalised) prompts that no round on these packs may train on."""
    parts = [tasks(name, part) for name in packs for part in PARTS[1:]]
    return frozenset(normal(t.prompt) for part in parts for t in part)
