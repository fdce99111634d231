"""People who chat and vote all at once, over HTTP as the page does it: `make load [PEOPLE=50] [SECONDS=300]`.

Starts an app of its own on loopback. Prints what was asked, answered and voted, what of it the database holds, errors,
the longest queue anybody was told of, and the app's memory at each sixth of the time.
"""

import argparse
import json
import random
import secrets
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import psutil
from pages import running

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


class Person:
    """One browser tab: a session, its endpoints by name, and what came of them."""

    def __init__(self, url: str, db: Path, seen: Counter):
        self.db = db
        self.http, self.seen, self.session = httpx.Client(base_url=url, timeout=600), seen, secrets.token_hex(6)
        self.ids = {d["api_name"]: d for d in self.http.get("/config").json()["dependencies"]}
        self.call("on_load")

    def call(self, name: str, *said: object, **event) -> bool:
        """What the browser does not know, state above all, it posts as null."""
        body = {
            "data": [*said, *[None] * (len(self.ids[name]["inputs"]) - len(said))],
            "fn_index": self.ids[name]["id"],
            "session_hash": self.session,
            "event_data": event or None,
        }
        joined = self.http.post("/gradio_api/queue/join", json=body)
        if joined.status_code != 200:
            self.seen["refused: " + joined.text[:60]] += 1
            return False
        mine = joined.json()["event_id"]
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as lines:
            for line in lines.iter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "estimation":
                    self.seen["longest queue"] = max(self.seen["longest queue"], message["rank"] + 1)
                if message.get("msg") == "process_completed" and message.get("event_id") == mine:
                    if not message["success"]:
                        self.seen[f"error in {name}: {message['output'].get('error')}"] += 1
                    return message["success"]
        self.seen[f"no answer from {name}"] += 1
        return False

    def chat_and_vote(self, until: float) -> None:
        turns = 0
        while time.monotonic() < until:
            self.seen["asked"] += 1
            if self.call("on_send", f"{random.choice(QUESTIONS)} ({self.session})") and self.call("reply"):
                self.seen["answered"] += self.call("ready")
                turns += 1
                self.seen["voted"] += self.vote(turns)
            time.sleep(random.uniform(0, 2))
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
        app = next(c for c in psutil.Process().children() if "app.py" in " ".join(c.cmdline()))
        print(json.dumps(run(url, Path(home) / "kdloop.db", app, args.people, args.seconds), indent=1))


if __name__ == "__main__":
    main()
