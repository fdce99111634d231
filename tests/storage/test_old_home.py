"""A home that an older kdloop has written opens, is migrated once and in one transaction, and loses nothing."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from storage import checkpoints, choices, conversations, feedback, people, rounds, teachers
from storage.database import NewerDatabase, connect, open_database
from storage.migrations import MIGRATIONS

ROOT = Path(__file__).parents[2]
COUNTED = 14  # migrations that `pragma user_version` alone counted


@pytest.fixture
def old_home(tmp_path):
    """The database that old_home.py wrote."""
    path = tmp_path / "kdloop.db"
    with closing(sqlite3.connect(path)) as c:
        c.executescript((Path(__file__).parent / "old_home.sql").read_text())
        assert c.execute("pragma user_version").fetchone()[0] == COUNTED
    return path


def rows(path, columns=None):
    """Table -> its rows; of `columns` (table -> names), where given."""
    with closing(sqlite3.connect(path)) as c:
        tables = [r[0] for r in c.execute("select name from sqlite_schema where type = 'table'")]
        known = columns or {t: [r[1] for r in c.execute(f"pragma table_info({t})")] for t in tables}
        return known, {t: c.execute(f"select {', '.join(names)} from {t}").fetchall() for t, names in known.items()}


def schema(path):
    """Name -> SQL, without its white space; the migrations that are applied, in their order."""
    with closing(sqlite3.connect(path)) as c:
        sql = {name: text and text.split() for name, text in c.execute("select name, sql from sqlite_schema")}
        return sql, [r[0] for r in c.execute("select name from _sqlite_migrations order by id")]


def test_every_row_of_an_old_home_is_there_after_its_migration(old_home):
    columns, before = rows(old_home)
    assert all(before[t] for t in columns if t != "lease") and len(columns) == 17
    open_database(old_home)
    assert rows(old_home, columns)[1] == before
    open_database(old_home)
    assert rows(old_home, columns)[1] == before


def test_an_old_home_gets_the_schema_of_a_new_one(old_home, tmp_path):
    assert schema(open_database(old_home)) == schema(open_database(tmp_path / "new" / "kdloop.db"))
    assert schema(old_home)[1] == [m.__name__ for m in MIGRATIONS]
    with connect(old_home) as c:
        assert c.execute("pragma user_version").fetchone()[0] == len(MIGRATIONS), "an older kdloop refuses it by this"
        assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
        assert not c.execute("pragma foreign_key_check").fetchall()


def test_what_an_old_home_holds_is_read_and_searched(old_home):
    open_database(old_home)
    assert feedback.count_votes(old_home) == (17, 0) and len(feedback.votes_by_hour(old_home)) == 1
    assert [k.status for k in checkpoints.lineage(old_home)] == ["retired", "serving", "rejected"]
    assert [r.status for r in rounds.list_rounds(old_home)] == ["failed", "rejected", "promoted"]
    assert rounds.get_round(old_home, 1).verdict["examples"][0]["after"] == "So."
    assert choices.chosen(old_home) == {"gate_prompts": "40"}
    assert {r.person: r.weight for r in people.raters(old_home)}["bob"] == 0.5
    assert teachers.find_call(old_home, "f00d").logprobs == [-0.1]
    assert [a.disputed for a in feedback.ai_choices(old_home, "ann")] == [True]
    titles = [title for _, title in conversations.find_conversations(old_home, "Zoë", "примерно")]
    assert titles == [f"Wie groß ist Nummer {i}?" for i in (11, 8, 5, 2)]
    assert len(conversations.find_conversations(old_home, "Zoë", "ungefähr")) == 1


@pytest.mark.parametrize("applied", [1, 6, 11, 13])
def test_a_home_of_any_older_version_goes_on_after_its_last_migration(tmp_path, monkeypatch, applied):
    monkeypatch.setattr("storage.database.MIGRATIONS", MIGRATIONS[:applied])
    path = open_database(tmp_path / "kdloop.db")
    with connect(path) as c:
        c["_sqlite_migrations"].drop()
    monkeypatch.undo()
    assert schema(open_database(path)) == schema(open_database(tmp_path / "new" / "kdloop.db"))


def test_an_old_home_whose_migration_fails_is_as_it_was(old_home, monkeypatch):
    def broken(c):
        c["half"].insert({"id": 1})
        raise OSError("power cut")

    columns, before = rows(old_home)
    monkeypatch.setattr("storage.database.MIGRATIONS", [*MIGRATIONS, broken])
    with pytest.raises(OSError, match="power cut"):
        open_database(old_home)
    assert rows(old_home) == (columns, before)


def test_a_newer_home_is_refused_and_left_alone(old_home):
    with closing(sqlite3.connect(old_home)) as c:
        c.execute(f"pragma user_version = {len(MIGRATIONS) + 3}")
    columns, before = rows(old_home)
    with pytest.raises(NewerDatabase, match="update kdloop"):
        open_database(old_home)
    assert rows(old_home) == (columns, before)


OPEN = "import sys, pathlib, storage.database as d; input(); d.open_database(pathlib.Path(sys.argv[1]))"


def test_two_processes_that_open_an_old_home_at_once_migrate_it_once(old_home, tmp_path):
    start = [sys.executable, "-c", OPEN, str(old_home)]
    processes = [subprocess.Popen(start, stdin=subprocess.PIPE, cwd=ROOT) for _ in range(3)]
    for process in processes:
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert [p.wait() for p in processes] == [0, 0, 0]
    assert schema(old_home) == schema(open_database(tmp_path / "new" / "kdloop.db"))


PLUGIN = """
import sqlite_utils
@sqlite_utils.hookimpl
def prepare_connection(conn):
    raise RuntimeError("somebody's plugin")
"""
COMMAND = """
import sys, pathlib, storage.database as d
assert "pandas" not in sys.modules
d.open_database(pathlib.Path(sys.argv[1]))
"""


def test_storage_runs_no_plugin_of_sqlite_utils_and_imports_no_pandas(tmp_path):
    """Any package may register a plugin of sqlite-utils, which prepares every connection of every program."""
    (tmp_path / "somebodys.py").write_text(PLUGIN)
    about = tmp_path / "somebodys-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[sqlite_utils]\nsomebodys = somebodys\n")
    path = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    subprocess.run([sys.executable, "-c", COMMAND, str(tmp_path / "home" / "kdloop.db")], env=path, check=True)
    loaded = "import storage, sqlite_utils; sqlite_utils.Database(memory=True)"
    assert subprocess.run([sys.executable, "-c", loaded], env=path, capture_output=True).returncode, "it is found"
