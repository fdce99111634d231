"""An adapter that no round here has trained, as the first champion (kdloop/student/adopting.py checks it)."""

from collections.abc import Callable
from pathlib import Path

from storage import audit, files
from storage.checkpoints import ADOPTED, Checkpoint, begin_to_serve, get_checkpoint, lineage, seal
from storage.database import encode, new_id, now, transaction


def require_base_alone(db: Path) -> None:
    """Raises ValueError where something else than the base student serves or has served."""
    others = [k.name for k in lineage(db) if k.version]
    if others:
        raise ValueError(f"An adapter can only be the first champion, and there is {others[-1]}: use a new --home")


def adopt(db: Path, save: Callable[[Path], None], *, metrics: dict, student: str, who: str, about: str) -> Checkpoint:
    """An adapter that no round trained serves from now on, as v1. Raises ValueError as `require_base_alone`."""
    final = db.parent / "checkpoints" / f"{ADOPTED}{new_id()[:8]}"
    final.parent.mkdir(parents=True, exist_ok=True)
    metrics = metrics | {"student": student}
    with files.whole(final) as partial:
        partial.mkdir()
        save(partial)
        seal(partial, {"adopted": about, "metrics": metrics, "created_at": now()})
    require_base_alone(db)
    with transaction(db) as c:
        (base,) = c.execute("select id from checkpoints where version = 0").fetchone()
        row = {"parent_id": base, "status": "candidate", "path": f"checkpoints/{final.name}", "method": "adopted"}
        id = c["checkpoints"].insert(encode(row | {"metrics": metrics, "created_at": now()})).last_pk
        begin_to_serve(c, id)
        audit.note(c, who, "adopted an adapter", about)
    return get_checkpoint(db, id)
