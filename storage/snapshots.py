"""Snapshots: one archive of the database, the living checkpoints and the signing key, and `latest.json`, written last,
that names it.

A target is a folder, or a private dataset repository of the Hugging Face Hub ("hf://datasets/OWNER/NAME"). For places
whose disk does not outlive a restart, such as a Space: a start with an empty home restores the latest snapshot.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from contextlib import closing, contextmanager
from fnmatch import fnmatch
from pathlib import Path
from threading import RLock
from typing import Protocol

from storage.database import connect, new_id, now

HUB = "hf://datasets/"
LATEST = "latest.json"
ARCHIVES = "kdloop-*.tar.gz"
KEEP = 5  # archives in a folder
SECRET = "secret"  # signs the ids in people's browsers: without it nobody could see or delete their data again
OWED = "snapshots-owed"  # there was an erasure that older snapshots would undo
SAVING = RLock()  # one at a time: `latest.json` must never name an archive that another one made go


class DamagedSnapshot(Exception):
    "The archive is not what was written, or its database is not sound"


class Unreachable(OSError):
    "The Hub does not answer, or does not let us in: whether it has a snapshot is not known"


class Target(Protocol):
    def put(self, file: Path, name: str) -> None: ...

    def get(self, name: str, file: Path) -> bool:
        """False when there is none of that name. Raises Unreachable where that cannot be known."""

    def keep_only(self, name: str) -> None:
        """Every other archive goes, for good."""


class Folder:
    def __init__(self, path: Path):
        self.path = path

    def put(self, file: Path, name: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / f"{name}.partial"
        shutil.copyfile(file, partial)
        os.replace(partial, self.path / name)
        for old in sorted(self.path.glob(ARCHIVES))[:-KEEP]:
            old.unlink()

    def get(self, name: str, file: Path) -> bool:
        if not (self.path / name).exists():
            return False
        shutil.copyfile(self.path / name, file)
        return True

    def keep_only(self, name: str) -> None:
        for old in self.path.glob(ARCHIVES):
            if old.name != name:
                old.unlink()


class HubDataset:
    """Needs HF_TOKEN with write access; the repository is created private."""

    def __init__(self, repo: str, endpoint: str | None = None):
        from huggingface_hub import HfApi

        self.repo, self.api = repo, HfApi(endpoint)

    @contextmanager
    def answering(self):
        from huggingface_hub.errors import HTTPError

        try:
            yield
        except (OSError, HTTPError, RuntimeError) as error:  # RuntimeError: of Xet, which moves large files
            raise Unreachable(f"{HUB}{self.repo}: {error}") from error

    def put(self, file: Path, name: str) -> None:
        with self.answering():
            self.api.create_repo(self.repo, repo_type="dataset", private=True, exist_ok=True)
            self.api.upload_file(path_or_fileobj=file, path_in_repo=name, repo_id=self.repo, repo_type="dataset")

    def get(self, name: str, file: Path) -> bool:
        """A copy of its own, never one of the Hub's cache, which may be of another day."""
        from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError

        with self.answering(), tempfile.TemporaryDirectory() as directory:
            try:
                got = self.api.hf_hub_download(self.repo, name, repo_type="dataset", local_dir=directory)
            except (RemoteEntryNotFoundError, RepositoryNotFoundError) as error:
                if error.response.status_code == 404:  # 401 is said of every private repository to who has no token
                    return False
                raise
            shutil.move(got, file)
        return True

    def keep_only(self, name: str) -> None:
        """Its history goes too: every commit of it would still give the older archives."""
        with self.answering():
            files = self.api.list_repo_files(self.repo, repo_type="dataset")
            if old := [f for f in files if fnmatch(f, ARCHIVES) and f != name]:
                self.api.delete_files(self.repo, old, repo_type="dataset", commit_message="Delete older snapshots")
            self.api.super_squash_history(self.repo, repo_type="dataset")


def open_target(address: str) -> Target:
    return HubDataset(address.removeprefix(HUB)) if address.startswith(HUB) else Folder(Path(address))


def take(db: Path, target: Target) -> str:
    """Write a snapshot; returns the archive's name. Readers and writers go on meanwhile (VACUUM INTO)."""
    with SAVING, tempfile.TemporaryDirectory() as directory:
        copy, archive = Path(directory) / db.name, Path(directory) / "archive"
        with connect(db) as c:
            c.execute("vacuum into ?", [str(copy)])
            living = c.execute("select path from checkpoints where path is not null and pruned_at is null").fetchall()
        check(copy)
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(copy, db.name)
            for path in (SECRET, *(path for (path,) in living)):
                if (db.parent / path).exists():
                    tar.add(db.parent / path, path)
        name = f"kdloop-{now().replace(':', '').replace('+0000', 'Z')}.tar.gz"
        target.put(archive, name)
        latest = Path(directory) / LATEST
        latest.write_text(json.dumps({"archive": name, "sha256": digest(archive), "taken_at": now()}))
        target.put(latest, LATEST)
    return name


def owe(db: Path) -> None:
    (db.parent / OWED).write_text(new_id())


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
    """Fill an empty home with the latest snapshot; its archive's name, or None where there is none.

    Raises FileExistsError where there is a database already, DamagedSnapshot for an archive that is not sound,
    Unreachable where the target does not say whether it has one.
    """
    if db.exists():
        raise FileExistsError(f"{db} is there already: a restore never overwrites; move it away first")
    with tempfile.TemporaryDirectory() as directory:
        latest, archive = Path(directory) / LATEST, Path(directory) / "archive"
        if not target.get(LATEST, latest):
            return None
        told = json.loads(latest.read_text())
        if not target.get(told["archive"], archive) or digest(archive) != told["sha256"]:
            raise DamagedSnapshot(f"{told['archive']} is missing or was changed")
        with tarfile.open(archive) as tar:
            tar.extractall(Path(directory) / "out", filter="data")
        restored = Path(directory) / "out"
        check(restored / db.name)
        db.parent.mkdir(parents=True, exist_ok=True)
        for path in sorted(restored.iterdir(), key=lambda p: p.name == db.name):  # the database last: it means complete
            shutil.move(path, db.parent / path.name)
    return told["archive"]


def check(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as c:
        if c.execute("pragma integrity_check").fetchone()[0] != "ok":
            raise DamagedSnapshot(f"{copy.name} fails its integrity check")


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
