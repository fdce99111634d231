"""What versions have got right of packs' held-out prompts: of each pack and version the newest measurement."""

from dataclasses import dataclass
from pathlib import Path

from storage.database import connect, now, transaction


@dataclass(frozen=True)
class Measurement:
    """`solved` of `n` prompts; `digest` names these prompts and their checks."""

    pack: str
    checkpoint_id: int
    digest: str
    n: int
    solved: int


def record(db: Path, student: str, measured: list[Measurement]) -> None:
    """`student` is the identity of the base student that was measured, as of kdloop.student.identity."""
    with transaction(db) as c:
        for m in measured:
            c["measurements"].upsert(vars(m) | {"student": student, "measured_at": now()}, pk=("pack", "checkpoint_id"))


def newest(db: Path, checkpoint_id: int) -> dict[str, Measurement]:
    """By pack. What was measured of another base student than the one that this home is used with is left out."""
    known = "select 1 from checkpoints b where b.version = 0 and json_extract(b.metrics, '$.student') <> m.student"
    with connect(db) as c:
        rows = c.execute(
            "select pack, checkpoint_id, digest, n, solved from measurements m "
            f"where checkpoint_id = ? and not exists ({known})",
            [checkpoint_id],
        ).fetchall()
    return {row["pack"]: Measurement(*row) for row in rows}
