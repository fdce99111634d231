"""SIGKILL amid votes, publishing, promotion and a trial's end. The same with the whole app: `kdloop bench kills`."""

import random
import resource
import subprocess
import sys
import time
from pathlib import Path

from storage import checkpoints, feedback, rounds, trials
from storage.database import faults, forget

ROOT = Path(__file__).parents[2]
WRITER = [sys.executable, str(Path(__file__).with_name("killed_writer.py"))]
KILLS = 4
OUTCOMES = {1: "confirmed", 0: "rolled back"}


def started(db, **how):
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    how = {"cwd": ROOT, "env": environment, "stdout": subprocess.PIPE, "text": True} | how
    return subprocess.Popen([*WRITER, str(db)], **how)


def acknowledged(db, lines, seconds):
    """What it had printed when it was killed, so many seconds after so many lines."""
    with started(db) as process:
        first = [process.stdout.readline() for _ in range(lines)]
        time.sleep(seconds)
        process.kill()
        return first + process.stdout.read().splitlines(keepends=True)


def check(db, said):
    """`said`: whole lines alone are acknowledged."""
    forget(db)
    told = [line.split() for line in said if line.endswith("\n")]
    votes = [what[1] for what in told if what[0] == "vote"]
    assert faults(db) == [] and feedback.known(db, votes) == set(votes) != set()
    serving = checkpoints.serving(db)
    assert checkpoints.adapter_dir(db, serving) is None or serving.path
    known = {t.id: t for t in trials.all_trials(db)}
    for what in told:
        if what[0] == "trial":
            assert known[int(what[1])].outcome.replace(" ", "-") == what[2]
    for t in known.values():
        row, challenger = rounds.get_round(db, t.round_id), checkpoints.get_checkpoint(db, t.challenger)
        if t.outcome == "running":
            assert row.status == "on trial" and challenger.status == "serving"
        else:
            assert t.outcome == OUTCOMES[t.id % 2]
            assert row.status == {"confirmed": "promoted", "rolled back": "rejected"}[t.outcome]
            assert challenger.status in (("serving", "retired") if t.id % 2 else ("rejected",))


def test_what_was_acknowledged_is_there_after_each_kill_and_the_next_one_goes_on(tmp_path):
    db, said, draw = tmp_path / "home" / "kdloop.db", [], random.Random(22)
    for _ in range(KILLS):
        said += acknowledged(db, draw.randint(5, 40), draw.uniform(0, 0.05))
        check(db, said)
    assert trials.all_trials(db)


def test_where_no_file_can_grow_nothing_is_acknowledged_that_is_not_stored(tmp_path):
    """A limit of the kernel's in place of a full disk, which only root could make."""
    db, limit = tmp_path / "home" / "kdloop.db", 600_000
    small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # noqa: E731
    with started(db, preexec_fn=small, stderr=subprocess.PIPE) as process:
        said, error = process.communicate(timeout=300)
    assert process.returncode == 1 and "disk" in error.splitlines()[-1], error
    check(db, said.splitlines(keepends=True))
    more = acknowledged(db, 9, 0)
    check(db, [*said.splitlines(keepends=True), *more])
