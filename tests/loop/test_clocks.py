"""A clock that goes back or jumps: a battery that is empty, a machine that was suspended, a wrong time server."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import storage.database
from kdloop.feedback import collect
from kdloop.rounds.schedule import RETRY_MINUTES
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.ui import files
from storage import checkpoints, conversations, feedback, lease, rounds, snapshots
from storage.conversations import as_prompt
from storage.database import open_database, transaction

ROOT = Path(__file__).parents[2]
DAY = 86_400
HOW = {"requested": "auto", "seed": 1, "started_by": "hand"}


@pytest.fixture
def clock(monkeypatch):
    """`clock(seconds)` sets the wall clock so far ahead of what it is, or behind; the clock since the start goes on."""
    true = time.time

    class Wrong(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromtimestamp(time.time(), tz)

    monkeypatch.setattr(storage.database, "datetime", Wrong)
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: true() + seconds)


def start(db, owner):
    return rounds.start_round(db, **HOW, owner=owner)


@pytest.mark.parametrize("ahead", [3600, 7 * DAY, 20 * 365 * DAY])
def test_a_round_that_died_while_the_clock_was_ahead_is_known_to_be_dead(db, clock, ahead):
    clock(ahead)
    dead = start(db, "killed")
    clock(0)
    assert rounds.abandoned_rounds(db) == [dead.id]
    assert start(db, "new").id == dead.id + 1 and rounds.get_round(db, dead.id).status == "failed"


@pytest.mark.parametrize("ahead", [60, 3600, 40 * DAY])
def test_a_clock_that_jumps_ahead_lets_no_two_rounds_run(db, clock, ahead):
    lives = start(db, "living")
    clock(ahead)
    assert rounds.abandoned_rounds(db) == []
    with pytest.raises(rounds.RoundRunning, match=f"Round {lives.id} is running"):
        start(db, "second")


def test_a_lease_of_another_start_of_the_machine_is_a_dead_ones(db):
    dead = start(db, lease.new_owner())
    assert rounds.abandoned_rounds(db) == []
    with transaction(db) as c:
        c.execute("update lease set boot = 'the one before', tick = tick - 5")
    assert rounds.abandoned_rounds(db) == [dead.id]


def test_a_holder_that_beats_no_more_is_dead_after_half_a_minute_by_the_clock_since_the_start(db):
    dead = start(db, "elsewhere")
    with transaction(db) as c:
        c.execute("update lease set tick = tick - ?", [lease.LEASE_SECONDS - 5])
    assert rounds.abandoned_rounds(db) == []
    with transaction(db) as c:
        c.execute("update lease set tick = tick - 10")
    assert rounds.abandoned_rounds(db) == [dead.id]


HOLD = """
import sys, time
from pathlib import Path
from storage import lease, rounds
rounds.start_round(Path(sys.argv[1]), requested="auto", seed=1, started_by="hand", owner=lease.new_owner())
print("held", flush=True)
time.sleep(120)
"""


@pytest.mark.parametrize("ahead", [-7 * DAY, 7 * DAY])
def test_a_holder_is_a_process_and_lives_as_long_as_that(db, clock, ahead):
    """Even where it cannot beat (its machine is busy, its disk is full) and the clock is wrong."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(db)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert holder.stdout.readline() == "held\n"
    with transaction(db) as c:
        c.execute("update lease set tick = tick - 1000")
    clock(ahead)
    assert rounds.abandoned_rounds(db) == []
    with pytest.raises(rounds.RoundRunning):
        start(db, lease.new_owner())
    os.kill(holder.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not rounds.abandoned_rounds(db) and time.monotonic() < deadline:
        time.sleep(0.01)  # dead at once, and not only once its parent has taken notice
    assert rounds.abandoned_rounds(db) == [1] and start(db, lease.new_owner()).id == 2
    holder.wait()
    holder.stdout.close()


class Standing(Supervisor):
    def command(self, round):
        return [sys.executable, "-c", "import time; time.sleep(60)"]


def test_who_has_lost_the_lease_ends_its_own_round(tmp_path):
    settings = Settings(home=tmp_path)
    checkpoints.ensure_base(open_database(settings.db))
    supervisor = Standing(settings)
    supervisor.start()
    child = supervisor.child
    with transaction(settings.db) as c:
        c.execute("update lease set owner = 'somebody who saw it dead'")
    supervisor.tick()
    assert child.poll() is not None and supervisor.child is None
    assert "has taken this round for dead" in rounds.get_round(settings.db, 1).error


def test_a_round_that_gets_no_process_holds_no_lease(tmp_path, monkeypatch):
    settings = Settings(home=tmp_path)
    checkpoints.ensure_base(open_database(settings.db))
    (tmp_path / "rounds").write_text("in the way of its log")
    with pytest.raises(OSError, match="rounds"):
        Standing(settings).start()
    assert rounds.get_round(settings.db, 1).status == "failed"
    assert start(settings.db, "next").id == 2


def vote(db, text):
    turn = conversations.add_turn(db, conversations.start_conversation(db, "ann", text), as_prompt(text))
    said = conversations.add_completion(db, turn.id, "student", text=f"{text}!", checkpoint_id=1, logprob=-1.0)
    collect.thumb(db, "ann", said, True)
    return feedback.live_feedback(db)[-1].id


@pytest.mark.parametrize("status", ["promoted", "rejected"])
@pytest.mark.parametrize("ahead", [(0, -DAY, -DAY), (DAY, DAY, 0), (-DAY, 0, -2 * DAY), (0, 0, 0)])
def test_which_votes_are_new_is_a_matter_of_order_not_of_time(db, clock, ahead, status):
    """A vote of before the round, with the round's beginning and a vote after it each at its own time."""
    before, begins, after = ahead
    clock(before)
    vote(db, "before")
    clock(begins)
    round = start(db, "me")
    clock(after)
    vote(db, "after")
    assert feedback.count_votes(db) == (2, 2), "as long as it runs"
    k = checkpoints.publish(
        db, round.id, lambda d: (d / "w").write_text("w"), parent_id=1, method="dpo", seed=1, metrics={}
    )
    if status == "promoted":
        checkpoints.promote(db, k.id, round.id)
    else:
        checkpoints.reject(db, k.id, round.id)
    assert feedback.count_votes(db) == (2, 1)


def test_the_votes_of_a_round_that_failed_stay_new(db, clock):
    vote(db, "before")
    clock(DAY)
    failed = start(db, "me")
    rounds.finish_round(db, failed.id, "failed")
    rounds.release_lease(db, "me")
    clock(0)
    assert feedback.count_votes(db) == (1, 1)


def test_what_was_said_last_is_the_newest_whatever_the_clock_said(db, clock):
    ids = []
    for seconds in (5 * DAY, 0, 3 * DAY, -DAY):
        clock(seconds)
        ids.append(vote(db, f"at {seconds}"))
    assert [r.id for r in feedback.live_feedback(db)] == ids
    assert [r.id for r in feedback.live_feedback(db, newest=2)] == ids[-2:]
    assert conversations.find_conversations(db, "ann")[0][1] == f"at {-DAY}"


def test_a_database_of_before_goes_on_counting(tmp_path, monkeypatch):
    older = [m for m in storage.database.MIGRATIONS if m.__name__ != "order_without_clock"]
    monkeypatch.setattr("storage.database.MIGRATIONS", older)
    db = open_database(tmp_path / "kdloop.db")
    checkpoints.ensure_base(db)
    vote(db, "of the older one")
    monkeypatch.undo()
    open_database(db)
    assert feedback.count_votes(db) == (1, 1) and start(db, "me").id == 1


@pytest.mark.parametrize("back", [DAY, 400 * DAY])
def test_a_snapshot_after_the_clock_went_back_is_the_newest(db, clock, tmp_path, back):
    target, names = snapshots.Folder(tmp_path / "snapshots"), []
    clock(back)
    for _ in range(snapshots.KEEP + 1):
        names.append(snapshots.take(db, target))
    clock(0)
    conversations.start_conversation(db, "ann", "said last")
    names.append(snapshots.take(db, target))
    there = sorted(p.name for p in target.path.glob("kdloop-*"))
    assert there == sorted(names[-snapshots.KEEP :])
    assert json.loads((target.path / "latest.json").read_text())["archive"] == names[-1]
    elsewhere = tmp_path / "new" / "kdloop.db"
    assert snapshots.restore(elsewhere, target) == names[-1]


def test_archives_without_a_number_are_older_than_all_that_have_one(db, tmp_path):
    target = snapshots.Folder(tmp_path / "snapshots")
    target.path.mkdir()
    old = [f"kdloop-20{n}-01-01T000000.000Z.tar.gz" for n in range(30, 30 + snapshots.KEEP)]
    for name in old:
        (target.path / name).write_text("of an older kdloop, whose clock was ahead")
    name = snapshots.take(db, target)
    assert sorted(p.name for p in target.path.glob("kdloop-*")) == sorted([*old[1:], name])


class Killed(snapshots.Folder):
    """Ends before archives that are too many go."""

    def tidy(self, name):
        named = json.loads((self.path / "latest.json").read_text())["archive"]
        assert named == name and (self.path / named).exists()
        raise KeyboardInterrupt


def test_latest_json_names_a_file_that_is_there_at_every_moment(db, tmp_path):
    for _ in range(snapshots.KEEP + 3):
        with pytest.raises(KeyboardInterrupt):
            snapshots.take(db, Killed(tmp_path))
    snapshots.take(db, snapshots.Folder(tmp_path))
    assert len(list(tmp_path.glob("kdloop-*.gz"))) == snapshots.KEEP


@pytest.mark.parametrize("left", ["", "{", '{"archive": "x"}', "[1]"])
def test_a_latest_json_that_cannot_be_read_is_said_to_be_damaged(tmp_path, left):
    (tmp_path / "latest.json").write_text(left)
    with pytest.raises(snapshots.DamagedSnapshot, match=r"latest\.json does not name an archive"):
        snapshots.restore(tmp_path / "home" / "kdloop.db", snapshots.Folder(tmp_path))


def test_the_rest_after_a_broken_round_ends_although_the_clock_went_back(db):
    settings = Settings(home=db.parent, round_votes=1)
    vote(db, "a reason to start")
    broken = start(db, "me")
    rounds.release_lease(db, "me")
    rounds.finish_round(db, broken.id, "failed")
    with transaction(db) as c:
        ahead = (datetime.now(UTC) + timedelta(days=30)).isoformat()
        c.execute("update rounds set finished_at = ?", [ahead])
    supervisor = Supervisor(settings)
    assert supervisor.schedule.due() is None, "it rests from its own start on"
    supervisor.schedule.last_end -= 60 * RETRY_MINUTES + 1
    assert supervisor.schedule.due() == "votes"


def test_a_handed_over_file_from_the_future_goes_as_an_old_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ages = {"old": -2 * files.KEEP_SECONDS, "fresh": 0, "future": 30 * DAY}
    for name, age in ages.items():
        place = tmp_path / f"{files.DOWNLOADS}{name}"
        place.mkdir()
        os.utime(place, (time.time() + age, time.time() + age))
    files.fresh_path("x")
    left = {p.name.removeprefix(files.DOWNLOADS) for p in tmp_path.iterdir()} & set(ages)
    assert left == {"fresh"}
