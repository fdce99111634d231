"""Snapshots to a folder: what is restored, what is refused, what is kept."""

import json
import threading

import pytest

from storage import checkpoints, conversations, rounds, snapshots
from storage.database import open_database
from storage.snapshots import DamagedSnapshot, Folder


@pytest.fixture
def lived_in(db):
    """A database with a conversation and a promoted checkpoint."""
    conversations.start_conversation(db, "ann", "tides")
    started = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    candidate = checkpoints.publish(
        db, started.id, lambda d: (d / "w").write_text("weights"), parent_id=1, method="dpo", seed=1, metrics={}
    )
    checkpoints.promote(db, candidate.id, started.id)
    return db


def test_a_snapshot_fills_an_empty_home(lived_in, tmp_path):
    target = Folder(tmp_path / "snapshots")
    name = snapshots.take(lived_in, target)
    elsewhere = tmp_path / "elsewhere" / "kdloop.db"
    assert snapshots.restore(elsewhere, target) == name
    serving = checkpoints.serving(open_database(elsewhere))
    assert serving.version == 1
    assert (checkpoints.adapter_dir(elsewhere, serving) / "w").read_text() == "weights"


def test_nothing_is_overwritten_and_nothing_is_made_up(lived_in, tmp_path):
    assert snapshots.restore(tmp_path / "new" / "kdloop.db", Folder(tmp_path / "none")) is None
    target = Folder(tmp_path / "snapshots")
    snapshots.take(lived_in, target)
    with pytest.raises(FileExistsError, match="never overwrites"):
        snapshots.restore(lived_in, target)


def test_a_changed_archive_is_refused(lived_in, tmp_path):
    target = Folder(tmp_path / "snapshots")
    archive = target.path / snapshots.take(lived_in, target)
    archive.write_bytes(archive.read_bytes()[:-10] + b"0123456789")
    with pytest.raises(DamagedSnapshot):
        snapshots.restore(tmp_path / "new" / "kdloop.db", target)
    assert not (tmp_path / "new" / "kdloop.db").exists()


def test_a_snapshot_under_a_writer_is_whole_and_old_ones_go(lived_in, tmp_path):
    target, stop = Folder(tmp_path / "snapshots"), threading.Event()

    def write():
        while not stop.is_set():
            conversations.start_conversation(lived_in, "bob", "more")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        names = [snapshots.take(lived_in, target) for _ in range(snapshots.KEEP + 2)]
    finally:
        stop.set()
        writer.join()
    assert json.loads((target.path / "latest.json").read_text())["archive"] == names[-1]
    assert len(list(target.path.glob("kdloop-*"))) == snapshots.KEEP
    assert snapshots.restore(tmp_path / "new" / "kdloop.db", target) == names[-1]
