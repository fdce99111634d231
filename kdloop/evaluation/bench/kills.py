"""What a SIGKILL costs: the real app, killed at random moments while people chat and vote and rounds run.

    python -m kdloop bench kills --times 100 --seed 1 --home DIR --json FILE

A small student (small_student.py) makes rounds that take seconds and succeed now and then. App, trainer, or both are
killed; then votes, database, champion and rounds are checked. With a --home it goes on where it was stopped.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

from kdloop.evaluation.bench import conditions, small_student
from kdloop.evaluation.bench.app_process import AppProcess, is_gone, kill_group
from kdloop.evaluation.bench.visitor import Visitor
from kdloop.evaluation.bench.voters import Voters
from kdloop.gate import trial
from kdloop.gate.evidence import least_more
from kdloop.settings import Settings
from kdloop.student.base import find_student
from storage import checkpoints, files, rounds, trials
from storage.checkpoints import BrokenCheckpoint
from storage.database import faults, forget, open_database
from storage.rounds import GONE, RUNNING

VICTIMS = ("app", "trainer", "both")
MOMENTS = {  # -> seconds within which the kill is drawn, once the moment has come
    "any time": 20.0,
    "eliciting": 4.0,
    "training": 4.0,
    "gating": 6.0,
    "as a trial begins": 0.3,
    "as a trial ends": 2.0,
}
RARE = ("as a trial begins", "as a trial ends")  # drawn a third as often: some rounds have to end before one comes
PATIENCE = 300  # seconds for a moment to come
END_PATIENCE = 900  # for a round to end, which waits while people are answered
UNDISTURBED = 10  # after every n-th kill a round is left alone, to its end
LOOK_SECONDS = 0.02
KILLED = (GONE, "The trainer process ended with code -9", "The app was stopped")  # what such a round may say
START_SECONDS = 3  # between two tries to start a round
SETTINGS = {  # small rounds, by hand, many comparisons, and no limits to how fast somebody votes
    "KDLOOP_ROUND_VOTES": "0",  # by votes, a round waits the longer the more of those before it were killed
    "KDLOOP_ROUND_MAX_TOKENS": "16",
    "KDLOOP_MAX_TOKENS": "16",
    "KDLOOP_GATE_PROMPTS": "32",
    "KDLOOP_COMPARE_EVERY": "2",
    "KDLOOP_MESSAGES_A_MINUTE": "600",
    "KDLOOP_VOTES_A_MINUTE": "600",
}


@dataclass
class Kill:
    """`at` is the status of the round that ran, or what else was going on."""

    victim: str
    moment: str
    at: str
    faults: list[str] = field(default_factory=list)


class Harness:
    """An app on `home`/app, killed; what was seen is in `home`/kills.json after every kill."""

    def __init__(self, home: Path, student: str, seed: int, **settings: str):
        self.file, self.db = home / "kills.json", home / "app" / "kdloop.db"
        self.kills, self.undisturbed = [], 0
        if self.file.exists():
            told = json.loads(self.file.read_text())
            self.kills, self.undisturbed = [Kill(**kill) for kill in told["kills"]], told["undisturbed"]
        self.seed, self.draw = seed, random.Random(f"{seed} {len(self.kills)}")
        self.app = AppProcess(home / "app", **{"KDLOOP_STUDENT": student} | SETTINGS | settings)
        checkpoints.ensure_base(open_database(self.db))
        self.voters, self.known_trials, self.start_again = Voters(home / "votes.jsonl"), 0, 0.0

    def run(self, times: int) -> dict:
        self.app.start()
        try:
            with self.voters.voting(self.app.url):
                while len(self.kills) < times:
                    self.one()
                    files.write(self.file, json.dumps(self.report(), indent=1))
        finally:
            self.app.stop()
        return self.report()

    def one(self) -> None:
        often = [1 if moment in RARE else 3 for moment in MOMENTS]
        victim, (moment,) = self.draw.choice(VICTIMS), self.draw.choices(list(MOMENTS), often)
        if self.wait_until(lambda: self.has_come(moment)):
            time.sleep(self.draw.uniform(0, MOMENTS[moment]))
        kill = Kill(victim, moment, self.going_on())
        self.strike(kill)
        self.kills.append(kill)
        if len(self.kills) % UNDISTURBED == 0:
            kill.faults += self.leave_alone()
        for fault in kill.faults:
            print(f"kdloop: after kill {len(self.kills)}: {fault}", file=sys.stderr, flush=True)

    def has_come(self, moment: str) -> bool:
        running, now = trials.running(self.db), rounds.running_round(self.db)
        if moment == "as a trial begins":
            return bool(running) and running.id > self.known_trials
        if moment == "as a trial ends":
            return bool(running) and least_more(trial.evidence(self.db, running, shared=False)[-1]) <= 1
        return moment == "any time" or (bool(now) and now.status == moment)

    def going_on(self) -> str:
        now = rounds.running_round(self.db)
        return now.status if now else "on trial" if trials.running(self.db) else "between rounds"

    def wait_until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
        """Steers meanwhile: people vote every second challenger down, and once one is confirmed v0 serves again, by an
        owner's hand, as a round has most to win from there."""
        until = time.monotonic() + seconds
        while not (held := condition()) and time.monotonic() < until:
            running = trials.running(self.db)
            self.voters.contrary, self.voters.eager = bool(running) and running.id % 2 == 0, bool(running)
            self.known_trials = running.id if running else self.known_trials
            if not running and not rounds.running_round(self.db):
                self.start_round()
            time.sleep(LOOK_SECONDS)
        return held

    def start_round(self) -> None:
        """From v0, by the button on the page."""
        if checkpoints.serving(self.db).version:
            checkpoints.serve(self.db, checkpoints.base(self.db).id)
        if time.monotonic() > self.start_again:
            self.start_again = time.monotonic() + START_SECONDS
            with suppress(httpx.HTTPError):  # too slow: the next time
                Visitor(self.app.url, Counter(), timeout=120).call("start_round", "")

    def strike(self, kill: Kill) -> None:
        """Kill, check what is on the disk, start again, and check what answers."""
        hit, trainer = rounds.running_round(self.db), self.app.trainer()
        if kill.victim == "trainer" and not trainer:
            kill.victim = "app"
        forget(self.db)  # an open connection would spare the next process the recovery of the log
        if trainer and kill.victim != "app":
            kill_group(trainer)
        if kill.victim != "trainer":
            self.app.kill()
            if trainer and not is_gone(trainer, 15):
                kill.faults.append("the trainer has outlived the app")
        kill.faults += [*faults(self.db), *self.voters.lost(self.db), *self.broken()]
        forget(self.db)
        if kill.victim != "trainer":
            self.app.start()
            self.voters.url = self.app.url
        kill.faults += self.wrong_answers()
        over = lambda: rounds.get_round(self.db, hit.id).status not in RUNNING  # noqa: E731
        if hit and not self.wait_until(over, END_PATIENCE):
            kill.faults.append(f"round {hit.id} has no end")

    def broken(self) -> list[str]:
        """What the database names as serving is whole: each file has the hash that was recorded."""
        try:
            checkpoints.adapter_dir(self.db, checkpoints.serving(self.db))
        except BrokenCheckpoint as error:
            return [str(error)]
        return []

    def wrong_answers(self) -> list[str]:
        """Of the app that runs: an answer by another version than the one that serves; an error in its log."""
        found, before = [], checkpoints.serving(self.db).name
        try:
            visitor = Visitor(self.app.url, Counter())
            if not visitor.call("chat", "Is somebody there?"):
                return [f"no answer: {dict(visitor.seen)}"]
        except httpx.HTTPError as error:
            return [f"no answer: {error!r}"]
        if (by := visitor.given[0]["version"]) not in (before, checkpoints.serving(self.db).name):
            found.append(f"{by} answers instead of {before}")
        return found + [
            f"the app's log says {word!r}" for word in ("Traceback", "instead of") if word in self.app.said()
        ]

    def leave_alone(self) -> list[str]:
        """The next round, until its end."""
        last = max((r.id for r in rounds.list_rounds(self.db, 1)), default=0)
        ended = lambda: any(r.id > last and r.finished_at for r in rounds.list_rounds(self.db, 5))  # noqa: E731
        if not self.wait_until(ended, END_PATIENCE):
            return ["no round came to an end"]
        self.undisturbed += 1
        return []

    def report(self) -> dict:
        n, faulty, ended = len(self.kills), sum(bool(k.faults) for k in self.kills), rounds.list_rounds(self.db, 10_000)
        failed = [f"round {r.id}: {r.error}" for r in ended if r.status == "failed" and not r.error.startswith(KILLED)]
        return {
            "n": n,
            "faulty": faulty,
            "at most (95 %)": None if faulty or not n else round(3 / n, 3),  # the rule of three
            "acknowledged votes": self.voters.votes,
            "killed": dict(Counter(k.victim for k in self.kills)),
            "at": dict(Counter(k.at for k in self.kills)),
            "rounds": dict(Counter(r.status for r in ended)),
            "failed otherwise": failed,
            "trials": dict(Counter(t.outcome for t in trials.all_trials(self.db))),
            "undisturbed": self.undisturbed,
            "kills": [asdict(k) for k in self.kills],
        }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kdloop bench kills", description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write what was seen to this file")
    parser.add_argument("--conditions", action="store_true", help="instead: a full disk, a read-only home and others")
    args, settings = parser.parse_args(argv), Settings.from_environment()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # its app ends with it
    with ExitStack() as stack:
        kept = settings.home if "home" in settings.flags else None  # --home is a flag of every command
        home = kept or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        student = home / "small"
        if not student.exists():
            with files.whole(student) as partial:
                small_student.write(partial, find_student("", home))
        harness = Harness(home, str(student), args.seed)
        if args.conditions:
            return conditions.run(harness.app)
        report = harness.run(args.times)
    if args.json:
        files.write(args.json, json.dumps(report, indent=1))
    print(json.dumps({k: v for k, v in report.items() if k != "kills"}, indent=1))
    return 1 if report["faulty"] or report["failed otherwise"] else 0
