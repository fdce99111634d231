"""Versions that people may choose to be answered by, beside the one that serves: a taste of some, a domain.

The owner offers a version under a name; a person's choice holds until they make another one, or the offer ends.
"""

from dataclasses import dataclass
from pathlib import Path

from storage import checkpoints
from storage.checkpoints import Checkpoint
from storage.database import connect, now, transaction

MAX_NAME = 40  # characters


@dataclass(frozen=True)
class Offer:
    name: str
    checkpoint: Checkpoint


def offer(db: Path, checkpoint: int, name: str) -> None:
    """Under this name from now on. Raises ValueError for a name that is none, too long, or another version's."""
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME:
        raise ValueError(f"Give the version a name of up to {MAX_NAME} characters")
    with transaction(db) as c:
        if c.execute("select 1 from offers where name = ? and checkpoint_id <> ?", [name, checkpoint]).fetchone():
            raise ValueError(f"Another version is offered as {name!r} already")
        c["offers"].insert({"checkpoint_id": checkpoint, "name": name, "at": now()}, replace=True)


def withdraw(db: Path, checkpoint: int) -> bool:
    """Whether it was offered. Who had chosen it is answered by what serves."""
    with transaction(db) as c:
        c.execute("delete from chosen_offers where checkpoint_id = ?", [checkpoint])
        return c.execute("delete from offers where checkpoint_id = ?", [checkpoint]).rowcount > 0


def offered(db: Path) -> list[Offer]:
    """By name. What is pruned is no longer offered."""
    with connect(db) as c:
        names = dict(c.execute("select checkpoint_id, name from offers").fetchall())
    found = checkpoints.find(db, "where pruned_at is null and id in (select checkpoint_id from offers)")
    return sorted((Offer(names[k.id], k) for k in found if k.id in names), key=lambda o: o.name)


def choose(db: Path, person: str, checkpoint: int | None) -> None:
    """None for what serves. Raises ValueError for a version that is not offered."""
    if checkpoint is not None and checkpoint not in {o.checkpoint.id for o in offered(db)}:
        raise ValueError("This version is no longer offered: choose another one")
    with transaction(db) as c:
        c.execute("delete from chosen_offers where person = ?", [person])
        if checkpoint is not None:
            c["chosen_offers"].insert({"person": person, "checkpoint_id": checkpoint, "at": now()})


def chosen(db: Path, person: str) -> Checkpoint | None:
    """What this person has chosen, as long as it is offered."""
    own = "id = (select checkpoint_id from chosen_offers join offers using (checkpoint_id) where person = ?)"
    return next(iter(checkpoints.find(db, f"where pruned_at is null and {own}", person)), None)
