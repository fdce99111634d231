"""Checkpoints: adapter directories and the rows that point at them.

A candidate is published whole or not at all: files go to a temporary directory, the manifest last, then one rename and
one row. The row, not the directory, says which checkpoint serves. Version 0 is the base student, without an adapter.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database

from storage import files, trials
from storage.database import connect, encode, now, transaction
from storage.rounds import RUNNING
from storage.trials import Trial

MANIFEST = "manifest.json"
ERASED = "select checkpoint_id from erasures"
ON_TRIAL = "select 1 from trials where outcome = 'running'"
OFFERED = "select checkpoint_id from offers"
ADOPTED = "adopted-"  # of directories that no round wrote


@dataclass(frozen=True)
class Checkpoint:
    """`path` is None for the base student; `version` is None until it was promoted once."""

    id: int
    version: int | None
    parent_id: int | None
    round_id: int | None
    status: str
    path: str | None
    method: str | None
    seed: int | None
    metrics: dict
    created_at: str
    promoted_at: str | None
    pruned_at: str | None

    @property
    def student(self) -> str | None:
        """Which base student it belongs to, by kdloop.student.identity; None where an older kdloop has written it."""
        return self.metrics.get("student")

    @property
    def name(self) -> str:
        return f"v{self.version}" if self.version is not None else f"candidate {self.id}"


class BrokenCheckpoint(Exception):
    "The checkpoint's directory is incomplete, damaged or pruned"


class OtherStudent(BrokenCheckpoint):
    "The checkpoint is an adapter of another base student than the one that is set"


def ensure_base(db: Path) -> Checkpoint:
    """Version 0, the untrained student; it serves until something beats it."""
    with transaction(db) as c:
        if not c["checkpoints"].count:
            c["checkpoints"].insert({"version": 0, "status": "serving", "created_at": now(), "promoted_at": now()})
    return serving(db)


def know_student(db: Path, student: str) -> str | None:
    """Record which base student this home is used with, as of kdloop.student.identity; what was recorded before, if
    that was another one."""
    with transaction(db) as c:
        before = c.execute("select json_extract(metrics, '$.student') from checkpoints where version = 0").fetchone()[0]
        c.execute("update checkpoints set metrics = json_set(metrics, '$.student', ?) where version = 0", [student])
    return before if before != student else None


def publish(
    db: Path,
    round_id: int,
    save: Callable[[Path], None],
    *,
    parent_id: int,
    method: str,
    seed: int,
    metrics: dict,
    student: str | None = None,
) -> Checkpoint:
    """Write a round's candidate, in place of the one that it had. `save(directory)` writes its files; returns the row
    once the directory is complete. `student` is the identity of the base student that it is an adapter of."""
    final = db.parent / "checkpoints" / f"{round_id:06d}"
    final.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(final) as partial:
        partial.mkdir()
        save(partial)
        metrics = metrics | ({"student": student} if student else {})
        about = {"round": round_id, "parent": parent_id, "method": method, "seed": seed, "metrics": metrics}
        seal(partial, about | {"created_at": now()})
    with transaction(db) as c:
        row = {
            "parent_id": parent_id,
            "round_id": round_id,
            "status": "candidate",
            "path": f"checkpoints/{final.name}",  # relative: the home directory may move
            "method": method,
            "seed": seed,
            "metrics": metrics,
            "created_at": now(),
        }
        (id,) = c.execute("select candidate_id from rounds where id = ?", [round_id]).fetchone()
        if id:
            c["checkpoints"].update(id, encode(row))
        else:
            id = c["checkpoints"].insert(encode(row)).last_pk
            c["rounds"].update(round_id, {"candidate_id": id})
    return get_checkpoint(db, id)


def seal(directory: Path, about: dict) -> None:
    """Write the manifest: `about`, and the hash of every other file of the directory."""
    hashes = {f.name: sha256(f) for f in sorted(directory.iterdir()) if f.is_file() and f.name != MANIFEST}
    files.write(directory / MANIFEST, json.dumps(about | {"files": hashes}, indent=1))


def manifest(directory: Path) -> dict:
    """Raises BrokenCheckpoint where there is none, or half of one."""
    try:
        told = json.loads(files.read_text(directory / MANIFEST))
        return told | {"files": dict(told["files"])}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BrokenCheckpoint(f"{directory} is incomplete ({error!r}); roll back to another version") from error


def adapter_dir(db: Path, checkpoint: Checkpoint, student: str | None = None) -> Path | None:
    """The checkpoint's adapter directory, verified against its manifest; None for the base student.

    Raises BrokenCheckpoint where it is not what was published, and OtherStudent where it is known to be of another
    base student than `student`.
    """
    if checkpoint.path is None:
        return None
    directory = db.parent / checkpoint.path
    if checkpoint.pruned_at:
        raise BrokenCheckpoint(f"{checkpoint.name}: {directory} is pruned; roll back to another version")
    for name, digest in manifest(directory)["files"].items():
        if not (directory / name).is_file() or sha256(directory / name) != digest:
            raise BrokenCheckpoint(f"{checkpoint.name}: {directory / name} was changed after it was published")
    if student and checkpoint.student and student != checkpoint.student:
        raise OtherStudent(
            f"{checkpoint.name} was trained on another student than the one that is set: set KDLOOP_STUDENT to that "
            "one again (and the same files), serve v0 (Models tab), or set KDLOOP_HOME to a new directory"
        )
    return directory


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def promote(
    db: Path, candidate_id: int, round_id: int | None = None, mode: str = "judge", **round_values
) -> Checkpoint:
    """The candidate serves from now on and the former champion retires; the round's end is the same transaction. In the
    modes `trial` and `confirm` (Settings.promotion) so is the beginning of its trial; in `confirm` it does not serve.

    A round whose champion serves no more (an owner rolled back meanwhile), or that is being cancelled, ends rejected.
    """
    with transaction(db) as c:
        status = c.execute("select status from checkpoints where id = ?", [candidate_id]).fetchone()[0]
        if status != "candidate":
            raise ValueError(f"Checkpoint {candidate_id} is {status}; only a candidate can be promoted")
        if why := round_id and overtaken(c, round_id):
            verdict = round_values.get("verdict") or {}
            round_values["verdict"] = verdict | {"passed": False, "reason": f"Rejected: {why}"}
            end_rejected(c, candidate_id, round_id, round_values)
        else:
            if mode != "judge":
                trials.begin(c, round_id, candidate_id, mode)
            if mode != "confirm":
                begin_to_serve(c, candidate_id)
            if round_id:
                status = "promoted" if mode == "judge" else "on trial"
                c["rounds"].update(round_id, encode({"status": status, "finished_at": now()} | round_values))
    return get_checkpoint(db, candidate_id)


def overtaken(c: Database, round_id: int) -> str:
    """What happened during a round that its promotion would undo; "" for nothing."""
    base, cancelled = c.execute("select base_id, cancel_requested_at from rounds where id = ?", [round_id]).fetchone()
    if cancelled:
        return "the round was to be cancelled when it ended"
    id, version = c.execute("select id, version from checkpoints where status = 'serving'").fetchone()
    if id == base:
        return ""
    return f"v{version} was made to serve during the round, and the candidate was compared with another champion"


def reject(db: Path, candidate_id: int, round_id: int, **round_values) -> None:
    with transaction(db) as c:
        end_rejected(c, candidate_id, round_id, round_values)


def end_rejected(c: Database, candidate_id: int, round_id: int, round_values: dict) -> None:
    c["checkpoints"].update(candidate_id, {"status": "rejected"})
    c["rounds"].update(round_id, encode({"status": "rejected", "finished_at": now()} | round_values))


def serve(db: Path, id: int) -> Checkpoint:
    """By an owner's hand: serve an earlier version again, or a candidate that the gate refused, which then gets a
    version. It ends a running trial. Raises BrokenCheckpoint where its files are pruned or damaged."""
    adapter_dir(db, get_checkpoint(db, id))
    with transaction(db) as c:
        begin_to_serve(c, id)
        if trial := trials.running_in(c):
            trials.end_row(c, trial.id, "ended by owner", {})
            close_round(c, trial, id == trial.challenger, "An owner has ended the trial")
    return serving(db)


def end_trial(db: Path, trial: Trial, outcome: str, evidence: dict, why: str, back_to: int) -> bool:
    """Confirm the challenger, or roll back to the checkpoint `back_to`, and record it, in one transaction; False where
    somebody else has ended the trial."""
    with transaction(db) as c:
        if not trials.end_row(c, trial.id, outcome, evidence):
            return False
        if outcome == "confirmed" and trial.mode == "confirm":
            begin_to_serve(c, trial.challenger)
        if outcome == "rolled back" and trial.mode == "trial":
            begin_to_serve(c, back_to)
        close_round(c, trial, outcome == "confirmed", why)
    return True


def close_round(c: Database, trial: Trial, confirmed: bool, why: str) -> None:
    """Of a trial that has ended: the round's last status, and the reason in its verdict."""
    if not confirmed:
        c["checkpoints"].update(trial.challenger, {"status": "rejected"})
    verdict = json.loads(c.execute("select verdict from rounds where id = ?", [trial.round_id]).fetchone()[0] or "{}")
    verdict["reason"] = ". ".join(filter(None, [verdict.get("reason"), why]))
    status = "promoted" if confirmed else "rejected"
    c["rounds"].update(trial.round_id, encode({"status": status, "verdict": verdict}))


def begin_to_serve(c: Database, id: int) -> None:
    """Under its version, or where it has none under the next."""
    version = "select coalesce(version, (select max(version) + 1 from checkpoints)) from checkpoints where id = ?"
    version = c.execute(version, [id]).fetchone()[0]
    c.execute("update checkpoints set status = 'retired' where status = 'serving'")
    c["checkpoints"].update(id, {"status": "serving", "version": version, "promoted_at": now()})


def prune(db: Path, keep: int = 5, keep_rejected: int = 1) -> list[int]:
    """Delete the files of all but the last `keep` retired versions and `keep_rejected` refused candidates, and of
    candidates whose round did not judge them; and of all that has learned from what was erased since, once the
    champion's line is repeated without it. Those of a running trial are kept, and of the first what is offered in the
    chat. The rows stay. What no row names, a
    killed round has left."""
    judged = "round_id not in (select id from rounds where status in ('failed', 'cancelled'))"
    forgotten = (
        "select 1 from checkpoints k join rounds r on r.id = k.round_id where k.status = 'serving' and r.replays"
    )
    over = f"(id in ({ERASED}) and exists ({forgotten} and k.id not in ({ERASED})) and not exists ({ON_TRIAL}))"
    newest = f"select id from checkpoints where status = ? and path is not null and {judged} order by id desc limit ?"
    with transaction(db) as c:
        rows = c.execute(
            "select id from checkpoints where pruned_at is null and path is not null and ((status = 'retired' and "
            f"id not in ({newest}) or status = 'rejected' and id not in ({newest})) and id not in ({OFFERED}) "
            f"or status in ('retired', 'rejected') and {over}) "
            "and id not in (select champion from trials where outcome = 'running')",
            ["retired", keep, "rejected", keep_rejected],
        ).fetchall()
        for (id,) in rows:
            c["checkpoints"].update(id, {"pruned_at": now()})
        living = c.execute("select path from checkpoints where pruned_at is null and path is not null")
        running = c.execute(f"select id from rounds where status in {RUNNING}")
        kept = {Path(path).name for (path,) in living} | {f"{id:06d}" for (id,) in running}
    root = db.parent / "checkpoints"
    files.sweep(root)
    for directory in root.iterdir() if root.is_dir() else ():
        if directory.name not in kept and (directory.name.isdigit() or directory.name.startswith(ADOPTED)):
            files.remove(directory)
    return [id for (id,) in rows]


def erased(db: Path) -> set[int]:
    """Ids of the checkpoints whose line has read words or votes of somebody who was erased since."""
    with connect(db) as c:
        return {r[0] for r in c.execute(ERASED)}


def serving(db: Path) -> Checkpoint:
    return find(db, "where status = 'serving'")[0]


def get_checkpoint(db: Path, id: int) -> Checkpoint:
    return find(db, "where id = ?", id)[0]


def lineage(db: Path) -> list[Checkpoint]:
    """Every checkpoint, oldest first; `parent_id` and `round_id` say where each comes from."""
    return find(db, "order by id")


def base(db: Path) -> Checkpoint:
    """Version 0, the untrained student."""
    return find(db, "where version = 0")[0]


def find(db: Path, where: str, *values) -> list[Checkpoint]:
    fields = list(Checkpoint.__dataclass_fields__)
    with connect(db) as c:
        rows = c.execute(f"select {', '.join(fields)} from checkpoints {where}", values).fetchall()
    return [Checkpoint(**{k: json.loads(r[k]) if k == "metrics" else r[k] for k in fields}) for r in rows]
