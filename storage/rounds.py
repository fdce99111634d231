"""Rounds and their progress. One runs at a time: who runs it holds the lease (lease.py).

queued -> eliciting -> training -> gating -> promoted | on trial | rejected | failed | cancelled

A round on trial ends promoted or rejected once its trial (trials.py) does.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from storage import lease, trials
from storage.database import connect, encode, insert, now, transaction

RUNNING = ("queued", "eliciting", "training", "gating")
GONE = "The process that ran this round is gone"


@dataclass(frozen=True)
class Round:
    id: int
    status: str
    requested: str  # the method asked for, or "auto"
    recipe: dict  # what the round elicits and trains, whole, so that it can be repeated; {} without a recipe
    method: str | None
    why: str
    base_id: int
    candidate_id: int | None
    seed: int
    started_by: str
    counts: dict
    seconds: dict
    metrics: dict
    verdict: dict | None
    error: str | None
    created_at: str
    finished_at: str | None
    cancel_requested_at: str | None
    replays: int | None = None  # the round that it repeats, without what was erased since
    origin_id: int | None = None  # then: the checkpoint that is trained further; it is compared with `base_id`


@dataclass(frozen=True)
class Progress:
    phase: str
    step: int
    steps: int
    loss: float | None
    eta_seconds: float | None
    note: str
    at: str


class RoundRunning(Exception):
    "A round is running already"


class TrialRunning(RoundRunning):
    "A challenger is on trial: a round would be compared with a champion that nobody has confirmed"


class RoundEnded(Exception):
    "Somebody else has ended the round, which its process does not know yet"


def start_round(
    db: Path, *, requested: str, seed: int | None, started_by: str, owner: str, recipe: dict | None = None, **replayed
) -> Round:
    """Queue a round on the serving checkpoint and take the lease; `replayed` are its `replays` and `origin_id`. Raises
    RoundRunning while another one holds it, and TrialRunning, which is one, until people have decided on the last one's
    challenger."""
    with transaction(db) as c:
        held = lease.held(c)
        if held and lease.lives(held):
            raise RoundRunning(f"Round {held['round_id']} is running: wait for it, or cancel it")
        if trial := trials.running_in(c):
            raise TrialRunning(
                f"The candidate of round {trial.round_id} is on trial: the next round starts once people have decided. "
                "Compare more answers, or end it: serve either version by hand"
            )
        if held:
            end_row(c, held["round_id"], "failed", GONE)
        base = c.execute("select id from checkpoints where status = 'serving'").fetchone()[0]
        row = {
            "status": "queued",
            "requested": requested,
            "recipe": recipe or {},
            "base_id": base,
            "seed": 0 if seed is None else seed,
            "started_by": started_by,
            "created_at": now(),
            **replayed,
        }
        id = c["rounds"].insert(encode(row)).last_pk
        if seed is None:
            c["rounds"].update(id, {"seed": id})
        lease.take(c, owner, id)
    return get_round(db, id)


def renew_lease(db: Path, owner: str) -> bool:
    """False when the lease was lost to someone else."""
    with transaction(db) as c:
        return lease.renew(c, owner)


def release_lease(db: Path, owner: str) -> None:
    with transaction(db) as c:
        c["lease"].delete_where("owner = ?", [owner])


def abandoned_rounds(db: Path) -> list[int]:
    """Rounds that read as running while nobody holds a living lease on them."""
    with connect(db) as c:
        held = lease.held(c)
        running = held["round_id"] if held and lease.lives(held) else None
        rows = c.execute(f"select id from rounds where status in {RUNNING} and id is not ?", [running]).fetchall()
    return [r[0] for r in rows]


def advance(db: Path, id: int, status: str, **values) -> None:
    """Move a round to its next status, with what is recorded about it, in one transaction. Raises RoundEnded."""
    with transaction(db) as c:
        if c.execute("select status from rounds where id = ?", [id]).fetchone()[0] not in RUNNING:
            raise RoundEnded(f"Round {id} was ended meanwhile")
        c["rounds"].update(id, encode({"status": status} | values))


def finish_round(db: Path, id: int, status: str, *, error: str | None = None) -> bool:
    """Set a final status unless the round has one; False when it had."""
    with transaction(db) as c:
        return end_row(c, id, status, error)


def end_row(c, id: int, status: str, error: str | None) -> bool:
    """A candidate that was not judged to its end never will be."""
    end = f"update rounds set status = ?, error = ?, finished_at = ? where id = ? and status in {RUNNING}"
    ended = c.execute(end, [status, error, now(), id]).rowcount == 1
    if ended and status in ("failed", "cancelled"):
        c.execute("update checkpoints set status = 'rejected' where round_id = ? and status = 'candidate'", [id])
    return ended


def request_cancel(db: Path, id: int) -> None:
    with transaction(db) as c:
        c["rounds"].update(id, {"cancel_requested_at": now()})


def gates_since(db: Path, champion_id: int, before: int) -> int:
    """How many gates have tested something against this champion before round `before`: one a round, and one for each
    longer step of its candidate (the verdict's `tries`). Rounds that were refused before training on one number of
    votes have made one test."""
    tested = "json_extract(verdict, '$.gate.number') is not null"
    with connect(db) as c:
        return c.execute(
            "select count(distinct iif(candidate_id is null, 'votes ' || json_extract(counts, '$.held_out'), id)) "
            "+ coalesce(sum(json_array_length(verdict, '$.tries')), 0) "
            f"from rounds where base_id = ? and id < ? and {tested}",
            [champion_id, before],
        ).fetchone()[0]


def use_feedback(db: Path, round_id: int, train: list[str], held_out: list[str]) -> None:
    """Record which feedback rows a round reads: the lineage of whatever it trains."""
    parts = {"train": train, "held_out": held_out}
    rows = ({"round_id": round_id, "feedback_id": id, "part": part} for part, ids in parts.items() for id in ids)
    with transaction(db) as c:
        c["round_feedback"].insert_all(rows, replace=True)


def note_read(db: Path, round_id: int, ids: Iterable[str]) -> None:
    """Which rows a round's examples and raters come of, before it is known on which of them it trains."""
    there = "select ?, id, 'read' from feedback where id in (select value from json_each(?))"
    with transaction(db) as c:
        c.execute(f"insert or ignore into round_feedback {there}", [round_id, json.dumps([*ids])])


def rows_read(db: Path, round_id: int) -> list[str]:
    """The feedback rows that a round has read in any part and that are there still."""
    with connect(db) as c:
        return [r[0] for r in c.execute("select feedback_id from round_feedback where round_id = ?", [round_id])]


def forget_rows(db: Path, round_id: int) -> None:
    """Delete what a round has elicited: the turns that it asked, and its feedback on others."""
    with transaction(db) as c:
        c["feedback"].delete_where("round_id = ?", [round_id])
        c["conversations"].delete_where("person = ?", [f"round {round_id}"])


def get_round(db: Path, id: int) -> Round:
    return find_rounds(db, "where id = ?", [id])[0]


def list_rounds(db: Path, limit: int = 50) -> list[Round]:
    return find_rounds(db, "order by id desc limit ?", [limit])


def count_by_status(db: Path) -> dict[str, int]:
    with connect(db) as c:
        return dict(map(tuple, c.execute("select status, count(*) from rounds group by status")))


def running_round(db: Path) -> Round | None:
    return next(iter(find_rounds(db, f"where status in {RUNNING} order by id desc", [])), None)


def find_rounds(db: Path, where: str, values: list) -> list[Round]:
    fields = list(Round.__dataclass_fields__)
    with connect(db) as c:
        rows = c.execute(f"select {', '.join(fields)} from rounds {where}", values).fetchall()
    return [Round(**{k: decode(k, r[k]) for k in fields}) for r in rows]


def decode(name: str, value):
    return json.loads(value) if value and name in ("recipe", "counts", "seconds", "metrics", "verdict") else value


def note_progress(
    db: Path,
    round_id: int,
    phase: str,
    step: int,
    steps: int,
    *,
    loss: float | None = None,
    eta_seconds: float | None = None,
    note: str = "",
) -> None:
    with transaction(db) as c:
        row = {"round_id": round_id, "at": now(), "phase": phase, "step": step, "steps": steps, "note": note}
        insert(c, "progress", **row, loss=loss, eta_seconds=eta_seconds)


def progress(db: Path, round_id: int) -> list[Progress]:
    """All progress rows of a round, oldest first; the last one is where it is now."""
    return find_progress(db, "round_id = ? order by id", [round_id])


def progress_now(db: Path, round_id: int) -> tuple[Progress, str] | None:
    """The last progress row of a round, and when its phase began; None before the first."""
    if not (last := find_progress(db, "round_id = ? order by id desc limit 1", [round_id])):
        return None
    (first,) = find_progress(db, "round_id = ? and phase = ? order by id limit 1", [round_id, last[0].phase])
    return last[0], first.at


def find_progress(db: Path, where: str, values: list) -> list[Progress]:
    with connect(db) as c:
        rows = c.execute(f"select {', '.join(Progress.__dataclass_fields__)} from progress where {where}", values)
        return [Progress(*r) for r in rows.fetchall()]
