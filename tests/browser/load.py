"""People who chat and vote all at once, over HTTP as the page does it: `make load [PEOPLE=50] [SECONDS=300]`.

Starts an app of its own on loopback. Prints what was asked, answered and voted, what of it the database holds, errors,
the longest queue anybody was told of, and the app's memory at each sixth of the time.
"""

import argparse
import json
import random
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
from pages import running

from kdloop.evaluation.bench.visitor import Visitor
from kdloop.settings import Settings
from storage import feedback
from storage.database import connect

QUESTIONS = [
    "Name a fruit.",
    "Why is the sky blue?",
    "Give me a tip for sleep.",
    "What is rain?",
    "Say something kind.",
]


class Person(Visitor):
    """One browser tab: its session, and what came of it."""

    def __init__(self, url: str, db: Path, seen: Counter):
        super().__init__(url, seen)
        self.db = db

    def chat_and_vote(self, until: float) -> None:
        """Once at least, however late the app comes to it."""
        turns, over = 0, False
        while not over:
            self.seen["asked"] += 1
            if self.call("on_send", f"{random.choice(QUESTIONS)} ({self.session})") and self.call("reply"):
                self.seen["answered"] += self.call("ready")
                turns += 1
                self.seen["voted"] += self.vote(turns)
            time.sleep(random.uniform(0, 2))
            over = time.monotonic() > until
        self.http.close()

    def vote(self, turns: int) -> bool:
        """Choose where there were two answers; else a thumb."""
        if turns % Settings.compare_every == 0:
            return self.call("prefer")
        return self.call("on_like", self.shown(), index=2 * turns - 1, value=["x"], liked=random.random() < 0.5)

    def shown(self) -> list[dict]:
        """The chat as the page has it: each completion's id travels with its message. Its texts name the session."""
        ids = "select k.id from completions k join turns t on t.id = k.turn_id where t.prompt like ? order by k.rowid"
        with connect(self.db) as c:
            rows = c.execute(ids, [f"%{self.session}%"]).fetchall()
        told = [
            {"role": "assistant", "content": [{"type": "text", "text": "x"}], "metadata": {"id": row[0]}}
            for row in rows
        ]
        return [m for one in told for m in ({"role": "user", "content": [{"type": "text", "text": "x"}]}, one)]


def run(url: str, db: Path, process: psutil.Process, people: int, seconds: float) -> dict:
    """The counts, as `main` prints them."""
    seen, until = Counter(), time.monotonic() + seconds
    before = len(feedback.live_feedback(db))
    threads = [threading.Thread(target=lambda: Person(url, db, seen).chat_and_vote(until)) for _ in range(people)]
    for thread in threads:
        thread.start()
    memory = []
    for _ in range(6):
        time.sleep(seconds / 6)
        memory.append(process.memory_info().rss // 2**20)
    for thread in threads:
        thread.join()
    stored = len(feedback.live_feedback(db)) - before
    return dict(seen) | {"votes stored": stored, "MB at each sixth": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--student", default="", help="as KDLOOP_STUDENT")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, running(Path(home), KDLOOP_STUDENT=args.student) as url:
        app = psutil.Process(int((Path(home) / "app.pid").read_text()))
        print(json.dumps(run(url, Path(home) / "kdloop.db", app, args.people, args.seconds), indent=1))


if __name__ == "__main__":
    main()
