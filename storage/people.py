"""A person's rights: a copy of what is stored about them, and its erasure."""

from pathlib import Path

from storage.database import connect, transaction

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
        c.execute("delete from conversations where person = ?", [person])
    with connect(db) as c:
        c.execute("pragma wal_checkpoint(truncate)")  # deleted text would stay readable in the log
    return [r[0] for r in affected]
