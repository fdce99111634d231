"""Snapshots to a folder and to a Hub: what is restored, what is refused, what is kept."""

import json
import threading
import time

import huggingface_hub.constants
import pytest
from hub import Repo, serving

import app
from kdloop.settings import Settings
from kdloop.ui import session
from storage import checkpoints, conversations, people, rounds, snapshots
from storage.database import open_database
from storage.snapshots import DamagedSnapshot, Folder, HubDataset, Unreachable


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


def test_installed_packs_come_back_and_half_written_ones_do_not(lived_in, tmp_path):
    installed, target = lived_in.parent / "packs", Folder(tmp_path / "kept")
    for name in ("mine", ".before/mine.1", "half.999999-1.partial"):
        (installed / name).mkdir(parents=True)
        (installed / name / "pack.toml").write_text(f'about = "{name}"')
    snapshots.take(lived_in, target)
    snapshots.restore(tmp_path / "new" / "kdloop.db", target)
    back = tmp_path / "new" / "packs"
    assert {str(p.relative_to(back)) for p in back.rglob("pack.toml")} == {"mine/pack.toml", ".before/mine.1/pack.toml"}


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


def test_after_a_restore_browsers_are_known_again(lived_in, tmp_path):
    home, new = Settings(home=lived_in.parent), Settings(home=tmp_path / "new")
    token = session.sign(session.secret(home), "ann")
    snapshots.take(lived_in, Folder(tmp_path / "snapshots"))
    snapshots.restore(new.db, Folder(tmp_path / "snapshots"))
    assert session.sign(session.secret(new), "ann") == token
    assert (new.home / "secret").stat().st_mode & 0o777 == 0o600


def test_an_erasure_makes_older_archives_go(lived_in, tmp_path):
    target = Folder(tmp_path / "snapshots")
    old = snapshots.take(lived_in, target)
    assert not snapshots.owed(lived_in)
    people.erase(lived_in, "ann")
    assert snapshots.owed(lived_in)
    new = snapshots.renew(lived_in, target)
    assert new != old and [f.name for f in target.path.glob("kdloop-*")] == [new] and not snapshots.owed(lived_in)
    snapshots.restore(tmp_path / "new" / "kdloop.db", target)
    assert conversations.find_conversations(tmp_path / "new" / "kdloop.db", "ann") == []


class SlowFolder(Folder):
    def put(self, file, name):
        super().put(file, name)
        time.sleep(0.5)


def test_an_owners_snapshot_beside_an_erasures_leaves_a_latest_one_that_is_there(lived_in, tmp_path):
    target = SlowFolder(tmp_path / "snapshots")
    people.erase(lived_in, "ann")
    by_hand = threading.Thread(target=snapshots.take, args=(lived_in, target))
    by_hand.start()
    while not list(target.path.glob("kdloop-*.gz")):
        time.sleep(0.01)
    snapshots.renew(lived_in, Folder(target.path))
    by_hand.join()
    assert snapshots.restore(tmp_path / "new" / "kdloop.db", target)


@pytest.fixture
def hub(monkeypatch):
    """(repository, target) of an empty dataset on a Hub of our own."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    repo = Repo()
    with serving(repo) as url:
        yield repo, HubDataset("ann/data", url)


def test_a_hub_keeps_snapshots_and_forgets_them_with_its_history(lived_in, hub, tmp_path):
    repo, target = hub
    assert snapshots.restore(tmp_path / "new" / "kdloop.db", target) is None
    first = snapshots.take(lived_in, target)
    assert snapshots.restore(tmp_path / "new" / "kdloop.db", target) == first
    people.erase(lived_in, "ann")
    second = snapshots.renew(lived_in, target)
    assert set(repo.files) == {second, "latest.json"} and len(repo.commits) == 1
    assert snapshots.restore(tmp_path / "newer" / "kdloop.db", target) == second


@pytest.mark.parametrize("answer", [(503, ""), (403, ""), (401, "RepoNotFound")])
def test_a_hub_that_does_not_say_is_not_an_empty_one(lived_in, hub, tmp_path, answer, monkeypatch):
    repo, target = hub
    snapshots.take(lived_in, target)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between its tries
    repo.answers = answer
    with pytest.raises(Unreachable, match="hf://datasets/ann/data: "):
        snapshots.restore(tmp_path / "new" / "kdloop.db", target)
    repo.answers = (404, "RepoNotFound")
    assert snapshots.restore(tmp_path / "new" / "kdloop.db", target) is None


def test_the_app_does_not_start_empty_beside_a_hub_that_it_cannot_reach(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("KDLOOP_SNAPSHOTS", "hf://datasets/ann/data")  # the tests are offline
    assert app.main() == 1
    assert "cannot start. hf://datasets/ann/data: " in capsys.readouterr().err
    assert not (tmp_path / "kdloop.db").exists()


def test_a_hub_that_cannot_be_reached_is_an_error_like_that_of_a_disk(lived_in, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(OSError, match="hf://"):
        snapshots.take(lived_in, HubDataset("ann/data", "http://127.0.0.1:9"))
