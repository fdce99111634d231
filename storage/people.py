"""A person's rights: a copy of what is stored about them, and its erasure. And how much each rater's word counts."""

from dataclasses import dataclass
from pathlib import Path

from storage.database import connect, now, transaction

OWN = "(select t.id from turns t join conversations v on v.id = t.conversation_id where v.person = ?1)"
TABLES = {
    "conversations": "select id, title, created_at from conversations where person = ?1",
    "turns": f"select id, conversation_id, position, prompt, created_at from turns where id in {OWN}",
    "completions": f"select id, turn_id, author, text, status, created_at from completions where turn_id in {OWN}",
    "feedback": "select id, turn_id, chosen_id, rejected_id, score, channel, reason, critique, created_at, "
    "retracted_at from feedback where rater = ?1",
}


def everything(db: Path, person: str) -> dict[str, list[dict]]:
    """All rows about a person, by table."""
    with connect(db) as c:
        return {name: [dict(r) for r in c.execute(query, [person])] for name, query in TABLES.items()}


def erase(db: Path, person: str) -> list[int]:
    """Delete a person's conversations and feedback for good; the ids of the checkpoints that learned from them.

    The weights of those checkpoints, and of what descends from them, keep a trace that no deletion of rows removes.
    """
    with transaction(db) as c:
        c.execute("pragma secure_delete = on")
        trained = (
            "select k.id from checkpoints k join round_feedback r on r.round_id = k.round_id and r.part = 'train' "
            f"join feedback f on f.id = r.feedback_id where f.rater = ?1 or f.turn_id in {OWN}"
        )
        affected = c.execute(
            f"with recursive touched(id) as ({trained} union select k.id from checkpoints k join touched "
            "on k.parent_id = touched.id) select id from touched order by id",
            [person],
        ).fetchall()
        c.execute("delete from feedback where rater = ?", [person])
        c.execute("delete from raters where person = ?", [person])
        c.execute("delete from conversations where person = ?", [person])
    with connect(db) as c:
        c.execute("pragma wal_checkpoint(truncate)")  # deleted text would stay readable in the log
    return [r[0] for r in affected]


@dataclass(frozen=True)
class Rater:
    """`weight` 1 counts fully, 0 is blocked: what they say is kept and teaches nothing."""

    person: str
    votes: int
    last: str
    weight: float


def raters(db: Path, limit: int = 200) -> list[Rater]:
    """The people whose votes stand, the busiest first."""
    with connect(db) as c:
        rows = c.execute(
            "select rater, count(*), max(created_at), coalesce(weight, 1) from feedback left join raters on person = "
            "rater where source = 'human' and retracted_at is null group by rater order by 2 desc, 1 limit ?",
            [limit],
        ).fetchall()
    return [Rater(*r) for r in rows]


def set_weight(db: Path, person: str, weight: float) -> None:
    """From the next round on. Raises ValueError outside 0 to 1."""
    if not 0 <= weight <= 1:
        raise ValueError(f"Weight {weight}; give 0 (blocked) to 1")
    with transaction(db) as c:
        c.execute("insert or replace into raters values (?, ?, ?)", [person, weight, now()])
