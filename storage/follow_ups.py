"""What a person wrote next, after an answer: hindsight on that answer, of those who allow that it is learned from."""

import json
from dataclasses import dataclass
from pathlib import Path

from storage.conversations import COMPLETION, Completion, Message
from storage.database import connect, now, transaction

ALLOWED = (  # a turn t that follows another one, p, whose answer its prompt holds before the person's message
    "from turns t join turns p on p.id = t.parent_id join conversations v on v.id = t.conversation_id "
    "join follow_ups a on a.person = v.person join completions k on k.turn_id = p.id "
    "left join raters r on r.person = v.person where v.kind = 'chat' and coalesce(v.held_out, 0) = 0 "
    "and coalesce(r.weight, 1) > 0 and t.created_at <= ? and k.author = 'student' and k.status in ('finished', 'cut') "
    "and k.text <> '' and k.text = json_extract(t.prompt, '$[#-2].content')"
)


@dataclass(frozen=True)
class FollowUp:
    """`message` is what the person wrote after `completion`, the student's answer to `prompt`."""

    prompt: list[Message]
    completion: Completion
    message: str


def allow(db: Path, person: str, yes: bool) -> None:
    """May rounds learn from what this person writes next? Until they say so: no."""
    with transaction(db) as c:
        if yes:
            c["follow_ups"].insert({"person": person, "at": now()}, ignore=True)
        else:
            c["follow_ups"].delete_where("person = ?", [person])


def allows(db: Path, person: str) -> bool:
    with connect(db) as c:
        return c.execute("select 1 from follow_ups where person = ?", [person]).fetchone() is not None


def count(db: Path, before: str | None = None) -> int:
    """How many there are to learn from, of messages written until `before`; None for now."""
    with connect(db) as c:
        return c.execute(f"select count(distinct t.id) {ALLOWED}", [before or now()]).fetchone()[0]


def take(db: Path, before: str, most: int) -> list[FollowUp]:
    """The newest that were written until `before`, oldest first. Their conversations belong to the training part from
    now on: no vote there will judge what was learned from them."""
    with transaction(db) as c:
        newest = f"{ALLOWED} group by t.id order by t.rowid desc limit ?"
        rows = c.execute(f"select t.prompt, v.id, {COMPLETION} {newest}", [before, most]).fetchall()
        read = json.dumps([row[1] for row in rows])
        c.execute(
            "update conversations set held_out = 0 where held_out is null and id in (select value from json_each(?))",
            [read],
        )
    found = []
    for text, _, *columns in reversed(rows):
        *prompt, _, message = json.loads(text)
        found.append(FollowUp(prompt, Completion(*columns), message["content"]))
    return found
