"""What a process that was killed has left in a home: recognised at the next start, and removed."""

from pathlib import Path

from storage import checkpoints, files, search
from storage.database import connect

JOURNAL = "journal"  # in a round's folder: what it has computed so far, people's words among it


def clear(db: Path) -> None:
    """Half-written files and directories, checkpoints that no row names, and what an erasure had yet to delete."""
    for directory in (db.parent, db.parent / "checkpoints", db.parent / "features"):
        files.sweep(directory)
    for journal in db.parent.glob(f"rounds/*/{JOURNAL}"):  # of a round that the app's end has ended
        files.remove(journal)
    checkpoints.prune(db)
    search.finish_merge(db)
    with connect(db) as c:
        for sidecar in (db.parent / "features").glob("*.npz"):
            if not c.execute("select 1 from feedback where id = ?", [sidecar.stem]).fetchone():
                sidecar.unlink(missing_ok=True)
        c.execute("pragma wal_checkpoint(truncate)")  # deleted text would stay readable in the log
