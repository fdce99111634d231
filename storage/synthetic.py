"""Made-up votes by the million, for measuring and for tests: rows as the app writes them, in bulk."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlite_utils import Database

from storage.database import connect, transaction

CHUNK = 20_000
PEOPLE = 1000
DUELS = 0.05  # of the votes are between two checkpoints
START = datetime(2020, 1, 1, tzinfo=UTC)
PROMPT = '[{{"role": "user", "content": "How do I make number {}?"}}]'


def fill(db: Path, votes: int, checkpoint_ids: list[int]) -> None:
    """Add choices until people's votes are `votes`: each with a conversation, a turn and two completions of its own."""
    with connect(db) as c:
        there = c.execute("select count(*) from feedback").fetchone()[0]
    draw = random.Random(there)
    for at in range(there, votes, CHUNK):
        with transaction(db) as c:
            add(c, range(at, min(at + CHUNK, votes)), draw, checkpoint_ids)
    with connect(db) as c:
        c.execute("pragma wal_checkpoint(truncate)")


def add(c: Database, numbers: range, draw: random.Random, checkpoint_ids: list[int]) -> None:
    times = [stamp(i) for i in numbers]
    rows = list(zip(numbers, times, strict=True))
    writers = [draw.choices(checkpoint_ids, k=2) if draw.random() < DUELS else checkpoint_ids[:1] * 2 for _ in rows]
    c.conn.executemany(
        "insert into conversations (id, person, title, created_at) values (?, ?, ?, ?)",
        [(f"v{i}", f"person {i % PEOPLE}", f"Number {i}", at) for i, at in rows],
    )
    c.conn.executemany(
        "insert into turns (id, conversation_id, position, prompt, created_at) values (?, ?, 0, ?, ?)",
        [(f"t{i}", f"v{i}", PROMPT.format(i), at) for i, at in rows],
    )
    c.conn.executemany(
        "insert into completions (id, turn_id, author, checkpoint_id, text, status, created_at) "
        "values (?, ?, 'student', ?, ?, 'finished', ?)",
        [
            (f"{side}{i}", f"t{i}", by, f"{side} way to make {i}: take {i * 7} and {draw.random()}", at)
            for (i, at), both in zip(rows, writers, strict=True)
            for side, by in zip("ab", both, strict=True)
        ],
    )
    c.conn.executemany(
        "insert into feedback (id, turn_id, chosen_id, rejected_id, channel, source, rater, created_at) "
        "values (?, ?, ?, ?, 'choice', 'human', ?, ?)",
        [(f"f{i}", f"t{i}", f"a{i}", f"b{i}", f"person {i % PEOPLE}", at) for i, at in rows],
    )


def stamp(i: int) -> str:
    """150 votes an hour, from the first of January 2020 on."""
    return (START + timedelta(seconds=24 * i)).isoformat(timespec="milliseconds")
