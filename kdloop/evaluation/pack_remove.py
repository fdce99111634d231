"""Packs out of the home. A pack over which another of the same name was installed is kept in `HOME/packs/.before`, and
comes back when that one is removed."""

import os
from pathlib import Path

from kdloop import packs
from kdloop.packs.reading import PARTS, read_part
from kdloop.settings import Settings
from storage import files, rounds

BEFORE = ".before"


def require_unused(name: str) -> None:
    """Raises ValueError while a round reads the pack."""
    db = Settings.from_environment().db
    running = rounds.running_round(db) if db.exists() else None
    if running and running.recipe.get("pack") == name:
        raise ValueError(f"Round {running.id} uses the pack {name!r}: wait for its end, or cancel it first")


def keep(there: Path) -> None:
    kept = there.parent / BEFORE
    kept.mkdir(exist_ok=True)
    numbers = [number for number, _ in earlier(there.name)]
    os.replace(there, kept / f"{there.name}.{max(numbers, default=0) + 1}")


def earlier(name: str) -> list[tuple[int, Path]]:
    """(number, folder) of the packs that lay under this name before, oldest first."""
    found = (packs.installed_in() / BEFORE).glob(f"{name}.*")
    return sorted((int(p.suffix[1:]), p) for p in found if p.suffix[1:].isdigit() and p.stem == name)


def removable(name: str) -> tuple[Path, list[tuple[int, Path]]]:
    """(the folder of an installed pack, those that lay there before). Raises ValueError."""
    if name in packs.shipped():
        raise ValueError(f"{name!r} comes with kdloop: it is not removed")
    require_unused(name)
    there, before = packs.installed_in() / name, earlier(name) if packs.NAME.fullmatch(name) else []
    if name not in packs.installed() and not before:
        raise ValueError(f"No pack {name!r} is installed; there are {', '.join(packs.installed()) or 'none'}")
    return there, before


def what_goes(name: str) -> tuple[int, int, bool]:
    """What `remove` would destroy: (prompts, documents, whether an earlier pack of this name comes back). Raises
    ValueError."""
    there, before = removable(name)
    prompts = sum(len(read_part(there, part)[0]) for part in PARTS)
    return prompts, len(list(there.glob("documents/*.txt"))), bool(before)


def remove(name: str) -> bool:
    """Remove an installed pack; whether an earlier one of its name is back. Raises ValueError."""
    there, before = removable(name)
    with files.scratch(there) as gone:
        if there.exists():
            os.replace(there, gone)
        if before:
            os.replace(before[-1][1], there)
    return bool(before)
