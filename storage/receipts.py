"""What an API client holds of its conversations: ids of completions (receipts), and the messages that it sends again
with every request, by which a conversation is recognised.

`threads` has digests of messages, and the turn that they belong to; `requests` the replies to feedback that came with
an Idempotency-Key. An erasure takes both.
"""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from storage.database import connect, insert, now, transaction

KEPT = timedelta(days=1)  # an Idempotency-Key is remembered: clients retry within minutes


def digest(*parts) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def remember(db: Path, person: str, turn_id: str, digests: list[str]) -> None:
    """Nothing where an erasure has come first."""
    with transaction(db) as c:
        for one in digests:
            query = "insert or ignore into threads select ?, ?, id from turns where id = ?"
            c.execute(query, [person, one, turn_id])


def find_turn(db: Path, person: str, digest: str) -> tuple[str, str, int] | None:
    """The newest (turn, its conversation, number of its completions) with this digest."""
    with connect(db) as c:
        row = c.execute(
            "select t.id, t.conversation_id, (select count(*) from completions k where k.turn_id = t.id) "
            "from threads h join turns t on t.id = h.turn_id where h.person = ? and h.digest = ? "
            "order by t.rowid desc limit 1",
            [person, digest],
        ).fetchone()
    return row and tuple(row)


def person_of(db: Path, completion_id: str, origin: str) -> str | None:
    """Whose conversation the completion is in, if it came from this origin."""
    with connect(db) as c:
        row = c.execute(
            "select v.person from completions k join turns t on t.id = k.turn_id "
            "join conversations v on v.id = t.conversation_id where k.id = ? and v.origin = ?",
            [completion_id, origin],
        ).fetchone()
    return row and row[0]


def by_text(db: Path, persons: list[str], text: str, question: str | None) -> tuple[str, str] | None:
    """(person, completion) of the newest completion with this text in a conversation of one of these people, and with
    this last message before it, unless that is None."""
    with connect(db) as c:
        row = c.execute(
            "select v.person, k.id from conversations v join turns t on t.conversation_id = v.id "
            "join completions k on k.turn_id = t.id where v.person in (select value from json_each(?1)) "
            "and v.origin <> 'page' and k.author = 'student' and k.text = ?2 "
            "and (?3 is null or trim(json_extract(t.prompt, '$[#-1].content'), ?4) = ?3) order by k.rowid desc limit 1",
            [json.dumps(persons), text, question, " \t\r\n"],
        ).fetchone()
    return row and tuple(row)


def replied(db: Path, person: str, key: str) -> tuple[str, dict] | None:
    """(digest, reply) of an earlier request with this Idempotency-Key."""
    with connect(db) as c:
        row = c.execute("select digest, reply from requests where person = ? and key = ?", [person, key]).fetchone()
    return row and (row[0], json.loads(row[1]))


def note_reply(db: Path, person: str, key: str, digest: str, reply: dict) -> None:
    old = (datetime.now(UTC) - KEPT).isoformat(timespec="milliseconds")
    with transaction(db) as c:
        c.execute("delete from requests where at < ? or (person = ? and key = ?)", [old, person, key])
        insert(c, "requests", person=person, key=key, digest=digest, reply=reply, at=now())
