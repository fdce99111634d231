"""Imported rows (imports.py), read by the million: which are known, which a round reads, and all of one import."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlite_utils import Database

from storage.database import connect, existing
from storage.imports import CHUNK, Rated, Rating, Said

SAMPLE = 2000  # imported rows that a round reads, drawn anew for each round: memory stays bounded at 10^6 rows


def known(db: Path, rows: list[Rated]) -> set[str]:
    """The ids of those that are in the database."""
    with connect(db) as c:
        return existing(c, "conversations", (r.id for r in rows))


class Seen:
    """Ids by the million, on the disk."""

    def __init__(self):
        self.c = Database(sqlite3.connect("", isolation_level=None))  # "": SQLite's own temporary file
        self.c.execute("create table seen (id text primary key) without rowid")
        self.c.execute("begin")  # once: a transaction a row would be a journal a row

    def add(self, id: str) -> bool:
        """Was it new?"""
        return self.c.execute("insert or ignore into seen values (?)", [id]).rowcount == 1


def sample(db: Path, round_id: int) -> list[str]:
    """Feedback ids of the imports that train: of at most SAMPLE rows, the same for the same round. Ids are hashes, so
    those that follow a hash of the round's are a random draw."""
    start = hashlib.sha256(f"round {round_id}".encode()).hexdigest()[:24]
    with connect(db) as c:
        ready = [r[0] for r in c.execute("select id from imports where train and finished_at is not null")]
        share, drawn = SAMPLE // max(1, len(ready)), []
        for id in ready:
            found: list[str] = []
            for side in (">=", "<"):
                query = f"select id from conversations where import_id = ? and id {side} ? order by id limit ?"
                found += (r[0] for r in c.execute(query, [id, start, share - len(found)]))
            drawn += found
        of_turns = "select id from feedback where turn_id in (select value || 't' from json_each(?))"
        return [r[0] for r in c.execute(of_turns, [json.dumps(drawn)])]


def rows(db: Path, id: int) -> Iterator[tuple[Rated, int]]:
    """The rows of an import as they came, with `restricted`, in the order of their ids."""
    query = (
        "select v.id, v.held_out, t.prompt, i.restricted from conversations v join turns t on t.conversation_id = v.id "
        f"join imports i on i.id = v.import_id where v.import_id = ? and v.id > ? order by v.id limit {CHUNK}"
    )
    last = ""
    with connect(db) as c:
        while chunk := c.execute(query, [id, last]).fetchall():
            for conversation, held_out, prompt, restricted in chunk:
                said = c.execute(
                    "select id, text, name, thought from completions where turn_id = ? order by rowid",
                    [f"{conversation}t"],
                ).fetchall()
                places = {k[0]: n for n, k in enumerate(said)} | {None: None}
                rated = c.execute(
                    "select chosen_id, rejected_id, score, channel, rater, critique, reason, created_at from feedback "
                    "where turn_id = ? and retracted_at is null order by rowid",
                    [f"{conversation}t"],
                ).fetchall()
                ratings = tuple(Rating(places[r[0]], places[r[1]], *tuple(r)[2:]) for r in rated)
                completions = tuple(Said(*tuple(k)[1:]) for k in said)
                yield Rated(json.loads(prompt), completions, ratings, bool(held_out)), restricted
            last = chunk[-1][0]
