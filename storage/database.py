"""Path -> connection. Opening an older database migrates it in one transaction; a newer one is refused."""

import json
import os
import secrets
import sqlite3
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from sqlite_utils import Database, Migrations

from storage.migrations import MIGRATIONS

DatabaseError = sqlite3.Error
BUSY_SECONDS = 15
KEPT = 8
IDLE: dict[Path, list[Database]] = defaultdict(list)  # of this process's last database


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
OF_PARENT: list = []  # connections of the process that this one was forked from: never used, never closed


def leave_to_parent() -> None:
    """A forked process has connections, and locks, of its own: SQLite's do not survive a fork (sqlite.org/faq.html)."""
    OF_PARENT.extend(IDLE.values())
    IDLE.clear()
    WRITING.clear()


os.register_at_fork(after_in_child=leave_to_parent)


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
            c.enable_wal()
    except (OSError, DatabaseError) as error:
        raise UnusableHome(
            f"No database can be opened in {path.parent} ({error}): set KDLOOP_HOME to a directory that can be written "
            f"to, or, where {path.name} is damaged, move it away and restore a snapshot"
        ) from error
    with transaction(path) as c:
        migrate(c, path)
    return path


def migrate(c: Database, path: Path) -> None:
    """Apply the pending migrations; within the caller's transaction they are savepoints, so all of them or none.

    `pragma user_version` goes on to count them: a kdloop from before `_sqlite_migrations` refuses a newer database by
    it, and here it says which ones such a kdloop has applied.
    """
    version = c.execute("pragma user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise NewerDatabase(
            f"{path} has schema {version}, this kdloop knows {len(MIGRATIONS)}: "
            "update kdloop, or set KDLOOP_HOME to another directory"
        )
    migrations = Migrations("kdloop")
    for function in MIGRATIONS:
        migrations()(function)
    migrations.ensure_migrations_table(c)
    if not migrations.applied(c):
        rows = ({"migration_set": "kdloop", "name": f.__name__, "applied_at": now()} for f in MIGRATIONS[:version])
        c[Migrations.migrations_table].insert_all(rows)
    migrations.apply(c)
    c.execute(f"pragma user_version = {len(MIGRATIONS)}")


@contextmanager
def connect(path: Path) -> Iterator[Database]:
    """A connection for the caller alone, kept for the next one who asks: to open one is to read the schema, and to
    close a database's last one is to empty its log to the disk and wait for it."""
    if path not in IDLE:
        IDLE.clear()  # closes what was kept of another database
    idle = IDLE[path]
    try:
        c = idle.pop()
    except IndexError:
        c = new_connection(path)
    try:
        yield c
    finally:
        if len(idle) < KEPT and not c.conn.in_transaction:
            idle.append(c)
        else:
            c.close()


def forget(path: Path) -> None:
    """Close what is kept of a database: another file takes its place."""
    for c in IDLE.pop(path, []):
        c.close()


def new_connection(path: Path) -> Database:
    """No plugins (those of sqlite-utils that are installed would run on every connection, unasked), and no trigger that
    fires itself: none of ours is made for it."""
    # isolation_level None: a transaction begins where transaction() says so, and nowhere else
    conn = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    conn.row_factory = sqlite3.Row
    c = Database(conn, execute_plugins=False, recursive_triggers=False)
    c.execute("pragma foreign_keys = on")
    c.execute("pragma synchronous = normal")
    c.execute("pragma secure_delete = on")  # always: a page that is freed today may hold what is erased tomorrow
    return c


@contextmanager
def transaction(path: Path) -> Iterator[Database]:
    """All or nothing. By hand: `Database.atomic` begins without the write lock, which fails at once if taken late.

    Threads of this process queue for it: SQLite's own waiters sleep and try again, and the last of fifty waits 1.2 s
    instead of 0.1 s (docs/log.md).
    """
    with connect(path) as c, WRITING[path]:
        c.execute("begin immediate")
        try:
            yield c
        except BaseException:
            c.rollback()
            raise
        c.commit()


def is_there(path: Path) -> bool:
    """A database, and not the empty file that an interrupted start leaves."""
    return path.exists() and path.stat().st_size > 0


def is_writable(path: Path, seconds: float = 0.05) -> bool:
    """Could somebody write now, or within `seconds`?"""
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


def faults(path: Path) -> list[str]:
    """What SQLite's own checks find wrong with the file, and rows that point at none; [] where it is sound."""
    with connect(path) as c:
        found = [row[0] for row in c.execute("pragma integrity_check") if row[0] != "ok"]
        return found + [
            f"{row[0]} points at a missing row of {row[2]}" for row in c.execute("pragma foreign_key_check")
        ]


def insert(c: Database, table: str, **values) -> None:
    """Insert one row, of what is written all the time: conversations, turns, completions, votes, a round's progress. By
    hand, as `Table.insert` reads the schema first: 0.2 ms each, for which fifty people would wait in the queue."""
    marks = ", ".join("?" * len(values))
    c.execute(f"insert into {table} ({', '.join(values)}) values ({marks})", [*encode(values).values()])


def existing(c: Database, table: str, ids: Iterable[str]) -> set[str]:
    """Those of the ids that are in the table."""
    rows = c.execute(f"select id from {table} where id in (select value from json_each(?))", [json.dumps([*ids])])
    return {r[0] for r in rows}


def encode(row: dict) -> dict:
    """Lists and dicts as JSON. Raises TypeError for what JSON cannot hold: sqlite-utils would store its repr."""
    return {k: json.dumps(v, ensure_ascii=False) if isinstance(v, (dict, list)) else v for k, v in row.items()}


def new_id() -> str:
    return secrets.token_hex(12)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
