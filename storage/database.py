"""Path -> connection. Opening an older database migrates it in one transaction; a newer one is refused."""

import json
import secrets
import sqlite3
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from storage.migrations import MIGRATIONS
from storage.words import searchable

DatabaseError = sqlite3.Error
BUSY_SECONDS = 15
KEPT = 8
IDLE: dict[Path, list[sqlite3.Connection]] = defaultdict(list)  # of this process's last database


class Turns:
    """A lock that serves who came first first. A plain one serves who happens to run: of fifty, some wait for ever."""

    def __init__(self):
        self.guard, self.queue = Lock(), deque()

    def __enter__(self):
        mine = Lock()
        mine.acquire()
        with self.guard:
            self.queue.append(mine)
            waits = len(self.queue) > 1
        if waits:
            mine.acquire()

    def __exit__(self, *_):
        with self.guard:
            self.queue.popleft()
            if self.queue:
                self.queue[0].release()


WRITING: dict[Path, Turns] = defaultdict(Turns)


class NewerDatabase(Exception):
    "The database was written by a newer kdloop than this one"


class UnusableHome(ValueError):
    "The home directory cannot hold a database, or what lies there is none"


def open_database(path: Path) -> Path:
    """Create or migrate the database at `path`; returns the path.

    Raises NewerDatabase when its schema is newer than this code knows, UnusableHome when nothing can be written there
    or the file is damaged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with connect(path) as c:
            c.execute("pragma journal_mode = wal")
    except (OSError, DatabaseError) as error:
        raise UnusableHome(
            f"No database can be opened in {path.parent} ({error}): set KDLOOP_HOME to a directory that can be written "
            f"to, or, where {path.name} is damaged, move it away and restore a snapshot"
        ) from error
    with transaction(path) as c:
        version = c.execute("pragma user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise NewerDatabase(
                f"{path} has schema {version}, this kdloop knows {len(MIGRATIONS)}: "
                "update kdloop, or set KDLOOP_HOME to another directory"
            )
        for migrate in MIGRATIONS[version:]:
            migrate(c)
        c.execute(f"pragma user_version = {len(MIGRATIONS)}")
    return path


@contextmanager
def connect(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for the caller alone, kept for the next one who asks: to open one is to read the schema, and to
    close a database's last one is to empty its log to the disk and wait for it."""
    if path not in IDLE:
        IDLE.clear()  # closes what was kept of another database
    idle = IDLE[path]
    try:
        c = idle.pop()
    except IndexError:
        c = opened(path)
    try:
        yield c
    finally:
        if len(idle) < KEPT and not c.in_transaction:
            idle.append(c)
        else:
            c.close()


def forget(path: Path) -> None:
    """Close what is kept of a database: another file takes its place."""
    for c in IDLE.pop(path, []):
        c.close()


def opened(path: Path) -> sqlite3.Connection:
    c = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    c.row_factory = sqlite3.Row  # isolation_level None: we write BEGIN ourselves
    c.create_function("searchable", 1, searchable, deterministic=True)
    c.execute("pragma foreign_keys = on")
    c.execute("pragma synchronous = normal")
    return c


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """All or nothing. IMMEDIATE takes the write lock at once: a lock taken late cannot wait, it fails.

    Threads of this process queue for it: SQLite's own waiters sleep and try again, some of them for seconds.
    """
    with connect(path) as c, WRITING[path]:
        c.execute("begin immediate")
        try:
            yield c
        except BaseException:
            if c.in_transaction:
                c.execute("rollback")
            raise
        c.execute("commit")


def is_there(path: Path) -> bool:
    """A database, and not the empty file that an interrupted start leaves."""
    return path.exists() and path.stat().st_size > 0


def is_writable(path: Path, seconds: float = 0.05) -> bool:
    """Could somebody write now, or within so many seconds?"""
    with connect(path) as c:
        c.execute(f"pragma busy_timeout = {round(1000 * seconds)}")
        try:
            c.execute("begin immediate")
        except sqlite3.OperationalError:
            return False
        finally:
            c.execute(f"pragma busy_timeout = {1000 * BUSY_SECONDS}")
        c.execute("rollback")
        return True


def insert(c: sqlite3.Connection, table: str, **values) -> int:
    """Insert one row; dicts and lists are stored as JSON. Returns the rowid."""
    columns = ", ".join(values)
    marks = ", ".join("?" * len(values))
    return c.execute(f"insert into {table} ({columns}) values ({marks})", encode(values)).lastrowid


def update(c: sqlite3.Connection, table: str, id: str | int, **values) -> None:
    sets = ", ".join(f"{k} = ?" for k in values)
    c.execute(f"update {table} set {sets} where id = ?", [*encode(values), id])


def encode(values: dict) -> list:
    return [json.dumps(v, ensure_ascii=False) if isinstance(v, (dict, list)) else v for v in values.values()]


def new_id() -> str:
    return secrets.token_hex(12)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
