"""Skill and domain packs as data. A pack is a directory; nothing in it is code.

pack.toml      about, licence, origin, disclaimer; rubric, principles and topics; checks for every completion; a
               generator ([source]); [harm] weights
train.jsonl    prompts for rounds, and for the votes of `simulate`
gate.jsonl     prompts of the gate, beside those of the templates in pack.toml's [fresh]; never trained on
heldout.jsonl  prompts for measurements: `simulate` and `measure` compare with the base on them
documents/     texts (*.txt) for the knowledge sources that read some

A line is {"prompt": ...} and, for verifiable prompts, "answer" and "checks" (raters/verifiers.py). A pack with a
[source] has no files: its prompts are generated, and a hash of each prompt assigns it to a part.

Packs lie here, and in the home: `HOME/packs/NAME`, where `python -m kdloop pack` makes and installs them. What is
read of one there is read again once its files have changed. May import settings (for the home) and storage.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kdloop.packs import patterns
from kdloop.packs.reading import PARTS, Pack, Task, pack_in, tasks_in
from kdloop.settings import Settings
from storage import ancestry
from storage.checkpoints import Checkpoint

SHIPPED = Path(__file__).parent
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
PUNCTUATION = re.compile(r"[^\w\s+\-−*/=<>%^$€&#@|~]")
CUMULATIVE_SHARES = (0.6, 0.75, 1.0)  # of PARTS in a generated pack


@dataclass(frozen=True)
class Place:
    """Where a pack lies; `version` changes with its files."""

    name: str
    folder: Path
    version: tuple = ()


def installed_in() -> Path:
    """The folder of the home's packs; it may not exist."""
    return Settings.from_environment().home / "packs"


def shipped() -> list[str]:
    return sorted(path.parent.name for path in SHIPPED.glob("*/pack.toml"))


def installed() -> list[str]:
    folders = (path.parent.name for path in installed_in().glob("*/pack.toml"))
    return sorted(name for name in folders if NAME.fullmatch(name) and not (SHIPPED / name / "pack.toml").exists())


def names() -> list[str]:
    return sorted([*shipped(), *installed()])


def place(name: str) -> Place:
    """Raises ValueError for an unknown pack, with the names of all."""
    if NAME.fullmatch(name):
        if (SHIPPED / name / "pack.toml").exists():
            return Place(name, SHIPPED / name)
        if ((folder := installed_in() / name) / "pack.toml").exists():
            paths = [folder / "pack.toml", *(folder / f"{part}.jsonl" for part in PARTS)]
            return Place(
                name, folder, tuple((s.st_mtime_ns, s.st_size) for p in paths if p.exists() for s in [p.stat()])
            )
    raise ValueError(f"No pack {name!r}; there are {', '.join(names())}")


def load(name: str) -> Pack:
    """Raises ValueError for an unknown pack, with the names of all, and for a mistake in its pack.toml."""
    return pack_at(place(name))


@lru_cache(maxsize=256)
def pack_at(place: Place) -> Pack:
    return pack_in(place.name, place.folder)


def tasks(name: str, part: str) -> tuple[Task, ...]:
    """The tasks of one part, the same in every process. Raises ValueError for an unknown part, or a mistake in it."""
    if part not in PARTS:
        raise ValueError(f"No part {part!r}; there are {', '.join(PARTS)}")
    return tasks_at(place(name), part)


@lru_cache(maxsize=256)
def tasks_at(place: Place, part: str) -> tuple[Task, ...]:
    pack = pack_at(place)
    if not pack.source:
        return tasks_in(pack, place.folder, part)
    return generated_at(place)[part]


@lru_cache(maxsize=32)
def generated_at(place: Place) -> dict[str, tuple[Task, ...]]:
    from kdloop.packs.generated import generate

    return generate(pack_at(place))


def checked(name: str) -> bool:
    """Whether all its training prompts have checks: by the pack's own, or each by some of its own."""
    if load(name).checks:
        return True
    found = tasks(name, "train")
    return bool(found) and all(t.verifiable for t in found)


def answered(name: str) -> bool:
    """Whether its training prompts have reference answers, some of them at least; those of reasoning-gym all have, and
    to make them takes seconds."""
    return "dataset" in (load(name).source or {}) or any(t.answer for t in tasks(name, "train"))


def prompts(name: str, part: str) -> list[str]:
    return [t.prompt for t in tasks(name, part)]


def gate_pool(name: str) -> tuple[str, ...]:
    """What the gate draws from, anew in each round: gate.jsonl, and each of the pack's templates with each subject, so
    that few prompts are asked twice."""
    return gate_pool_at(place(name))


@lru_cache(maxsize=64)
def gate_pool_at(place: Place) -> tuple[str, ...]:
    fresh = pack_at(place).fresh or {"templates": (), "subjects": ()}
    written = [t.replace("{}", subject) for t in fresh["templates"] for subject in fresh["subjects"]]
    return (*(t.prompt for t in tasks_at(place, "gate")), *written)


def disclaimers(db: Path, *versions: Checkpoint) -> dict[str, str]:
    """Pack -> what belongs beside every completion of these versions, as their line has learned from it: what the pack
    says now, or, where it says nothing or is removed, what it said when it was learned from."""
    learned: dict[str, str] = {}
    for version in versions:
        for name, text in ancestry.packs_learned(db, version).items():
            learned[name] = disclaimer_now(name) or text or learned.get(name, "")
    return {name: " ".join(text.split()) for name, text in sorted(learned.items()) if text.strip()}


def disclaimer_now(name: str) -> str:
    """ "" for a pack that is removed, or has a mistake."""
    try:
        return load(name).disclaimer
    except ValueError:
        return ""


def split_key(pack: Pack, prompt: str) -> str:
    """The text of a generated prompt that its part is a hash of: all, or the match of the pattern `decides`.

    The terms of a sum are sorted, or b + a would leak what is held out as a + b. Raises ValueError where the pattern
    does not match.
    """
    if "decides" not in pack.source:
        return normal(prompt)
    found = patterns.search(pack.source["decides"], prompt)
    if not found:
        raise ValueError(f"Pack {pack.name}: source.decides finds nothing in {prompt!r}")
    return " + ".join(sorted(found.split(" + ")))


def part_of(text: str) -> str:
    """One of PARTS, by a stable hash."""
    digest = hashlib.sha256(f"kdloop part {text}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return next(part for part, end in zip(PARTS, CUMULATIVE_SHARES, strict=True) if share < end)


def normal(prompt: str) -> str:
    """The prompt without case and spacing, to compare it with held-out ones."""
    return " ".join(prompt.lower().split())


def held_out(*packs: str) -> frozenset[str]:
    """The normalised gate and held-out prompts of these packs, as far as they are still there: no round on them may
    train on one."""
    return held_out_at(tuple(place(name) for name in sorted(set(packs).intersection(names()))))


@lru_cache(maxsize=64)
def held_out_at(places: tuple[Place, ...]) -> frozenset[str]:
    asked = [*(t.prompt for p in places for t in tasks_at(p, "heldout")), *(q for p in places for q in gate_pool_at(p))]
    return frozenset(map(normal, asked))


def words_of(prompt: str) -> str:
    """The prompt without case, spacing and punctuation: what wordings share that differ in nothing else. Signs that
    make another task of it, as + and -, stay."""
    return " ".join(PUNCTUATION.sub(" ", prompt.casefold()).split()) or normal(prompt)
