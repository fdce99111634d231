"""Snapshots: one archive of the database and the living checkpoints, and `latest.json`, written last, that names it.

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
from contextlib import closing
from pathlib import Path
from typing import Protocol

from storage.database import connect, now

HUB = "hf://datasets/"
LATEST = "latest.json"
KEEP = 5  # archives in a folder


class DamagedSnapshot(Exception):
    "The archive is not what was written, or its database is not sound"


class Target(Protocol):
    def put(self, file: Path, name: str) -> None: ...

    def get(self, name: str, file: Path) -> bool:
        """False when there is none of that name."""


class Folder:
    def __init__(self, path: Path):
        self.path = path

    def put(self, file: Path, name: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / f"{name}.partial"
        shutil.copyfile(file, partial)
        os.replace(partial, self.path / name)
        for old in sorted(self.path.glob("kdloop-*.tar.gz"))[:-KEEP]:
            old.unlink()

    def get(self, name: str, file: Path) -> bool:
        if not (self.path / name).exists():
            return False
        shutil.copyfile(self.path / name, file)
        return True


class HubDataset:
    """Needs HF_TOKEN with write access; the repository is created private."""

    def __init__(self, repo: str):
        from huggingface_hub import HfApi

        self.repo, self.api = repo, HfApi()

    def put(self, file: Path, name: str) -> None:
        self.api.create_repo(self.repo, repo_type="dataset", private=True, exist_ok=True)
        self.api.upload_file(path_or_fileobj=file, path_in_repo=name, repo_id=self.repo, repo_type="dataset")

    def get(self, name: str, file: Path) -> bool:
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

        try:
            shutil.copyfile(self.api.hf_hub_download(self.repo, name, repo_type="dataset"), file)
        except (EntryNotFoundError, RepositoryNotFoundError):
            return False
        return True


def open_target(address: str) -> Target:
    return HubDataset(address.removeprefix(HUB)) if address.startswith(HUB) else Folder(Path(address))


def take(db: Path, target: Target) -> str:
    """Write a snapshot; returns the archive's name. Readers and writers go on meanwhile (VACUUM INTO)."""
    with tempfile.TemporaryDirectory() as directory:
        copy, archive = Path(directory) / db.name, Path(directory) / "archive"
        with connect(db) as c:
            c.execute("vacuum into ?", [str(copy)])
            living = c.execute("select path from checkpoints where path is not null and pruned_at is null").fetchall()
        check(copy)
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(copy, db.name)
            for (path,) in living:
                if (db.parent / path).exists():
                    tar.add(db.parent / path, path)
        name = f"kdloop-{now().replace(':', '').replace('+0000', 'Z')}.tar.gz"
        target.put(archive, name)
        latest = Path(directory) / LATEST
        latest.write_text(json.dumps({"archive": name, "sha256": digest(archive), "taken_at": now()}))
        target.put(latest, LATEST)
    return name


def restore(db: Path, target: Target) -> str | None:
    """Fill an empty home with the latest snapshot; its archive's name, or None where there is none.

    Raises FileExistsError where there is a database already, DamagedSnapshot for an archive that is not sound.
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
