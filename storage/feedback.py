"""Feedback rows: a pair that may lack a side, or a score on one completion. Never deleted, only retracted.

| channel  | chosen            | rejected          | score                          |
|----------|-------------------|-------------------|--------------------------------|
| thumb    | the liked one     | the disliked one  |                                |
| stars    | the rated one     |                   | 0 to 1, of one `aspect`        |
| choice   | the better one    | the other         | 0.5 when they were equally good |
| edit     | the person's text | the student's     |                                |
| critique |                   | the criticised    | (`critique` holds the words)   |
| ranking  | the better one    | the other         | the rater's probability        |

AI feedback is the same rows with another `source`: teacher, judge, verifier, preference_model, or the student itself.
What was imported (imports.py, imported.py) has the source `import`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storage import imported
from storage.database import connect, existing, insert, new_id, now, transaction

COLUMNS = ["id", "turn_id", "chosen_id", "rejected_id", "score", "channel", "source", "rater", "created_at"]
WORDS = ["critique", "reason"]


@dataclass(frozen=True)
class Feedback:
    id: str
    turn_id: str
    chosen_id: str | None
    rejected_id: str | None
    score: float | None
    channel: str
    source: str
    rater: str
    created_at: str
    critique: str
    reason: str
    conversation_id: str
    round_id: int | None
    weight: float = 1.0  # of the rater's word, see people.py
    held_out: int = 0  # 1 where its conversation is (split.py)


BLOCKED = "select person from raters where weight = 0"
BY_BLOCKED = f"+f.source = 'human' and f.retracted_at is null and f.rater in ({BLOCKED})"  # + : by the index of raters


def add_feedback(
    db: Path,
    turn_id: str,
    *,
    rater: str,
    channel: str,
    chosen_id: str | None = None,
    rejected_id: str | None = None,
    source: str = "human",
    **values,
) -> str:
    """Record one rater's feedback through one channel; the id of its active row.

    Saying the same twice leaves one row; saying something else on the same completions retracts what was said before.
    """
    row = {"chosen_id": chosen_id, "rejected_id": rejected_id, "score": None, "reason": "", "critique": ""}
    row |= {"aspect": "overall"} | values
    with transaction(db) as c:
        for old in live_rows(c, turn_id, rater, channel, row["aspect"], chosen_id, rejected_id):
            if all(old[k] == v for k, v in row.items()):
                return old["id"]
            c.execute("update feedback set retracted_at = ? where id = ?", [now(), old["id"]])
        id = new_id()
        insert(
            c, "feedback", id=id, turn_id=turn_id, channel=channel, source=source, rater=rater, created_at=now(), **row
        )
    return id


def live_rows(c, turn_id, rater, channel, aspect, *completion_ids) -> list:
    """What this rater has said through this channel about this aspect of any of these completions, and not taken back.

    An edit brings a new text each time, so it is found by the completion that it corrects.
    """
    rows = c.execute(
        "select * from feedback where turn_id = ? and rater = ? and channel = ? and aspect = ? "
        "and retracted_at is null",
        [turn_id, rater, channel, aspect],
    ).fetchall()
    return [r for r in rows if {r["chosen_id"], r["rejected_id"]} & (set(completion_ids) - {None})]


def retract(db: Path, rater: str, channel: str, completion_id: str) -> int:
    """Take back what `rater` said about a completion; the number of rows retracted (0 when there was none)."""
    with transaction(db) as c:
        return c.execute(
            "update feedback set retracted_at = ? where rater = ? and channel = ? and retracted_at is null "
            "and (chosen_id = ? or rejected_id = ?)",
            [now(), rater, channel, completion_id, completion_id],
        ).rowcount


def take_back(db: Path, rater: str, id: str) -> bool:
    """Retract one statement of `rater`; False where they have no active one with this id."""
    with transaction(db) as c:
        query = "update feedback set retracted_at = ? where id = ? and rater = ? and retracted_at is null"
        return c.execute(query, [now(), id, rater]).rowcount == 1


def live_feedback(
    db: Path, round_id: int | None = None, newest: int | None = None, among: Sequence[str] | None = None
) -> list[Feedback]:
    """Active feedback, oldest first: people's `newest` (None: all) unless blocked, the AI's of `round_id`,
    and teachers' answers that were given in the chat (kdloop.chat.delegation); for a round also a sample of what was
    imported to train. Of what no round has written only what is `among` these ids, where they are given."""
    columns = ", ".join("f." + f for f in COLUMNS + WORDS)
    rows = (
        f"select {columns}, t.conversation_id, f.round_id, coalesce(r.weight, 1), v.held_out, f.rowid from feedback f "
        "join turns t on t.id = f.turn_id join conversations v on v.id = t.conversation_id "
        "left join raters r on r.person = f.rater "
        "where f.retracted_at is null and coalesce(r.weight, 1) > 0 and"
    )
    known = "(?3 is null or f.id in (select value from json_each(?3)))"
    brought = among if among is not None else [] if round_id is None else imported.sample(db, round_id)
    with connect(db) as c:
        found = c.execute(
            f"select * from ({rows} f.source = 'human' and {known} order by f.rowid desc limit ?2) "
            f"union all select * from ({rows} f.round_id = ?1 and f.source <> 'human') "
            f"union all select * from ({rows} f.round_id is null and f.source = 'teacher' and {known}) "
            f"union all select * from ({rows} f.source = 'import' and f.id in (select value from json_each(?4))) "
            "order by rowid",
            [
                round_id,
                -1 if newest is None else newest,
                None if among is None else json.dumps([*among]),
                json.dumps([*brought]),
            ],
        ).fetchall()
    return [Feedback(*tuple(r)[:-1]) for r in found]


def known(db: Path, ids: list[str]) -> set[str]:
    """Those of the ids that are rows, retracted or not."""
    with connect(db) as c:
        return existing(c, "feedback", ids)


def rated_logprobs(db: Path, newest: int = 1000) -> tuple[list[float], list[bool]]:
    """Of people's newest votes: mean token log-probabilities of the student completions that they rated, and whether
    they liked them."""
    with connect(db) as c:
        rows = c.execute(
            "select k.logprob, k.id = chosen_id from (select chosen_id, rejected_id from feedback "
            "where source = 'human' and score is null and retracted_at is null order by rowid desc limit ?) votes "
            "join completions k on k.id in (chosen_id, rejected_id) where k.logprob is not null",
            [newest],
        ).fetchall()
    return [r[0] for r in rows], [bool(r[1]) for r in rows]


def standing(db: Path, rater: str, completion_id: str) -> list[dict]:
    """The active rows of this rater that name a completion, oldest first."""
    with connect(db) as c:
        query = "select * from feedback where rater = ? and retracted_at is null and ? in (chosen_id, rejected_id)"
        return list(c.query(f"{query} order by rowid", [rater, completion_id]))


def thumb_row(db: Path, rater: str, completion_id: str) -> dict | None:
    return next((r for r in standing(db, rater, completion_id) if r["channel"] == "thumb"), None)


def thumbs(db: Path, rater: str, conversation_id: str) -> dict[str, bool]:
    """completion id -> liked, for the thumbs that this rater has given in a conversation."""
    with connect(db) as c:
        rows = c.execute(
            "select chosen_id, rejected_id from feedback f join turns t on t.id = f.turn_id "
            "where rater = ? and conversation_id = ? and channel = 'thumb' and retracted_at is null",
            [rater, conversation_id],
        ).fetchall()
    return {chosen or rejected: chosen is not None for chosen, rejected in rows}


def corrections(db: Path, rater: str, conversation_id: str) -> dict[str, str]:
    """completion id -> this rater's newest own text in its place, in a conversation."""
    with connect(db) as c:
        rows = c.execute(
            "select f.rejected_id, k.text from feedback f join turns t on t.id = f.turn_id "
            "join completions k on k.id = f.chosen_id where f.rater = ? and t.conversation_id = ? "
            "and f.channel = 'edit' and f.rejected_id is not null and f.retracted_at is null order by f.rowid",
            [rater, conversation_id],
        ).fetchall()
    return dict(map(tuple, rows))


def thumbs_of(db: Path, checkpoint_id: int) -> list[bool]:
    """Liked or not, of the live thumbs that a checkpoint's completions were given, in their order."""
    with connect(db) as c:
        live = f"channel = 'thumb' and retracted_at is null and +source = 'human' and rater not in ({BLOCKED})"
        rows = c.execute(
            f"select rowid, 1 from feedback where chosen_by = ?1 and {live} union all "
            f"select rowid, 0 from feedback where rejected_by = ?1 and {live} order by 1",
            [checkpoint_id],
        ).fetchall()
    return [bool(r[1]) for r in rows]


def count_votes(db: Path) -> tuple[int, int]:
    """(people's active votes, those among them that came after the last round that trained a candidate began): what
    was refused before training leaves its votes new (kdloop.rounds.supervisor says when they start a round again)."""
    with connect(db) as c:
        return tuple(
            c.execute(
                "select (select coalesce(sum(live), 0) from vote_counts) - count(*), "
                "(select coalesce(sum(fresh), 0) from vote_counts) - count(*) filter (where not used) "
                f"from feedback f where {BY_BLOCKED}"
            ).fetchone()
        )


@dataclass(frozen=True)
class AIChoice:
    """An AI rater's choice between two completions, for a person to check; `probability` is the rater's own."""

    id: str
    turn_id: str
    chosen_id: str
    rejected_id: str
    question: str
    chosen: str
    rejected: str
    probability: float
    disputed: bool  # somebody has chosen the other one


UNCHECKED = (  # by the rater ?1; + keeps SQLite from going through all that the rater ever said. Of lone questions: no
    # conversation is shown beside the two, and one that a person led is theirs, whatever its last message is
    "select f.id, f.turn_id, f.chosen_id, f.rejected_id, json_extract(t.prompt, '$[#-1].content') as question, a.text, "
    "b.text, coalesce(f.score, 1), f.disputed > 0 from feedback f join turns t on t.id = f.turn_id "
    "join completions a on a.id = f.chosen_id join completions b on b.id = f.rejected_id "
    "where f.source <> 'human' and f.source <> 'import' and f.retracted_at is null "
    "and json_array_length(t.prompt) = 1 and not exists "
    "(select 1 from feedback h where h.turn_id = f.turn_id and +h.rater = ?1 and h.retracted_at is null) and "
)


def ai_choices(db: Path, rater: str, questions: list[str] | None = None, limit: int = 300) -> list[AIChoice]:
    """AI choices that `rater` has not checked yet: disputed ones first, then the least sure; on these questions only,
    or on any."""
    with connect(db) as c:
        rows = c.execute(
            f"{UNCHECKED} (?2 is null or question in (select value from json_each(?2))) "
            "order by f.disputed desc, abs(coalesce(f.score, 1) - 0.5), f.id limit ?3",
            [rater, None if questions is None else json.dumps(questions), limit],
        ).fetchall()
    return [AIChoice(*r) for r in rows]


def ai_choice(db: Path, rater: str, id: str) -> AIChoice | None:
    """The one with this id; None where there is none that `rater` has not checked yet."""
    with connect(db) as c:
        row = c.execute(f"{UNCHECKED} f.id = ?2", [rater, id]).fetchone()
    return row and AIChoice(*row)


def votes_by_hour(db: Path) -> list[tuple[str, int]]:
    """(hour as "2026-01-31T15", people's active votes) in order; hours without any are left out."""
    with connect(db) as c:
        return [tuple(r) for r in c.execute("select hour, live from vote_counts where live > 0 order by hour")]


def duels(db: Path) -> list[tuple[int, int, float, int]]:
    """(checkpoint, other checkpoint, 1 where the first was chosen or 0.5 for a tie, how often) of people's choices."""
    with connect(db) as c:
        rows = c.execute(
            "select d.chosen_by, d.rejected_by, d.score, d.n - (select count(*) from feedback f where f.chosen_by = "
            "d.chosen_by and f.rejected_by = d.rejected_by and coalesce(f.score, 1) = d.score and f.channel = 'choice' "
            f"and {BY_BLOCKED}) "
            "from duel_counts d order by 1, 2, 3"
        ).fetchall()
    return [tuple(r) for r in rows if r[3] > 0]


def edits(db: Path, rater: str, completion_id: str) -> dict[str, str]:
    """The active corrections of a completion: text -> feedback id."""
    with connect(db) as c:
        rows = c.execute(
            "select k.text, f.id from feedback f join completions k on k.id = f.chosen_id "
            "where f.rater = ? and f.channel = 'edit' and f.rejected_id = ? and f.retracted_at is null",
            [rater, completion_id],
        ).fetchall()
    return dict(map(tuple, rows))
