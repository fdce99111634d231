"""People who chat and vote while an app is killed under them, and a record of what the app has acknowledged."""

import html
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from kdloop import packs
from kdloop.evaluation.bench.small_student import LIKED
from kdloop.evaluation.bench.visitor import Visitor
from storage import feedback, people

BUTTONS = ("left", "right", "tie")  # under two answers, in this order
TAG = re.compile("<[^>]*>")
PAUSE_SECONDS = 20.0  # of one person between two messages, on average: a round waits while anybody is answered
TRIAL_PAUSE_SECONDS = 0.5  # while a trial waits for them
LOOK_AGAIN_SECONDS = 0.5  # for an app that has been killed


class Voters:
    """They like what ends with LIKED; while `contrary` is set, those who compare two completions prefer the other, and
    while `eager` is, they hardly pause.

    `file` has a line per acknowledged vote: the id of its row as the API returns it, or who has chosen on the page. It
    is read again where a harness goes on.
    """

    def __init__(self, file: Path, programs: int = 2, visitors: int = 6):
        self.file, self.kinds = file, [self.by_api] * programs + [self.on_the_page] * visitors
        self.url, self.contrary, self.eager, self.stopping = "", False, False, threading.Event()
        self.rows: list[str] = []
        self.choices: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.writing = threading.Lock()
        for line in file.read_text().splitlines() if file.exists() else ():
            self.note(*json.loads(line))

    def note(self, kind: str, what: str) -> None:
        self.rows.append(what) if kind == "row" else self.choices.update([what])

    def acknowledged(self, kind: str, what: str) -> None:
        with self.writing, self.file.open("a") as out:
            out.write(json.dumps([kind, what]) + "\n")
            self.note(kind, what)

    @contextmanager
    def voting(self, url: str) -> Iterator[None]:
        self.url = url
        threads = [threading.Thread(target=self.go_on, args=(kind, i)) for i, kind in enumerate(self.kinds)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stopping.set()
            for thread in threads:
                thread.join()

    def go_on(self, kind, seed: int) -> None:
        """A new tab whenever the app is there again."""
        draw = random.Random(seed)
        while not self.stopping.is_set():
            with suppress(httpx.HTTPError, ValueError, KeyError):  # it is gone, or was amid an answer
                visitor = Visitor(self.url, self.seen, timeout=60)
                while not self.stopping.is_set():
                    kind(visitor, draw)
                    self.stopping.wait(draw.uniform(0, 2 * (TRIAL_PAUSE_SECONDS if self.eager else PAUSE_SECONDS)))
            self.stopping.wait(LOOK_AGAIN_SECONDS)

    def by_api(self, visitor: Visitor, draw: random.Random) -> None:
        if visitor.call("chat", question(draw)):
            said = visitor.given[0]
            if visitor.call("feedback", said["token"], said["text"].endswith(LIKED)):
                for row in visitor.given[0]["feedback"]:
                    self.acknowledged("row", row)

    def on_the_page(self, visitor: Visitor, draw: random.Random) -> None:
        if not (visitor.call("on_send", question(draw)) and visitor.call("reply")):
            return
        _, _, _, two, _, left, right, *_ = visitor.given
        visitor.call("ready")
        if two.get("visible"):
            liked = [html.unescape(TAG.sub("", text)).endswith(LIKED) != self.contrary for text in (left, right)]
            side = "tie" if liked[0] == liked[1] else "left" if liked[0] else "right"
            if visitor.call("prefer", by=BUTTONS.index(side)):
                self.acknowledged("person", visitor.person)

    def lost(self, db: Path) -> list[str]:
        """In words, what was acknowledged and is not in the database."""
        with self.writing:
            rows, choices = list(self.rows), dict(self.choices)
        missing = set(rows) - feedback.known(db, rows)
        found = [f"{len(missing)} votes are lost: {sorted(missing)[:3]}"] if missing else []
        for person, n in choices.items():
            stored = sum(row["channel"] == "choice" for row in people.everything(db, person)["feedback"])
            if stored < n:
                found.append(f"{n - stored} of {n} choices of {person} are lost")
        return found

    @property
    def votes(self) -> int:
        return len(self.rows) + self.choices.total()


def question(draw: random.Random) -> str:
    return draw.choice(packs.prompts("general", "train"))
