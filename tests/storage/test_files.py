"""A kill, a full disk, a power cut amid a write: what was there stays, and what is half is recognised and goes."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kdloop.feedback import exports
from kdloop.knowledge import feature
from kdloop.settings import Settings
from kdloop.student import base, identity
from kdloop.ui import session
from storage import checkpoints, conversations, feedback, files, leftovers, people, rounds, snapshots
from storage.checkpoints import BrokenCheckpoint
from storage.conversations import as_prompt
from storage.database import UnusableHome, connect, open_database

ROOT = Path(__file__).parents[2]


@pytest.fixture
def full_disk(monkeypatch):
    """From now on the disk takes 100 bytes of a file, and no more."""

    def fill():
        def fsync(handle):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", fsync)

    return fill


def killed(code: str, *arguments) -> None:
    """A process that kills itself where `code` says so."""
    ended = subprocess.run(
        [sys.executable, "-c", f"import os, signal, sys\n{code}", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


KILL = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize("before", [None, "what was there"])
def test_a_write_that_a_full_disk_ends_leaves_what_was_there(tmp_path, full_disk, before):
    path = tmp_path / "report.json"
    if before:
        path.write_text(before)
    full_disk()
    with pytest.raises(OSError, match="No space"):
        files.write(path, "x" * 1000)
    assert [p.name for p in tmp_path.iterdir()] == ([path.name] if before else [])
    assert not before or path.read_text() == before


def test_what_a_killed_writer_leaves_goes_with_the_next_and_a_living_ones_stays(tmp_path):
    code = f"""
from pathlib import Path
from storage import files
with files.whole(Path(sys.argv[1]) / "book") as partial:
    partial.mkdir()
    (partial / "page").write_text("half of it")
    {KILL}
"""
    killed(code, tmp_path)
    half = list(tmp_path.iterdir())
    assert len(half) == 1 and half[0].name.endswith(files.PARTIAL)
    with files.whole(tmp_path / "book") as one, files.whole(tmp_path / "book") as other:
        assert not half[0].exists() and one != other
        other.write_text("all of it")
        one.write_text("this came last")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("book", "this came last")]


def test_a_terminal_or_a_pipe_is_written_to_and_never_replaced(tmp_path):
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    listener = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    listener.start()
    with files.whole(pipe) as place:
        place.write_text("rows")
    listener.join(10)
    assert heard == ["rows"] and pipe.is_fifo()


def test_a_link_to_a_file_stays_a_link(tmp_path):
    (tmp_path / "kept").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    files.write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "kept").read_text() == "new"


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfna\xc3\xafve",
        "naïve".encode(),
        "naïve".encode("utf-16"),
        b"\xfe\xff" + "naïve".encode("utf-16-be"),
    ],
)
def test_text_is_read_whatever_mark_an_editor_put_before_it(tmp_path, data):
    (tmp_path / "f").write_bytes(data)
    assert files.read_text(tmp_path / "f") == "naïve"


def test_what_is_no_text_is_refused_by_its_name(tmp_path):
    (tmp_path / "latin").write_bytes(b"na\xefve")
    with pytest.raises(ValueError, match=r"latin is no text in UTF-8.*byte 2"):
        files.read_text(tmp_path / "latin")


@pytest.mark.parametrize("left", [b"", b"\0" * 64, b"\n"])
def test_a_signing_key_that_was_never_written_is_made_anew(tmp_path, left):
    settings = Settings(home=tmp_path)
    (tmp_path / "secret").write_bytes(left)
    key = session.secret(settings)
    assert len(key) >= 32 and len(set(key)) > 8 and key == session.secret(settings)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("left", [b"0123456789abcdef", b"a" * 64, b"0123456789abcdef" + b"\0" * 10])
def test_a_signing_key_of_which_half_is_there_is_refused_in_words(tmp_path, left):
    (tmp_path / "secret").write_bytes(left)
    with pytest.raises(ValueError, match=r"secret holds .* no signing key. Put back the whole file"):
        session.secret(Settings(home=tmp_path))
    assert (tmp_path / "secret").read_bytes() == left, "an owner may still mend it"


def test_a_disk_that_is_full_at_the_first_start_leaves_no_key(tmp_path, full_disk, monkeypatch):
    full_disk()
    with pytest.raises(OSError, match="No space"):
        session.secret(Settings(home=tmp_path))
    monkeypatch.undo()
    assert not (tmp_path / "secret").exists() and len(session.secret(Settings(home=tmp_path))) >= 32


def candidate(db, text="weights", **values):
    r = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    rounds.release_lease(db, "me")
    given = {"parent_id": 1, "method": "dpo", "seed": 1, "metrics": {}} | values
    return checkpoints.publish(db, r.id, lambda d: (d / "w").write_text(text), **given)


@pytest.mark.parametrize("left", ["", "{", "{}", '{"files": 3}', "[]", None])
def test_a_checkpoint_with_half_a_manifest_is_broken_and_not_a_traceback(db, left):
    k = candidate(db)
    manifest = db.parent / k.path / "manifest.json"
    manifest.unlink() if left is None else manifest.write_text(left)
    with pytest.raises(BrokenCheckpoint, match="roll back"):
        checkpoints.adapter_dir(db, k)


def test_a_checkpoint_that_lost_a_file_is_broken_and_not_a_traceback(db):
    k = candidate(db)
    (db.parent / k.path / "w").unlink()
    with pytest.raises(BrokenCheckpoint, match="changed"):
        checkpoints.adapter_dir(db, k)


def test_what_a_killed_round_left_of_a_checkpoint_goes_at_the_next_start(db):
    kept = candidate(db)
    code = f"""
from pathlib import Path
from storage import checkpoints, rounds
db = Path(sys.argv[1])
r = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="other")
def save(directory):
    (directory / "adapter.bin").write_text("half")
    {KILL}
checkpoints.publish(db, r.id, save, parent_id=1, method="dpo", seed=1, metrics={{}})
"""
    killed(code, db)
    root = db.parent / "checkpoints"
    (root / "000099").mkdir()  # renamed, and then killed before its row was there
    assert len(list(root.iterdir())) == 3
    leftovers.clear(db)
    assert [p.name for p in root.iterdir()] == [Path(kept.path).name]


def test_a_snapshot_that_was_killed_leaves_no_copy_of_what_is_erased_later(db, tmp_path):
    conversations.start_conversation(db, "ann", "a secret of ann's")
    folder = tmp_path / "snapshots"
    code = f"""
from pathlib import Path
from storage import files, snapshots
class Killed(snapshots.Folder):
    def put(self, file, name):
        with files.whole(self.path / name) as partial:
            partial.write_bytes(file.read_bytes()[:100])
            {KILL}
target = Killed(Path(sys.argv[2]))
target.path.mkdir()
snapshots.take(Path(sys.argv[1]), target)
"""
    killed(code, db, folder)
    copies = [*db.parent.glob("snapshot.*"), *folder.iterdir()]
    assert len(copies) == 2
    people.erase(db, "ann")
    snapshots.renew(db, snapshots.Folder(folder))
    assert not any(p.exists() for p in copies)
    assert sorted(p.suffix for p in folder.iterdir()) == [".gz", ".json"]


def test_an_erasure_that_was_killed_before_its_end_is_finished_at_the_next_start(db):
    turn = conversations.add_turn(db, conversations.start_conversation(db, "ann"), as_prompt("hi"))
    said = conversations.add_completion(db, turn.id, "student", text="hello", checkpoint_id=1)
    stands = feedback.add_feedback(db, turn.id, rater="ann", channel="thumb", chosen_id=said)
    for id in (stands, "erased"):
        path = feature.sidecar(feature.folder(db), id)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    leftovers.clear(db)
    assert [p.stem for p in feature.folder(db).iterdir()] == [stands]
    assert Path(f"{db}-wal").stat().st_size == 0, "deleted text would stay readable in the log"


def test_an_export_that_breaks_leaves_the_one_before(db, tmp_path, full_disk):
    out = tmp_path / "rows.jsonl"
    out.write_text("the one before\n")
    full_disk()
    with pytest.raises(OSError, match="No space"):
        exports.export(db, "dpo", out)
    assert out.read_text() == "the one before\n" and [p.name for p in tmp_path.glob("rows*")] == ["rows.jsonl"]


HARMS = ["no weights", "cut weights", "half a config", "half a template", "no template", "zeros", "another file's"]


@pytest.mark.parametrize("harm", HARMS)
def test_a_converted_student_that_is_half_there_is_converted_again(tmp_path, tiny_student, harm, monkeypatch):
    """The conversion is a copy of a small student here: the real one takes 20 s."""
    gguf, made = tmp_path / "s.gguf", []
    gguf.write_bytes(b"GGUF" + bytes(range(256)) * 8)

    def convert(source, directory):
        made.append(source)
        files.shutil.copytree(tiny_student, directory)

    monkeypatch.setattr(base, "write_converted", convert)
    student = base.convert(gguf, tmp_path / "student")
    known = identity.identity(student)
    assert base.convert(gguf, student) == student and len(made) == 1, "what is whole is kept"
    weights = student / "model.safetensors"
    if harm == "no weights":
        weights.unlink()
    elif harm == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif harm == "half a config":
        (student / "config.json").write_text('{"model_type": "ll')
    elif harm == "half a template":
        template = student / "chat_template.jinja"
        template.write_text(template.read_text()[:90])
    elif harm == "no template":
        (student / "chat_template.jinja").unlink()
    elif harm == "zeros":
        (student / "tokenizer_config.json").write_bytes(bytes(296))
    else:
        gguf.write_bytes(gguf.read_bytes()[::-1])
    base.convert(gguf, student)
    assert len(made) == 2 and (identity.identity(student) == known) is (harm != "another file's")


def test_a_student_that_an_older_kdloop_converted_is_not_converted_again(tmp_path, tiny_student, monkeypatch):
    files.shutil.copytree(tiny_student, tmp_path / "student")
    (tmp_path / "s.gguf").write_bytes(b"GGUF" * 100)
    monkeypatch.setattr(base, "write_converted", None)
    base.convert(tmp_path / "s.gguf", tmp_path / "student")
    assert json.loads((tmp_path / "student" / identity.CONVERTED).read_text())["file"] == "s.gguf"


@pytest.mark.parametrize("damage", ["no database", "a file in the way"])
def test_a_home_that_cannot_be_one_is_refused_in_words(tmp_path, damage):
    home = tmp_path / "home"
    if damage == "no database":
        home.mkdir()
        (home / "kdloop.db").write_bytes(b"this is no database, but a letter to a friend" * 30)
    else:
        home.write_text("I am a file")
    with pytest.raises(UnusableHome, match="KDLOOP_HOME"):
        open_database(home / "kdloop.db")


def test_a_connection_of_a_moved_database_does_not_answer_for_the_restored_one(db, tmp_path):
    target = snapshots.Folder(tmp_path / "snapshots")
    conversations.start_conversation(db, "ann", "before")
    snapshots.take(db, target)
    conversations.start_conversation(db, "ann", "after")
    for file in db.parent.glob("kdloop.db*"):
        file.rename(tmp_path / f"old-{file.name}")
    snapshots.restore(db, target)
    with connect(db) as c:
        assert [r[0] for r in c.execute("select title from conversations")] == ["before"]
