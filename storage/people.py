"""A person's rights: a copy of what is stored about them, and its erasure. And how much each rater's word counts."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database

from storage import audit, search, snapshots, teachers, traces
from storage.conversations import UnknownRow
from storage.database import connect, encode, existing, now, transaction
from storage.rounds import RUNNING

FORGET: list[Callable[[], object]] = []  # called after an erasure: what this process keeps of texts elsewhere
OWN = "(select t.id from turns t join conversations v on v.id = t.conversation_id where v.person = ?1)"
# what an erasure is about: a person, turns of rounds as JSON, and one conversation, or None for all that is theirs
OF_IT = "(select t.id from turns t join conversations v on v.id = t.conversation_id where v.person = ?1 and v.id = ?3)"
ERASED = (
    f"(?3 is null and (f.rater = ?1 or f.turn_id in {OWN}) or f.turn_id in {OF_IT} "
    "or f.turn_id in (select value from json_each(?2)))"
)
COMPLETION = "id, turn_id, author, text, thought, status, created_at"
TABLES = {
    "conversations": "select id, title, created_at from conversations where person = ?1",
    "turns": f"select id, conversation_id, position, parent_id, prompt, created_at from turns where id in {OWN}",
    "completions": f"select {COMPLETION} from completions where turn_id in {OWN} "
    f"union select {COMPLETION} from completions where author = 'human' and name = ?1",
    "feedback": "select id, turn_id, chosen_id, rejected_id, score, channel, reason, critique, created_at, "
    "retracted_at from feedback where rater = ?1",
    "follow_ups": "select at from follow_ups where person = ?1",
    "chosen_offers": "select name, c.at from chosen_offers c join offers using (checkpoint_id) where person = ?1",
}


def everything(db: Path, person: str) -> dict[str, list[dict]]:
    """All rows about a person, by table."""
    with connect(db) as c:
        return {name: list(c.query(query, [person])) for name, query in TABLES.items()}


def contents(db: Path, person: str, conversation: str) -> tuple[str, int, int]:
    """(title, number of messages, number of this person's standing votes) of one of their chats. Raises UnknownRow if
    it is not theirs."""
    with connect(db) as c:
        row = c.execute(
            "select title, (select count(*) from turns where conversation_id = v.id), (select count(*) from feedback f "
            "join turns t on t.id = f.turn_id where t.conversation_id = v.id and rater = ?1 and retracted_at is null) "
            "from conversations v where person = ?1 and id = ?2 and kind = 'chat'",
            [person, conversation],
        ).fetchone()
    if row is None:
        raise UnknownRow(f"No conversation {conversation!r} of yours: start a new one")
    return tuple(row)


def erase(db: Path, person: str, conversation: str | None = None) -> list[int]:
    """Delete a person's conversations, feedback and better answers for good, and what rounds and teachers were given of
    their words; the ids of the checkpoints that learned from them. Or one `conversation` with all that is in it, and
    what was given of the words that they said nowhere else; raises UnknownRow if it is not theirs.

    The weights of those checkpoints, and of what descends from them, keep a trace that no deletion of rows removes.
    Older snapshots would bring the rows back: `snapshots.renew` makes them go.
    """
    if conversation is not None:
        contents(db, person, conversation)
    with connect(db) as c:
        asked, wrote = traces.words_of(c, person, conversation)
        turns = json.dumps(traces.in_rounds(c, person, asked, wrote))
        calls = traces.in_calls(c, traces.Words.of(asked | wrote))
    snapshots.owe(db)
    with transaction(db) as c:
        about = [person, turns, conversation]
        affected = touched_by(c, about, "r.part = 'train'")
        mark(c, about)
        cancel_what_reads(c, about)
        features = "select id from feedback where turn_id in (select value from json_each(?))"
        sidecars = [db.parent / "features" / f"{id}.npz" for (id,) in c.execute(features, [turns])]
        teachers.blank(c, calls)
        indexed = c["texts"].count
        delete_rows(c, *about)
        if c["texts"].count < indexed:
            search.merge(c, -search.PAGES)
        forget_examples(c, asked)
    for file in sidecars:
        file.unlink(missing_ok=True)
    search.finish_merge(db)
    with connect(db) as c:
        c.execute("pragma wal_checkpoint(truncate)")  # deleted text would stay readable in the log
    for forget in FORGET:
        forget()
    return affected


def touched_by(c: Database, about: list, part: str) -> list[int]:
    """Checkpoints whose rounds have read what is `ERASED`, in this part of them, and their descendants."""
    trained = (
        f"select k.id from checkpoints k join round_feedback r on r.round_id = k.round_id and {part} "
        f"join feedback f on f.id = r.feedback_id where {ERASED}"
    )
    rows = c.execute(
        f"with recursive touched(id) as ({trained} union select k.id from checkpoints k join touched "
        "on k.parent_id = touched.id) select id from touched order by id",
        about,
    )
    return [r[0] for r in rows]


def mark(c: Database, about: list) -> None:
    """The checkpoints whose rounds have read any of it, also to judge alone, and their descendants: kdloop's `retrain`
    repeats those rounds without it."""
    rows = ({"checkpoint_id": id, "at": now()} for id in touched_by(c, about, "true"))
    c["erasures"].insert_all(rows, replace=True)


def cancel_what_reads(c: Database, about: list) -> None:
    """A round under way has read the votes, or written down these words: its candidate would learn what is deleted."""
    c.execute(
        "update rounds set cancel_requested_at = ?4, error = 'Somebody whose votes it had read deleted their data' "
        f"where status in {RUNNING} and (exists (select 1 from feedback f where f.rater = ?1 and {ERASED}) or exists "
        "(select 1 from json_each(?2) e join feedback f on f.turn_id = e.value where f.round_id = rounds.id))",
        [*about, now()],
    )


def delete_rows(c: Database, person: str, turns: str, conversation: str | None) -> None:
    """What is in a conversation goes with it."""
    of_rounds = "select conversation_id from turns where id in (select value from json_each(?))"
    c["conversations"].delete_where(f"id in ({of_rounds})", [turns])
    if conversation is not None:
        c["conversations"].delete_where("id = ? and person = ?", [conversation, person])
        return
    c["feedback"].delete_where("rater = ?", [person])
    c["completions"].delete_where("author = 'human' and name = ?", [person])
    c["raters"].delete_where("person = ?", [person])
    c["requests"].delete_where("person = ?", [person])
    c["follow_ups"].delete_where("person = ?", [person])
    c["chosen_offers"].delete_where("person = ?", [person])
    c["conversations"].delete_where("person = ?", [person])


def forget_examples(c: Database, asked: set[str]) -> None:
    """Of verdicts, which everybody may read; and what they say of votes that are gone, by which drift is measured."""
    for id, text in c.execute("select id, verdict from rounds where verdict is not null").fetchall():
        verdict = json.loads(text)
        drift = verdict.get("drift") or {}
        pairs = drift.get("pairs", {})
        known = existing(c, "feedback", pairs) if pairs else set()
        kept = [e for e in verdict.get("examples", []) if e["prompt"] not in asked]
        if len(kept) < len(verdict.get("examples", [])) or len(known) < len(pairs):
            drift = {"drift": drift | {"pairs": {k: v for k, v in pairs.items() if k in known}}} if pairs else {}
            c["rounds"].update(id, encode({"verdict": verdict | {"examples": kept} | drift}))


@dataclass(frozen=True)
class Rater:
    """`weight` 1 counts fully, 0 is blocked: what they say is kept and teaches nothing. `last` is when they voted, also
    where they took that vote back."""

    person: str
    votes: int
    last: str
    weight: float


def raters(db: Path, limit: int = 200) -> list[Rater]:
    """The people with active votes, those with most of them first."""
    with connect(db) as c:
        rows = c.execute(
            "select person, live, last, coalesce(weight, 1) from rater_counts left join raters using (person) "
            "order by live desc, person limit ?",
            [limit],
        ).fetchall()
    return [Rater(*r) for r in rows]


def set_weight(db: Path, person: str, weight: float) -> None:
    """From the next round on. Raises ValueError outside 0 to 1."""
    if not 0 <= weight <= 1:
        raise ValueError(f"Weight {weight}; give 0 (blocked) to 1")
    with transaction(db) as c:
        weigh(c, person, weight)


def weigh(c: Database, person: str, weight: float, former: float | None = None) -> None:
    """`former` is the weight of somebody who is set aside, for `take_back`; whatever else sets one forgets it."""
    row = {"person": person, "weight": weight, "former": former, "changed_at": now()}
    c["raters"].insert(row, replace=True)


def set_aside(db: Path, people: Iterable[str], who: str) -> None:
    """Block those of the people who have active votes and are not blocked, all or none, with a line each in the audit
    log that `who` did it; what they weighed is kept."""
    with transaction(db) as c:
        rows = c.execute(
            "select person, coalesce(weight, 1) from rater_counts left join raters using (person) "
            "where coalesce(weight, 1) > 0 and person in (select value from json_each(?))",
            [json.dumps([*people])],
        ).fetchall()
        for person, weight in rows:
            weigh(c, person, 0, former=weight)
            audit.note(c, who, f"set a rater's weight to {0:g}", person[:8])


def take_back(db: Path, who: str) -> None:
    """All who are set aside weigh again what they did before, with a line each in the audit log."""
    with transaction(db) as c:
        for person, weight in c.execute("select person, former from raters where former is not null").fetchall():
            weigh(c, person, weight)
            audit.note(c, who, f"set a rater's weight to {weight:g}", person[:8])


def count_aside(db: Path) -> int:
    with connect(db) as c:
        return c.execute("select count(*) from raters where former is not null").fetchone()[0]
