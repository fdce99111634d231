"""Ratings that were made elsewhere, each with the import that brought it: its file, format, licence, rater and time.

An imported row is a conversation of one turn. Its id is a hash of what was said and rated, so the same row twice is one
row. Rows are written by the hundred, so that people who chat meanwhile wait for milliseconds; until the import is
finished none of them is read, and what an import that was killed has left is removed before the next one. Their source
is `import`: no count of people's votes has them, nothing is held out for the gate from them, and they train only where
the owner says so.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from sqlite_utils import Database

from storage import files
from storage.audit import note
from storage.conversations import Message
from storage.database import connect, existing, now, transaction

CHUNK = 250  # rows a transaction: some 40 ms of CPU, at 160 us a row
UNDER_WAY: set[int] = set()  # of this process


@dataclass(frozen=True)
class Said:
    """A completion and who wrote it: a model's name, or "" where the file does not say."""

    text: str
    name: str = ""
    thought: str = ""


@dataclass(frozen=True)
class Rating:
    """As a row of feedback (feedback.py); `chosen` and `rejected` are places in the completions. `at` is when it was
    given, "" where the file does not say."""

    chosen: int | None = None
    rejected: int | None = None
    score: float | None = None
    channel: str = "choice"
    rater: str = ""
    critique: str = ""
    reason: str = ""
    at: str = ""


@dataclass(frozen=True)
class Rated:
    """A prompt, completions of it, and what was said of them; `held_out` where its file says that nobody may train on
    it."""

    prompt: list[Message]
    completions: tuple[Said, ...]
    ratings: tuple[Rating, ...]
    held_out: bool = False

    @cached_property
    def id(self) -> str:
        said = [(k.text, k.name, k.thought) for k in self.completions]
        given = [(r.chosen, r.rejected, r.score, r.channel, r.rater, r.critique, r.reason) for r in self.ratings]
        return hashlib.sha256(json.dumps([self.prompt, said, given], sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Import:
    """`train`: do its rows train? `restricted`: its licence forbids to train other models on them. `finished_at` is
    None while it is being written."""

    id: int
    file: str
    sha256: str
    format: str
    rater: str
    licence: str
    restricted: int
    train: int
    who: str
    rows: int
    created_at: str
    finished_at: str | None


def write(db: Path, rows: Iterable[Rated], *, who: str, **about) -> Import:
    """Write the rows of one file as one import, all or none; `about` are columns (file, sha256, format, train, ...).

    What is there already is left as it is. Where nothing is new the import's `rows` is 0, and none is recorded.
    """
    sweep(db)
    with transaction(db) as c:
        id = c["imports"].insert(about | {"who": who, "pid": os.getpid(), "created_at": now()}).last_pk
    UNDER_WAY.add(id)
    try:
        rows, n = iter(rows), 0
        while chunk := list(islice(rows, CHUNK)):
            with transaction(db) as c:
                n += add(c, id, chunk, about)
        with transaction(db) as c:
            c["imports"].update(id, {"rows": n, "finished_at": now(), "pid": None})
            if n:
                note(c, who, "imported", f"{about['file']} ({about['format']}): {n} rows")
    except BaseException:
        delete(db, id)
        raise
    finally:
        UNDER_WAY.discard(id)
    done = get(db, id)
    if not n:
        delete(db, id)
    return done


def add(c: Database, import_id: int, chunk: list[Rated], about: dict) -> int:
    """How many of the rows were new."""
    new = {r.id: r for r in chunk}
    for id in existing(c, "conversations", new):
        del new[id]
    at = now()
    c.conn.executemany(
        "insert into conversations (id, person, title, created_at, held_out, import_id) values (?, ?, ?, ?, ?, ?)",
        [(id, f"import {import_id}", title(r), at, r.held_out, import_id) for id, r in new.items()],
    )
    c.conn.executemany(
        "insert into turns (id, conversation_id, position, prompt, created_at) values (?, ?, 0, ?, ?)",
        [(f"{id}t", id, json.dumps(r.prompt, ensure_ascii=False), at) for id, r in new.items()],
    )
    c.conn.executemany(
        "insert into completions (id, turn_id, author, name, text, thought, status, licence, restricted, created_at) "
        "values (?, ?, 'teacher', ?, ?, ?, 'finished', ?, ?, ?)",
        [
            (f"{id}k{n}", f"{id}t", k.name, k.text, k.thought, about["licence"], about["restricted"], at)
            for id, r in new.items()
            for n, k in enumerate(r.completions)
        ],
    )
    c.conn.executemany(
        "insert into feedback (id, turn_id, chosen_id, rejected_id, score, channel, critique, reason, source, rater, "
        "created_at, used) values (?, ?, ?, ?, ?, ?, ?, ?, 'import', ?, ?, 1)",
        [
            feedback(id, n, r, import_id, about["rater"], at)
            for id, row in new.items()
            for n, r in enumerate(row.ratings)
        ],
    )
    return len(new)


def title(row: Rated) -> str:
    return row.prompt[-1]["content"][:80]


def feedback(id: str, n: int, r: Rating, import_id: int, rater: str, at: str) -> tuple:
    """Under a rater's name that no person of this house can have: erasing somebody erases none of it."""
    sides = (None if k is None else f"{id}k{k}" for k in (r.chosen, r.rejected))
    who = f"import {import_id}: {rater or r.rater or 'unnamed'}"
    return (f"{id}f{n}", f"{id}t", *sides, r.score, r.channel, r.critique, r.reason, who, r.at or at)


class UnknownImport(LookupError):
    "There is no import of this number"


def all(db: Path) -> list[Import]:
    """Newest first."""
    with connect(db) as c:
        columns = ", ".join(Import.__dataclass_fields__)
        return [Import(*r) for r in c.execute(f"select {columns} from imports order by id desc")]


def get(db: Path, id: int) -> Import:
    """Raises UnknownImport."""
    for one in all(db):
        if one.id == id:
            return one
    raise UnknownImport(f"There is no import {id}; there are: {', '.join(str(one.id) for one in all(db)) or 'none'}")


def set_train(db: Path, id: int, train: bool, who: str) -> None:
    """From the next round on."""
    get(db, id)
    with transaction(db) as c:
        c["imports"].update(id, {"train": int(train)})
        note(c, who, "imported rows train" if train else "imported rows do not train", f"import {id}")


def remove(db: Path, id: int, who: str) -> tuple[int, list[int]]:
    """Undo an import: (its rows, all deleted; the ids of checkpoints that have learned from some of them)."""
    about, rows, taught = get(db, id), count(db, id), learned_from(db, id)
    delete(db, id)
    with transaction(db) as c:
        note(c, who, "removed an import", f"{about.file}: {rows} rows")
    return rows, taught


def learned_from(db: Path, id: int) -> list[int]:
    with connect(db) as c:
        rows = c.execute(
            "select distinct k.id from round_feedback u join checkpoints k on k.round_id = u.round_id "
            "join feedback f on f.id = u.feedback_id join turns t on t.id = f.turn_id "
            "join conversations v on v.id = t.conversation_id where u.part = 'train' and v.import_id = ?",
            [id],
        )
        return [r[0] for r in rows]


def delete(db: Path, id: int) -> None:
    """Its rows by the hundred, and it. First it counts as unfinished, so that nobody reads half of it."""
    with transaction(db) as c:
        c.execute("update imports set finished_at = null, pid = ? where id = ?", [os.getpid(), id])
    some = f"select id from conversations where import_id = ? limit {CHUNK}"
    while True:
        with transaction(db) as c:
            if not c.execute(f"delete from conversations where id in ({some})", [id]).rowcount:
                c["imports"].delete_where("id = ?", [id])
                return


def sweep(db: Path) -> None:
    """Remove what imports that were killed have left."""
    with connect(db) as c:
        open = c.execute("select id, pid from imports where finished_at is null").fetchall()
    for id, pid in open:
        if id not in UNDER_WAY and (pid == os.getpid() or not files.runs(pid)):
            delete(db, id)


def count(db: Path, id: int) -> int:
    with connect(db) as c:
        return c.execute("select count(*) from conversations where import_id = ?", [id]).fetchone()[0]
