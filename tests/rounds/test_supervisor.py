"""A round's process beside people who chat, and what ends a round. The process is a real one that only counts."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest

from kdloop.feedback import collect
from kdloop.rounds import process, stopwatch
from kdloop.rounds.process import log_file
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student.journal import Journal
from storage import checkpoints, conversations, feedback, people, rounds, snapshots
from storage.database import open_database

ASKED = [{"role": "user", "content": "x"}]
COUNT = "import os, time\nprint(os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True)\n"
COUNT += "while True: time.sleep(0.02); print('.', end='', flush=True)"


class Counting(Supervisor):
    def command(self, round):
        return [sys.executable, "-c", COUNT]

    def counted(self, round) -> int:
        return log_file(self.settings, round.id).read_text().count(".")


@pytest.fixture
def started(tmp_path, monkeypatch):
    """(supervisor, round) of a process that has begun to count, and would time out after two seconds of its own."""
    monkeypatch.setattr(stopwatch, "FREE_PAUSE_SECONDS", 0.5)
    settings = Settings(home=tmp_path, round_timeout_minutes=2 / 60, snapshots=str(tmp_path / "snapshots"))
    checkpoints.ensure_base(open_database(settings.db))
    supervisor = Counting(settings)
    round = supervisor.start()
    deadline = time.monotonic() + 10
    while not supervisor.counted(round) and time.monotonic() < deadline:
        time.sleep(0.01)
    yield supervisor, round
    supervisor.stop()


def ticking(supervisor, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end and supervisor.child:
        supervisor.tick()
        time.sleep(0.05)


def test_a_round_is_paused_for_chats_but_not_for_ever(started):
    supervisor, round = started
    with supervisor.yielding():
        at = supervisor.counted(round)
        ticking(supervisor, 0.4)
        assert supervisor.counted(round) - at <= 2, "a reply has the computer for itself"
        ticking(supervisor, 3.6)
        assert supervisor.child, "of four seconds it ran one, which is no time-out of two"
        assert 15 <= supervisor.counted(round) - at <= 100, "and it did run"
    ticking(supervisor, 3)
    assert "Timed out" in rounds.get_round(supervisor.settings.db, round.id).error


def test_a_round_that_read_what_is_erased_ends_and_older_snapshots_go(started):
    supervisor, round = started
    db, folder = supervisor.settings.db, snapshots.Folder(supervisor.settings.home / "snapshots")
    turn = conversations.add_turn(db, conversations.start_conversation(db, "ann"), [{"role": "user", "content": "x"}])
    liked = conversations.add_completion(db, turn.id, "student", text="y", checkpoint_id=1)
    collect.thumb(db, "ann", liked, True)
    old = snapshots.take(db, folder)
    people.erase(db, "ann")
    ticking(supervisor, 2)
    ended = rounds.get_round(db, round.id)
    assert (ended.status, ended.error) == ("cancelled", "Somebody whose votes it had read deleted their data")
    deadline = time.monotonic() + 10
    while snapshots.owed(db) and time.monotonic() < deadline:
        supervisor.tick()
        time.sleep(0.05)
    assert not snapshots.owed(db) and old not in [f.name for f in folder.path.iterdir()]


@pytest.mark.parametrize(("zero_gpu", "seen"), [(True, ""), (False, "7")])
def test_a_round_beside_a_zero_gpu_sees_no_gpu(tmp_path, monkeypatch, zero_gpu, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    settings = Settings(home=tmp_path, zero_gpu=zero_gpu)
    checkpoints.ensure_base(open_database(settings.db))
    supervisor = Counting(settings)
    round = supervisor.start()
    deadline = time.monotonic() + 10
    while "\n" not in (said := log_file(settings, round.id).read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    supervisor.stop()
    assert said.partition("\n")[0] == seen


class Writing(Supervisor):
    """Its process holds the write lock most of the time."""

    def command(self, round):
        code = (
            "import sqlite3, time\nc = sqlite3.connect({!r}, isolation_level=None, timeout=30)\n"
            "print('.', flush=True)\n"
            "while True: c.execute('begin immediate'); time.sleep(0.03); c.execute('rollback'); time.sleep(0.003)"
        )
        return [sys.executable, "-c", code.format(str(self.settings.db))]


def test_a_round_is_never_paused_within_a_write(tmp_path):
    settings = Settings(home=tmp_path)
    checkpoints.ensure_base(open_database(settings.db))
    supervisor = Writing(settings)
    round = supervisor.start()
    while not log_file(settings, round.id).read_text():
        time.sleep(0.01)
    for _ in range(5):
        with supervisor.yielding():
            before = time.monotonic()
            conversations.start_conversation(settings.db, "ann")
            assert time.monotonic() - before < 5
    supervisor.stop()


PARENT = """
import sys, time
sys.path.insert(0, {tests!r})
from test_supervisor import Counting, Settings, checkpoints, open_database, Path, log_file
settings = Settings(home=Path({home!r}))
checkpoints.ensure_base(open_database(settings.db))
supervisor = Counting(settings)
round = supervisor.start()
while not supervisor.counted(round):
    time.sleep(0.01)
with supervisor.yielding():
    print(supervisor.child.pid, flush=True)
    time.sleep(60)
"""


def test_an_app_that_is_killed_amid_a_reply_leaves_no_paused_process(tmp_path):
    code = PARENT.format(tests=str(Path(__file__).parent), home=str(tmp_path))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    app = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    child = int(app.stdout.readline())
    app.kill()
    app.wait()
    deadline = time.monotonic() + 10
    while state(child) == "T":  # once awake it sees that its parent is gone (trainer.end_with_parent)
        assert time.monotonic() < deadline, "the trainer is paused for ever"
        time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_round_that_ended_unjudged_leaves_no_candidate(started):
    supervisor, round = started
    db = supervisor.settings.db
    k = checkpoints.publish(
        db, round.id, lambda d: (d / "w").write_text("w"), parent_id=1, method="dpo", seed=1, metrics={}
    )
    directory = checkpoints.adapter_dir(db, k)
    rounds.request_cancel(db, round.id)
    ticking(supervisor, 3)
    k = checkpoints.get_checkpoint(db, k.id)
    assert (k.status, bool(k.pruned_at), directory.exists()) == ("rejected", True, False)
    with pytest.raises(rounds.RoundEnded):
        rounds.advance(db, round.id, "training")


class Late(Counting):
    """Each tick a round is due, which starts half a second later."""

    def tick(self):
        self.schedule.due = lambda: "votes"
        self.late.set()
        time.sleep(0.5)
        super().tick()


def test_what_is_under_way_when_the_app_ends_starts_no_round_that_outlives_it(tmp_path):
    settings = Settings(home=tmp_path)
    checkpoints.ensure_base(open_database(settings.db))
    supervisor = Late(settings)
    supervisor.late = Event()
    supervisor.run_in_background()
    supervisor.late.wait()
    supervisor.stop()
    time.sleep(1)
    assert supervisor.child is None and not [r for r in rounds.list_rounds(settings.db, 8) if not r.finished_at]


class Refusing(Supervisor):
    """Its process refuses each round, as one does that finds too little to learn from."""

    def command(self, round):
        code = (
            "from pathlib import Path\nfrom storage import rounds\nhome = Path({!r})\n"
            "rounds.advance(home, {}, 'eliciting')\nrounds.finish_round(home, {}, 'rejected')"
        )
        return [sys.executable, "-c", code.format(str(self.settings.db), round.id, round.id)]


def vote(db, n):
    for _ in range(n):
        turn = conversations.add_turn(
            db, conversations.start_conversation(db, "ann"), [{"role": "user", "content": "x"}]
        )
        collect.thumb(db, "ann", conversations.add_completion(db, turn.id, "student", text="y", checkpoint_id=1), True)


def test_a_round_that_was_refused_before_it_trained_keeps_the_votes_and_does_not_start_over_and_over(tmp_path):
    settings = Settings(home=tmp_path, round_votes=8, idle_minutes=1e-9)
    db = open_database(settings.db)
    checkpoints.ensure_base(db)
    supervisor = Refusing(settings)
    vote(db, 7)
    assert supervisor.schedule.due() == "idle" and supervisor.schedule.starts_at() == 8
    vote(db, 1)
    assert supervisor.schedule.due() == "votes"
    supervisor.start()
    assert supervisor.wait().status == "rejected"
    assert feedback.count_votes(db) == (8, 8), "nothing was learned from them"
    assert supervisor.schedule.due() is None and supervisor.schedule.starts_at() == 10, (
        "the same votes would be refused again"
    )
    assert Refusing(settings).schedule.due() is None, "after a restart neither"
    vote(db, 1)
    assert supervisor.schedule.due() == "idle", "one vote more, and nobody chats"
    vote(db, 1)
    assert supervisor.schedule.due() == "votes"


class Lent(Counting):
    """On a ZeroGPU Space; its process says how it was ended, as a round's own does."""

    def command(self, round):
        code = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(print('saved', flush=True)))\n"
        return [sys.executable, "-c", code + COUNT]


@pytest.fixture
def on_zero_gpu(tmp_path):
    """(supervisor, round) of a process that has begun to count."""
    settings = Settings(home=tmp_path, zero_gpu=True)
    checkpoints.ensure_base(open_database(settings.db))
    supervisor = Lent(settings)
    round = supervisor.start(started_by="votes")
    until_it_counts(supervisor, round)
    yield supervisor, round
    supervisor.stop()


def until_it_counts(supervisor, round, more_than=0):
    deadline = time.monotonic() + 10
    while supervisor.counted(round) <= more_than and time.monotonic() < deadline:
        time.sleep(0.01)
    assert supervisor.counted(round) > more_than


def test_whoever_lends_a_gpu_gets_the_round_without_its_process_which_goes_on_afterwards(on_zero_gpu):
    supervisor, round = on_zero_gpu
    assert supervisor.starts_by_votes()
    with supervisor.lent() as given:
        assert given.id == round.id and supervisor.child is None
        assert log_file(supervisor.settings, round.id).read_text().endswith("saved\n"), "it was asked, not killed"
        counted = supervisor.counted(round)
        for _ in range(3):
            supervisor.tick()
        with supervisor.yielding():
            pass
        assert supervisor.counted(round) == counted and supervisor.child is None
        assert not rounds.abandoned_rounds(supervisor.settings.db) and rounds.running_round(supervisor.settings.db)
        with pytest.raises(ValueError, match="is training already"), supervisor.lent():
            pass
    until_it_counts(supervisor, round, counted)
    assert len(rounds.list_rounds(supervisor.settings.db)) == 1


def test_a_call_that_fails_gives_the_round_back(on_zero_gpu):
    supervisor, round = on_zero_gpu
    with pytest.raises(OSError, match="no quota"), supervisor.lent():
        counted = supervisor.counted(round)
        raise OSError("no quota")
    until_it_counts(supervisor, round, counted)


@pytest.mark.parametrize("end", ["rejected", "cancelled", "app"])
def test_a_round_that_ends_while_it_is_lent_has_no_process_again(on_zero_gpu, end):
    supervisor, round = on_zero_gpu
    db, journal = supervisor.settings.db, process.journal_folder(supervisor.settings, round.id)
    journal.mkdir(parents=True)
    with supervisor.lent():
        if end == "rejected":
            rounds.finish_round(db, round.id, "rejected")
        elif end == "cancelled":
            rounds.request_cancel(db, round.id)
        else:
            supervisor.stop()
    row = rounds.get_round(db, round.id)
    assert row.status == {"app": "failed"}.get(end, end) and supervisor.child is None and supervisor.round is None
    assert not journal.exists(), "it holds people's words"
    with pytest.raises(ValueError, match="No round is running"), supervisor.lent():
        pass


def test_a_round_that_ended_before_it_could_be_lent_keeps_its_end(on_zero_gpu):
    supervisor, round = on_zero_gpu
    rounds.finish_round(supervisor.settings.db, round.id, "rejected")
    with pytest.raises(ValueError, match="has just ended"), supervisor.lent():
        pass
    assert rounds.get_round(supervisor.settings.db, round.id).status == "rejected" and supervisor.round is None


def test_a_training_in_one_go_is_not_interrupted(on_zero_gpu):
    supervisor, round = on_zero_gpu
    Journal(process.journal_folder(supervisor.settings, round.id)).put(process.IN_ONE_GO, "grpo")
    with pytest.raises(ValueError, match="in one go"), supervisor.lent():
        pass
    assert supervisor.child.poll() is None


def test_a_round_that_is_due_begins_on_the_gpu_of_who_lends_it(tmp_path):
    settings = Settings(home=tmp_path, zero_gpu=True, round_votes=1)
    checkpoints.ensure_base(open_database(settings.db))
    supervisor = Lent(settings)
    turn = conversations.add_turn(settings.db, conversations.start_conversation(settings.db, "ann"), ASKED)
    liked = conversations.add_completion(settings.db, turn.id, "student", text="y", checkpoint_id=1)
    assert not supervisor.starts_by_votes()
    collect.thumb(settings.db, "ann", liked, True)
    assert supervisor.starts_by_votes()
    with supervisor.lent() as round:
        assert (round.started_by, supervisor.child) == ("votes", None)
    until_it_counts(supervisor, round)
    supervisor.stop()
