"""Starts rounds, watches their process, and tells the serving student of a promotion.

A round starts when enough new votes are there, when nobody has chatted for a while, or by hand. It ends by itself, by
cancel, by timeout, or by its process dying; whichever it is, the champion goes on serving.
"""

import math
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from threading import Event, Lock, RLock, Thread

import torch

from kdloop.rounds.stopwatch import Stopwatch
from kdloop.settings import Settings, current, of_child
from kdloop.student.serving import Serving
from storage import checkpoints, feedback, rounds
from storage.database import DatabaseError, is_writable
from storage.lease import new_owner
from storage.rounds import Round, RoundRunning
from storage.snapshots import DamagedSnapshot, open_target, owed, renew, take

TICK_SECONDS = 1.0
MORE = 4  # one in so many of the votes that start a round has to be new after a refusal
RETRY_MINUTES = 10  # after a failed or cancelled round, before one starts by itself; doubles with each in a row


class Supervisor:
    def __init__(self, settings: Settings, serving: Serving | None = None):
        self.settings, self.serving = settings, serving
        self.owner = new_owner()
        self.child: subprocess.Popen | None = None
        self.round: Round | None = None
        self.stopwatch, self.last_turn = Stopwatch(), time.monotonic()
        self.last_end = time.monotonic()  # of a round here; what ended before this start ended then
        self.stopping, self.lock = Event(), RLock()
        self.thread: Thread | None = None
        self.streaming, self.pace = 0, Lock()  # replies under way
        self.saving, self.renew_at = Lock(), 0.0
        self.tried = feedback.count_votes(settings.db)[1]  # new votes that were there when the last round began

    def start(
        self, requested: str = "auto", *, started_by: str = "hand", seed: int | None = None, recipe: dict | None = None
    ) -> Round:
        """Queue a round and spawn its process; `recipe` as of Recipe.as_dict. Raises RoundRunning while there is
        one."""
        with self.lock:
            tried = feedback.count_votes(self.settings.db)[1]
            self.round = rounds.start_round(
                self.settings.db,
                requested=requested,
                seed=seed,
                started_by=started_by,
                owner=self.owner,
                recipe=recipe,
            )
            try:
                child = self.spawn(self.round)
            except OSError as error:  # a full disk, too many processes: nobody would end it
                rounds.finish_round(self.settings.db, self.round.id, "failed", error=f"No process for it: {error}")
                rounds.release_lease(self.settings.db, self.owner)
                raise
            self.stopwatch, self.child, self.tried = Stopwatch(), child, tried
            return self.round

    def spawn(self, round: Round) -> subprocess.Popen:
        log = log_file(self.settings, round.id)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            return subprocess.Popen(
                self.command(round),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                **OWN_GROUP,
                env=of_child() | current(self.settings).as_environment() | TRAINER_ENVIRONMENT | self.without_gpu(),
            )

    def command(self, round: Round) -> list[str]:
        return [sys.executable, "-m", "kdloop.rounds.trainer", str(round.id)]

    def without_gpu(self) -> dict[str, str]:
        """A ZeroGPU belongs to visitors' requests: a round that saw it would wait for it in vain."""
        return {"CUDA_VISIBLE_DEVICES": ""} if self.settings.zero_gpu else {}

    def tick(self) -> None:
        """Called every second: renew the lease, watch the child, start what is due."""
        with self.lock:
            if self.child and not rounds.renew_lease(self.settings.db, self.owner):
                self.end("failed", "Another process has taken this round for dead, and started one of its own")
            for id in rounds.abandoned_rounds(self.settings.db):
                rounds.finish_round(self.settings.db, id, "failed", error="The process that ran this round is gone")
                checkpoints.prune(self.settings.db)
            if self.child:
                self.watch()
            elif reason := self.due():
                self.start_if_free(reason)
        self.renew_snapshots()

    @contextmanager
    def yielding(self):
        """The round stands still while a reply streams: on a CPU the two would slow each other several times. Not for
        ever: see Stopwatch."""
        self.last_turn = time.monotonic()
        self.replies(+1)
        try:
            yield
        finally:
            self.last_turn = time.monotonic()
            self.replies(-1)

    def replies(self, change: int) -> None:
        with self.pace:  # not `lock`: a promotion is loaded under that one
            self.streaming += change
            self.stop_or_go()

    def stop_or_go(self) -> None:
        on_cpu = self.settings.zero_gpu or not torch.cuda.is_available()
        if (child := self.child) and child.poll() is None and on_cpu:
            still = bool(self.streaming) and self.stopwatch.may_stand
            with suppress(ProcessLookupError):
                if still and not self.stopwatch.since:
                    self.stop_outside_writes(child)
                elif not still:
                    os.killpg(child.pid, signal.SIGCONT)
            self.stopwatch.turn(still)

    def stop_outside_writes(self, child: subprocess.Popen) -> None:
        """A process that stands still within a write would keep everybody else from writing."""
        for _ in range(20):
            is_writable(self.settings.db, 0.5)  # as soon as its write ends
            os.killpg(child.pid, signal.SIGSTOP)
            if is_writable(self.settings.db):
                return
            os.killpg(child.pid, signal.SIGCONT)

    def watch(self) -> None:
        db, id = self.settings.db, self.round.id
        with self.pace:
            self.stop_or_go()
        known = rounds.get_round(db, id)
        if self.child.poll() is not None:
            lost = f"The trainer process ended with code {self.child.returncode}; see {log_file(self.settings, id)}"
            self.end("failed", lost)
        elif known.cancel_requested_at:
            self.end("cancelled", known.error or "Cancelled by hand")
        elif self.stopwatch.ran > 60 * (limit := current(self.settings).round_timeout_minutes):
            self.end("failed", f"Timed out after {limit:g} minutes of its own")

    def end(self, status: str, why: str) -> None:
        """Make sure that the process is gone, record the end unless the round has one, and follow a promotion."""
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
        rounds.finish_round(self.settings.db, self.round.id, status, error=why)
        rounds.release_lease(self.settings.db, self.owner)
        self.child = self.round = None
        self.last_end = time.monotonic()
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
                print("kdloop: snapshot", save(self.settings.db, open_target(self.settings.snapshots)), flush=True)
            except (OSError, ValueError, DamagedSnapshot) as error:
                self.renew_at = time.monotonic() + 60 * RETRY_MINUTES
                print(f"kdloop: no snapshot: {error}", file=sys.stderr, flush=True)

    def renew_snapshots(self) -> None:
        """Soon after an erasure, beside a round that may be running: a snapshot of before would undo it."""
        wanted = self.settings.snapshots and owed(self.settings.db) and time.monotonic() > self.renew_at
        if wanted and not self.saving.locked():
            Thread(target=self.snapshot, name="snapshot", daemon=True).start()

    def due(self) -> str | None:
        """Why a round should start now, if it should."""
        new = feedback.count_votes(self.settings.db)[1]
        if not new or self.resting():
            return None
        settings = current(self.settings)
        if settings.round_votes and new >= self.starts_at():
            return "votes"
        idle = time.monotonic() - self.last_turn
        if settings.idle_minutes and idle > 60 * settings.idle_minutes and (new > self.tried or not self.refused()):
            self.last_turn = time.monotonic()
            return "idle"
        return None

    def starts_at(self) -> int:
        """How many new votes start a round; 0 where votes start none.

        A round that was refused before it trained has used no vote up: they all stay new. The same votes would be
        refused again, so the next round starts by itself only once a quarter of `round_votes` more have come (when
        nobody chats: once one more has), which bring what was missing or do not. By hand it may start at any time.
        """
        at = current(self.settings).round_votes
        return max(at, self.tried + math.ceil(at / MORE)) if at and self.refused() else at

    def refused(self) -> bool:
        """Did the last round end before it trained anything?"""
        last = next(iter(rounds.list_rounds(self.settings.db, 1)), None)
        return bool(last) and last.status == "rejected" and last.candidate_id is None

    def resting(self) -> bool:
        """A round that failed or was cancelled leaves its votes unread: without a rest they would start it again."""
        ends = [r for r in rounds.list_rounds(self.settings.db, 8) if r.finished_at]
        broken = list(takewhile(lambda r: r.status in ("failed", "cancelled"), ends))
        rested = max(time.monotonic() - self.last_end, seconds_since(broken[0].finished_at)) if broken else 0
        return bool(broken) and rested < 60 * RETRY_MINUTES * 2 ** (len(broken) - 1)

    def start_if_free(self, reason: str) -> None:
        with suppress(RoundRunning):  # another app on the same database was first
            self.start(self.settings.method, started_by=reason)

    def run_forever(self) -> None:
        while not self.stopping.wait(TICK_SECONDS):
            try:
                self.tick()
            except (OSError, DatabaseError) as error:  # a full disk, a locked database: the next second may be better
                print(f"kdloop: {error}; trying again", file=sys.stderr, flush=True)

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
        if self.thread:
            self.thread.join()  # its tick may start a round, or load a champion
        with self.lock:
            if self.child:
                self.end("failed", "The app was stopped during this round")
            else:
                self.snapshot()


def seconds_since(at: str) -> float:
    """By the clock, which may have gone back since: below 0 then."""
    return (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()


def log_file(settings: Settings, round_id: int) -> Path:
    return settings.home / "rounds" / f"{round_id:06d}" / "trainer.log"


# Not a session of its own: when the app is killed, the system then ends or wakes a group that stands still, too.
OWN_GROUP = {"process_group": 0}
KEEP_MEMORY = {  # glibc: what a step frees, the next one gets; to ask the system for it again takes a third of a step
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
}
TRAINER_ENVIRONMENT = KEEP_MEMORY | {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}
