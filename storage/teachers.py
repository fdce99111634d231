"""What teachers were asked and said (so that nothing is paid for twice), and how far judges agree with people."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from sqlite_utils import Database

from storage.database import connect, encode, new_id, now, transaction


@dataclass(frozen=True)
class Call:
    """One answered request; `hash` is of all that was sent. Errors that pass are not stored.

    `text` holds a reasoning model's thought before what it said (raters/thoughts.py); where it said nothing, it is
    empty, or a thought alone.
    """

    hash: str
    teacher: str
    request: dict
    text: str
    status: str
    logprobs: list | None
    prompt_tokens: int
    completion_tokens: int
    cost: float
    seconds: float


@dataclass(frozen=True)
class Usage:
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float


def find_call(db: Path, hash: str) -> Call | None:
    fields = list(Call.__dataclass_fields__)
    with connect(db) as c:
        row = c.execute(f"select {', '.join(fields)} from calls where hash = ?", [hash]).fetchone()
    decoded = {"request", "logprobs"}
    return row and Call(**{k: json.loads(row[k]) if k in decoded and row[k] else row[k] for k in fields})


def record_call(db: Path, call: Call) -> None:
    """Of several answers to one request, made at the same time, the first is kept; the cost of each counts."""
    with transaction(db) as c:
        if c.execute("select 1 from calls where hash = ?", [call.hash]).fetchone():
            call = replace(call, hash=new_id(), request={}, text="", logprobs=None)
        c["calls"].insert(encode(vars(call) | {"created_at": now()}))


def blank(c: Database, rowids: list[int]) -> None:
    """Forget what calls asked and were told: budgets still count them, and under another hash nobody finds them."""
    c.conn.executemany(
        "update calls set hash = lower(hex(randomblob(16))), request = '{}', text = '', logprobs = null "
        "where rowid = ?",
        [(id,) for id in rowids],
    )


def usage(db: Path) -> dict[str, Usage]:
    """teacher -> what it has cost so far; what came from the cache cost nothing."""
    with connect(db) as c:
        rows = c.execute(
            "select teacher, count(*), sum(prompt_tokens), sum(completion_tokens), sum(cost) "
            "from calls group by teacher"
        ).fetchall()
    return {r[0]: Usage(*tuple(r)[1:]) for r in rows}


def record_calibration(db: Path, judge: str, report: dict) -> None:
    with transaction(db) as c:
        c["calibrations"].insert(encode({"judge": judge, "report": report, "created_at": now()}))


def calibrations(db: Path) -> dict[str, dict]:
    """judge -> the report of its latest calibration, with its time as "at"."""
    with connect(db) as c:
        rows = c.execute("select judge, report, created_at from calibrations order by id").fetchall()
    return {r["judge"]: json.loads(r["report"]) | {"at": r["created_at"]} for r in rows}
