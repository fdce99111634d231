"""Where snapshots are kept: a folder, or a private dataset repository of the Hugging Face Hub ("hf://datasets/OWNER/NAME")."""

import re
import shutil
import tempfile
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Protocol

from storage import files

HUB = "hf://datasets/"
ARCHIVES = "kdloop-*.tar.gz"
NUMBERED = re.compile(r"kdloop-(\d{6,})-")
KEEP = 5  # archives in a folder


class Unreachable(OSError):
    "The Hub does not answer, or does not let us in: whether it has a snapshot is not known"


class Target(Protocol):
    def put(self, file: Path, name: str) -> None: ...

    def get(self, name: str, file: Path) -> bool:
        """False when there is none of that name. Raises Unreachable where that cannot be known."""

    def archives(self) -> list[str]:
        """Names of the archives that are there."""

    def tidy(self, name: str) -> None:
        """Archives that are too many go: never the one of that name, which `latest.json` names."""

    def keep_only(self, name: str) -> None:
        """Every other archive goes, for good."""


class Folder:
    def __init__(self, path: Path):
        self.path = path

    def put(self, file: Path, name: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        files.sweep(self.path)  # what was half copied holds words that may have been erased since
        with files.whole(self.path / name) as partial:
            shutil.copyfile(file, partial)

    def get(self, name: str, file: Path) -> bool:
        if not (self.path / name).exists():
            return False
        shutil.copyfile(self.path / name, file)
        return True

    def archives(self) -> list[str]:
        return [old.name for old in self.path.glob(ARCHIVES)]

    def tidy(self, name: str) -> None:
        others = sorted((n for n in self.archives() if n != name), key=number)
        for old in others[: max(0, len(others) - KEEP + 1)]:
            (self.path / old).unlink()

    def keep_only(self, name: str) -> None:
        files.sweep(self.path)
        for old in self.archives():
            if old != name:
                (self.path / old).unlink()


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

    def archives(self) -> list[str]:
        from huggingface_hub.errors import RepositoryNotFoundError

        with self.answering():
            try:
                return [f for f in self.api.list_repo_files(self.repo, repo_type="dataset") if fnmatch(f, ARCHIVES)]
            except RepositoryNotFoundError as error:
                if error.response.status_code == 404:
                    return []
                raise

    def tidy(self, name: str) -> None:
        """A commit that deletes frees nothing there: all stay until an erasure."""

    def keep_only(self, name: str) -> None:
        """Its history goes too: every commit of it would still give the older archives."""
        with self.answering():
            if old := [f for f in self.archives() if f != name]:
                self.api.delete_files(self.repo, old, repo_type="dataset", commit_message="Delete older snapshots")
            self.api.super_squash_history(self.repo, repo_type="dataset")


def number(name: str) -> tuple[int, str]:
    """A key that sorts archives by age; those of older versions of kdloop have no number and come first."""
    found = NUMBERED.match(name)
    return int(found[1]) if found else 0, name


def open_target(address: str) -> Target:
    """Raises ValueError for an empty address, which would be the directory that kdloop was started in."""
    if not address.strip():
        raise ValueError(f"A snapshot's target is empty: give a folder, or {HUB}OWNER/NAME")
    return HubDataset(address.removeprefix(HUB)) if address.startswith(HUB) else Folder(Path(address).expanduser())
