"""Starts rounds, watches their process, pauses it for chats, and tells the serving student of a promotion.

When a round starts by itself is schedule.py's. It ends by itself, by cancel, by timeout, or by its process dying;
whichever it is, the champion continues to serve.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from threading import Event, Lock, RLock, Thread

import torch

from kdloop.chat.places import Places
from kdloop.gate import trial
from kdloop.rounds import process, replays
from kdloop.rounds.process import IN_ONE_GO, journal_folder, log_file
from kdloop.rounds.replays import Step
from kdloop.rounds.schedule import RETRY_MINUTES, Schedule
from kdloop.rounds.stopwatch import Stopwatch
from kdloop.settings import Settings, current
from kdloop.student.serving import Serving
from storage import checkpoints, files, log, rounds
from storage.database import DatabaseError, is_writable
from storage.lease import new_owner
from storage.rounds import RUNNING, Round, RoundRunning
from storage.snapshots import DamagedSnapshot, open_target, owed, renew, take

TICK_SECONDS = 1.0  # how soon an end, a cancel or enough votes are noticed; a tick reads a few rows
JUST_STARTED_SECONDS = 5 * TICK_SECONDS  # within which a round is the last vote's
HAND_OVER_SECONDS = 30  # for its process to save what it has: a step, or a batch of completions; then it is killed
PAUSE_TRIES = 20  # to stop the process outside of a write, each waiting up to half a second for its write to end


class Supervisor:
    def __init__(self, settings: Settings, serving: Serving | None = None):
        self.settings, self.serving = settings, serving
        self.owner = new_owner()
        self.child: subprocess.Popen | None = None
        self.round: Round | None = None
        self.phase = ""  # of it, as the log was told last
        self.stopwatch, self.schedule = Stopwatch(), Schedule(settings)
        self.stopping, self.lock = Event(), RLock()
        self.thread: Thread | None = None
        self.places = Places(serving.base.at_once if serving else 1)  # of the page's replies and the API's together
        self.streaming, self.pausing = 0, Lock()  # replies under way, and who may pause the child
        self.saving, self.retry_snapshot_at = Lock(), 0.0

    def start(
        self,
        requested: str = "auto",
        *,
        started_by: str = "hand",
        seed: int | None = None,
        recipe: dict | None = None,
        **replayed,
    ) -> Round:
        """Queue a round and spawn its process; `recipe` as of Recipe.as_dict, `replayed` as of rounds.start_round.
        Raises RoundRunning while there is one."""
        with self.lock:
            self.queue(requested, started_by, seed, recipe, **replayed)
            self.child = self.spawn_or_end()
            return self.round

    def repeat(self, step: Step) -> Round:
        """Start a step of the champion's line without what was erased. Raises RoundRunning."""
        then = rounds.get_round(self.settings.db, step.replays)
        about = {"started_by": "retrain", "seed": then.seed, "recipe": then.recipe, **asdict(step)}
        return self.start(then.requested, **about)

    def queue(
        self, requested: str, started_by: str, seed: int | None = None, recipe: dict | None = None, **replayed
    ) -> None:
        """A round without a process. Raises RoundRunning."""
        new_votes = self.schedule.new_votes()
        about = {"requested": requested, "seed": seed, "started_by": started_by, "recipe": recipe, **replayed}
        self.round = rounds.start_round(self.settings.db, owner=self.owner, **about)
        self.stopwatch, self.schedule.votes_at_start, self.phase = Stopwatch(), new_votes, self.round.status
        log.event("round started", round=self.round.id, started_by=started_by, requested=requested)

    def spawn_or_end(self) -> subprocess.Popen:
        try:
            return self.spawn(self.round)
        except OSError as error:  # a full disk, too many processes: nobody would end it
            rounds.finish_round(self.settings.db, self.round.id, "failed", error=f"No process for it: {error}")
            rounds.release_lease(self.settings.db, self.owner)
            self.round = None
            raise

    def starts_by_votes(self) -> bool:
        """Whether votes have just made a round due, or started one, as the next tick does."""
        if (round := self.round) is None:
            return self.schedule.due() == "votes"
        return round.started_by == "votes" and self.stopwatch.ran < JUST_STARTED_SECONDS

    @contextmanager
    def lent(self) -> Iterator[Round]:
        """The running round, or one that is due, without its process: for whoever has a device for a part of it. When
        the block ends, however it ends, its process goes on from there, unless the round has ended.

        Raises ValueError where no round runs or is due, and where somebody else has it.
        """
        with self.lock:
            round = self.hand_over()
        try:
            yield round
        finally:
            with self.lock:
                self.take_back()

    def hand_over(self) -> Round:
        if self.round and not self.child:
            raise ValueError("Somebody's GPU is training already")
        if not self.round:
            if not (reason := self.schedule.due()):
                raise ValueError("No round is running, and there are too few new votes for one")
            self.queue(self.settings.method, reason)
            return self.round
        if (journal_folder(self.settings, self.round.id) / f"{IN_ONE_GO}.pt").exists():
            raise ValueError("This round's method trains in one go, so it stays on the CPU")
        self.ask_to_end()
        self.child = None
        if rounds.get_round(self.settings.db, self.round.id).status not in RUNNING:
            self.end("failed", rounds.GONE)  # it has an end of its own
            raise ValueError("The round has just ended")
        return self.round

    def ask_to_end(self) -> None:
        """The process writes down what it has, or is killed."""
        with suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGCONT)
            self.child.terminate()
        try:
            self.child.wait(HAND_OVER_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()

    def take_back(self) -> None:
        if not self.round:  # ended meanwhile, by the app's end or another's lease
            return
        row = rounds.get_round(self.settings.db, self.round.id)
        if row.status in RUNNING and not row.cancel_requested_at:
            self.child = self.spawn_or_end()
        else:
            self.end("cancelled", row.error or "Cancelled by hand")

    def spawn(self, round: Round) -> subprocess.Popen:
        return process.spawn(self.settings, round.id, self.command(round))

    def command(self, round: Round) -> list[str]:
        return [sys.executable, "-m", "kdloop.rounds.trainer", str(round.id), str(os.getpid())]

    def tick(self) -> None:
        """Called every second: renew the lease, watch the child, start what is due."""
        with self.lock:
            if self.round and not rounds.renew_lease(self.settings.db, self.owner):
                self.end("failed", "Another process has taken this round for dead, and started one of its own")
            for id in rounds.abandoned_rounds(self.settings.db):
                rounds.finish_round(self.settings.db, id, "failed", error=rounds.GONE)
                checkpoints.prune(self.settings.db)
            self.settle_trial()
            if self.child:
                self.watch()
            elif not self.round:
                self.start_what_is_due()
        self.renew_snapshots()

    def settle_trial(self) -> None:
        """Confirm the challenger or roll it back once people's comparisons decide."""
        if ended := trial.settle(self.settings.db, self.settings.shared):
            log.event("trial ended", f"trial {ended.id} {ended.outcome}", trial=ended.id, outcome=ended.outcome)
            checkpoints.prune(self.settings.db)
            if self.serving:
                self.serving.current()  # as at a round's end
                self.serving.next_to_it = None

    @contextmanager
    def yielding(self) -> Iterator[None]:
        """The round is paused while a reply streams: on a CPU the two would slow each other several times. Not for
        ever: see Stopwatch."""
        self.schedule.last_turn = time.monotonic()
        self.count_replies(+1)
        try:
            yield
        finally:
            self.schedule.last_turn = time.monotonic()
            self.count_replies(-1)

    def count_replies(self, change: int) -> None:
        with self.pausing:  # not `lock`: a promotion is loaded under that one
            self.streaming += change
            self.pause_or_resume()

    def pause_or_resume(self) -> None:
        on_cpu = self.settings.zero_gpu or not torch.cuda.is_available()
        if (child := self.child) and child.poll() is None and on_cpu:
            pause = bool(self.streaming) and self.stopwatch.may_pause
            with suppress(ProcessLookupError):
                if pause and not self.stopwatch.paused_at:
                    self.pause_outside_writes(child)
                elif not pause:
                    os.killpg(child.pid, signal.SIGCONT)
            self.stopwatch.set_paused(pause)

    def pause_outside_writes(self, child: subprocess.Popen) -> None:
        """A process that is paused within a write would keep everybody else from writing."""
        for _ in range(PAUSE_TRIES):
            is_writable(self.settings.db, 0.5)  # as soon as its write ends
            os.killpg(child.pid, signal.SIGSTOP)
            if is_writable(self.settings.db):
                return
            os.killpg(child.pid, signal.SIGCONT)

    def watch(self) -> None:
        db, id = self.settings.db, self.round.id
        with self.pausing:
            self.pause_or_resume()
        row = rounds.get_round(db, id)
        if row.status != self.phase and row.status in RUNNING:
            self.phase = row.status
            log.event("round phase", round=id, phase=row.status)
        if self.child.poll() is not None:
            gone = f"The trainer process ended with code {self.child.returncode}; see {log_file(self.settings, id)}"
            self.end("failed", gone)
        elif row.cancel_requested_at:
            self.end("cancelled", row.error or "Cancelled by hand")
        elif self.stopwatch.ran > 60 * (limit := current(self.settings).round_timeout_minutes):
            self.end("failed", f"Timed out after {limit:g} minutes of its own")

    def end(self, status: str, why: str) -> None:
        """Make sure that the process is gone, record the end unless the round has one, and follow a promotion."""
        if self.child and self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
        rounds.finish_round(self.settings.db, self.round.id, status, error=why)
        rounds.release_lease(self.settings.db, self.owner)
        log_end(rounds.get_round(self.settings.db, self.round.id))
        files.remove(journal_folder(self.settings, self.round.id))
        self.child = self.round = None
        self.schedule.last_end = time.monotonic()
        checkpoints.prune(self.settings.db)
        if self.serving:
            self.serving.current()  # load a new champion now, not while the next reply waits
        self.snapshot()

    def snapshot(self) -> None:
        """A target that cannot be reached costs a line in the log, not the app."""
        if not self.settings.snapshots:
            return
        with self.saving:
            try:
                save = renew if owed(self.settings.db) else take
                name = save(self.settings.db, open_target(self.settings.snapshots))
                log.event("snapshot", f"snapshot {name}", snapshot=name)
            except (OSError, ValueError, DamagedSnapshot) as error:
                self.retry_snapshot_at = time.monotonic() + 60 * RETRY_MINUTES
                log.event("no snapshot", f"no snapshot: {error}", "error")

    def renew_snapshots(self) -> None:
        """Soon after an erasure, beside a round that may be running: a snapshot of before would undo it."""
        wanted = self.settings.snapshots and owed(self.settings.db) and time.monotonic() > self.retry_snapshot_at
        if wanted and not self.saving.locked():
            Thread(target=self.snapshot, name="snapshot", daemon=True).start()

    def start_what_is_due(self) -> None:
        with suppress(RoundRunning):  # a command on the same database was first
            if step := replays.next_step(self.settings.db):
                self.repeat(step)
            elif reason := self.schedule.due():
                self.start(self.settings.method, started_by=reason)

    def run_forever(self) -> None:
        while not self.stopping.wait(TICK_SECONDS):
            try:
                self.tick()
            except (OSError, DatabaseError) as error:  # a full disk, a locked database: the next second may be better
                log.event("database error", f"{error}; trying again", "error")

    def run_in_background(self) -> None:
        self.thread = Thread(target=self.run_forever, name="supervisor", daemon=True)
        self.thread.start()

    def wait(self) -> Round:
        """Watch the running round to its end; for callers without a background thread."""
        id = self.round.id
        while self.child:
            time.sleep(TICK_SECONDS / 2)
            self.tick()
        return rounds.get_round(self.settings.db, id)

    def stop(self) -> None:
        """The app ends: so does its round."""
        self.stopping.set()
        self.places.close()
        if self.thread:
            self.thread.join()  # its tick may start a round, or load a champion
        with self.lock:
            if self.round:
                self.end("failed", "The app was stopped during this round")
            else:
                self.snapshot()


def log_end(round: Round) -> None:
    verdict = round.verdict or {}
    about = {"round": round.id, "status": round.status, "method": round.method, "candidate": round.candidate_id}
    about |= {"seconds": round.seconds, "reason": verdict.get("reason") or round.error or None}
    log.event("round ended", level="error" if round.status == "failed" else "info", **about)
