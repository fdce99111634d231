"""Snapshots: one archive of the database, the living checkpoints, installed packs and the signing key, and
`latest.json`, written last, that names it. Archives are numbered: which is newest does not depend on a clock.

A target is a folder, or a private dataset repository of the Hugging Face Hub ("hf://datasets/OWNER/NAME"). For places
whose disk does not outlive a restart, such as a Space: a start with an empty home restores the latest snapshot.
"""

import hashlib
import json
import os
import sqlite3
import tarfile
from contextlib import closing
from itertools import count
from pathlib import Path
from threading import RLock

from storage import files, log
from storage.database import connect, forget, is_there, new_id, now
from storage.targets import HUB, KEEP, Folder, HubDataset, Target, Unreachable, number, open_target

__all__ = ["HUB", "KEEP", "Folder", "HubDataset", "Target", "Unreachable", "open_target"]  # one module for callers

LATEST = "latest.json"
PACKS = "packs"  # those that were installed into this home
SECRET = "secret"  # signs the ids in people's browsers: without it nobody could see or delete their data again
BELONGING = ("checkpoints", "rounds", "features")  # to one database's rows, by their ids
OWED = "snapshots-owed"  # there was an erasure that older snapshots would undo
SAVING = RLock()  # one at a time: `latest.json` must never name an archive that another one made go


class DamagedSnapshot(Exception):
    "The archive is not what was written, or its database is not sound"


class ForgottenErasure(Exception):
    "The latest snapshot is of before an erasure, and would bring back what was deleted"


def take(db: Path, target: Target) -> str:
    """Write a snapshot; returns the archive's name. Readers and writers go on meanwhile (VACUUM INTO)."""
    if not is_there(db):
        raise ValueError(f"There is no database {db} to take a snapshot of")
    files.sweep(db.parent, "snapshot")
    with SAVING, files.scratch(db.parent / "snapshot") as directory:
        directory.mkdir()
        copy, archive = directory / db.name, directory / "archive"
        with connect(db) as c:
            c.execute("vacuum into ?", [str(copy)])
            living = c.execute("select path from checkpoints where path is not null and pruned_at is null").fetchall()
        check(copy)
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(copy, db.name)
            for path in (SECRET, PACKS, *(path for (path,) in living)):
                if (db.parent / path).exists():
                    tar.add(db.parent / path, path, filter=finished)
        last = max((number(name)[0] for name in target.archives()), default=0)
        name = f"kdloop-{last + 1:06d}-{now().replace(':', '').replace('+0000', 'Z')}.tar.gz"
        target.put(archive, name)
        latest = directory / LATEST
        latest.write_text(json.dumps({"archive": name, "sha256": digest(archive), "taken_at": now()}))
        target.put(latest, LATEST)
        target.tidy(name)
    return name


def finished(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """None for what is being written just now."""
    return None if member.name.endswith(files.PARTIAL) else member


def owe(db: Path) -> None:
    files.sweep(db.parent)  # a copy of the database among them, if it was killed amid a snapshot
    files.write(db.parent / OWED, new_id())


def owed(db: Path) -> bool:
    return (db.parent / OWED).exists()


def renew(db: Path, target: Target) -> str:
    """After an erasure: a fresh snapshot, and all older ones go, whose restore would bring back what was deleted."""
    since = (db.parent / OWED).read_text()
    with SAVING:
        name = take(db, target)
        target.keep_only(name)
    if (db.parent / OWED).read_text() == since:  # no other erasure meanwhile
        (db.parent / OWED).unlink()
    return name


def restore(db: Path, target: Target) -> str | None:
    """Fill a home without a database with the latest snapshot; its archive's name, or None where there is none.

    What lies there of another database (its log, its checkpoints) is set aside in a directory `before-restore-N`.
    Raises FileExistsError where there is a database already, DamagedSnapshot for an archive that is not sound,
    ForgottenErasure where an erasure is not in it, Unreachable where the target does not say whether it has one.
    """
    if is_there(db):
        raise FileExistsError(
            f"{db} is there already: a restore never overwrites; move it away first ({db.name}-wal, if there is one, "
            "with it: it holds the newest of its rows)"
        )
    files.sweep(db.parent, "restore")
    with files.scratch(db.parent / "restore") as directory:
        directory.mkdir(parents=True)
        told, archive = newest(target, directory), directory / "archive"
        if told is None:
            return None
        if owed(db):
            raise ForgottenErasure(
                f"Somebody's data was erased here after {told['archive']} was taken, which would bring it back. To "
                f"restore it all the same, delete {db.parent / OWED}"
            )
        if not target.get(told["archive"], archive) or digest(archive) != told["sha256"]:
            raise DamagedSnapshot(f"{told['archive']} is missing or was changed")
        restored = directory / "out"
        with tarfile.open(archive) as tar:
            tar.extractall(restored, filter="data")
        check(restored / db.name)
        files.sync(restored)
        forget(db)
        set_aside(db, [path.name for path in restored.iterdir()])
        for path in sorted(restored.iterdir(), key=lambda p: p.name == db.name):  # the database last: it means complete
            os.replace(path, db.parent / path.name)
        files.to_disk(db.parent)
    return told["archive"]


def newest(target: Target, directory: Path) -> dict | None:
    """What `latest.json` says; None where there is none. Raises DamagedSnapshot where it cannot be read."""
    latest = directory / LATEST
    if not target.get(LATEST, latest):
        return None
    try:
        told = json.loads(files.read_text(latest))
        return {"archive": told["archive"], "sha256": told["sha256"]}
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedSnapshot(f"{LATEST} does not name an archive ({error!r})") from error


def set_aside(db: Path, names: list[str]) -> None:
    """Whatever belongs to the database that was here: beside another one it would be taken for that one's."""
    of_database = [db.name, *(f"{db.name}-{end}" for end in ("wal", "shm", "journal"))]
    there = [path for name in [*of_database, *names, *BELONGING] if (path := db.parent / name).exists()]
    if not there:
        return
    aside = next(p for n in count(1) if not (p := db.parent / f"before-restore-{n}").exists())
    aside.mkdir()
    for path in dict.fromkeys(there):
        os.replace(path, aside / path.name)
    log.event("put aside", f"what lay in {db.parent} of another database is in {aside}")


def check(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as c:
        if c.execute("pragma integrity_check").fetchone()[0] != "ok":
            raise DamagedSnapshot(f"{copy.name} fails its integrity check")


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
