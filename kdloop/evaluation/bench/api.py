"""The API against llama.cpp's own server, and many programs at once beside a round.

    python -m kdloop bench api [--turns 7] [--clients 50 --seconds 60] [--json FILE]

Both servers run the same GGUF with as many threads and slots, and are asked the same by the same client: streamed chat
completions, greedy, in turns. Then programs ask and vote while a round runs, and all that was acknowledged is looked
for in the database.
"""

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import httpx

from kdloop.evaluation.bench import Figure, in_turns, line, machine, table_head
from kdloop.evaluation.bench.app_process import AppProcess
from kdloop.evaluation.bench.data import new_database
from kdloop.evaluation.bench.decode import TOKENS, llama_server, prompts
from kdloop.settings import Settings
from kdloop.student.base import find_student
from kdloop.student.engines import CHATS
from storage import conversations, feedback, files, rounds
from storage.conversations import Message
from storage.synthetic import fill

ASKED = {1: 2, 8: 8}  # at once -> prompts of a turn
FIRST_TOKENS = 4  # prompts of a turn
VOTES = 2000  # that the round beside the clients begins with
LOAD_TOKENS = 24  # of a client's completions, at most
PAUSE = 2.0  # seconds between two requests of a client, at most
PATIENCE = 600  # seconds for a round to begin


@dataclass(frozen=True)
class Streamed:
    """What a client saw of one completion; `seconds` to its first text."""

    receipt: str
    text: str
    tokens: int
    seconds: float


def streamed(http: httpx.Client, messages: list[Message], tokens: int, **more) -> Streamed:
    """Tokens without the one that ends the turn, which llama-server counts and kdloop does not. Raises
    httpx.HTTPStatusError where it is refused, and ValueError for an error within the stream."""
    options = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": tokens, **more}
    start, first, text, receipt, counted, ended = time.monotonic(), 0.0, "", "", 0, False
    with http.stream("POST", "/v1/chat/completions", json={"messages": messages} | options) as response:
        if response.is_error:
            response.read()
            response.raise_for_status()
        ours = "x-kdloop-completion" in response.headers
        for data in response.iter_lines():
            if not data.startswith("data: {"):
                continue
            chunk = json.loads(data[6:])
            if "error" in chunk:
                raise ValueError(chunk["error"]["message"])
            receipt = chunk["id"]
            for choice in chunk["choices"]:
                piece = choice["delta"].get("content") or ""
                first = first or (time.monotonic() - start if piece else 0.0)
                text, ended = text + piece, ended or choice["finish_reason"] == "stop"
            counted = (chunk.get("usage") or {}).get("completion_tokens", counted)
    return Streamed(receipt, text, counted - (ended and not ours), first)


@contextmanager
def app(**variables: str) -> Iterator[AppProcess]:
    """On a home of its own, with this installation's student; it is not started yet."""
    mine = Settings.from_environment()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        new_database(str(home))
        if not mine.student:
            (home / "student").symlink_to(find_student("", mine.home))
        process = AppProcess(home, **{"KDLOOP_ENGINE": "llamacpp", "HF_HUB_OFFLINE": "1"} | variables)
        try:
            yield process
        finally:
            if process.process and process.process.poll() is None:
                process.stop()


def against_llama_server(turns: int) -> Iterator[Figure]:
    with app(KDLOOP_ROUND_VOTES="0") as ours, llama_server(CHATS) as address:
        ours.start()
        one_each = httpx.Limits(max_keepalive_connections=0)  # llama-server closes those that have waited for 5 s
        clients = [httpx.Client(base_url=url, timeout=600, limits=one_each) for url in (ours.url, address)]
        for at_once in ASKED:
            ours_at, its = (partial(tokens_per_second, client, at_once) for client in clients)
            a, b = in_turns(ours_at, its, turns)
            yield Figure(f"API, {at_once} at once ÷ llama-server", a, b, "tok/s", a / b, ">= 0.95", turns)
        ours_at, its = (partial(first_token, client) for client in clients)
        a, b = in_turns(ours_at, its, turns)
        yield Figure("API, first token ÷ llama-server", a, b, "ms", a / b, "<= 1.1", turns)


def tokens_per_second(http: httpx.Client, at_once: int, turn: int) -> float:
    """Prompts included."""
    start = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        each = list(pool.map(lambda p: streamed(http, p, TOKENS, temperature=0), prompts(ASKED[at_once], turn)))
    return sum(s.tokens for s in each) / (time.monotonic() - start)


def first_token(http: httpx.Client, turn: int) -> float:
    """Milliseconds, a mean of FIRST_TOKENS, one after the other."""
    each = [streamed(http, p, 2, temperature=0).seconds for p in prompts(FIRST_TOKENS, turn)]
    return 1000 * sum(each) / len(each)


class Program:
    """A client that asks, and votes by receipt, until a time. What was acknowledged is kept."""

    def __init__(self, url: str, number: int, seen: Counter):
        self.http, self.draw, self.seen = httpx.Client(base_url=url, timeout=600), random.Random(number), seen
        self.completions: dict[str, str] = {}  # id -> text
        self.votes: list[str] = []

    def work(self, until: float) -> None:
        while time.monotonic() < until:
            self.seen["asked"] += 1
            said = self.obeyed(self.ask)
            self.completions[said.receipt.removeprefix("chatcmpl-")] = said.text
            if said.text:  # an empty one cannot be rated
                self.seen["voted"] += 1
                self.votes += self.obeyed(lambda receipt=said.receipt: self.vote(receipt))
            time.sleep(self.draw.uniform(0, PAUSE))
        self.http.close()

    def obeyed(self, request: Callable):
        """Asks again when `Retry-After` says so, as OpenAI's clients do. Raises what else comes."""
        while True:
            try:
                return request()
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in (429, 503):
                    raise
                self.seen[f"asked again after {error.response.status_code}"] += 1
                time.sleep(float(error.response.headers["Retry-After"]))

    def ask(self) -> Streamed:
        (prompt,) = prompts(1, self.draw.randrange(10_000))
        if self.draw.random() < 0.5:
            return streamed(self.http, prompt, LOAD_TOKENS)
        told = self.post("/v1/chat/completions", {"messages": prompt, "max_tokens": LOAD_TOKENS})
        return Streamed(told["id"], told["choices"][0]["message"]["content"], told["usage"]["completion_tokens"], 0.0)

    def vote(self, receipt: str) -> list[str]:
        return [row["id"] for row in self.post("/v1/feedback", {"completion": receipt, "thumb": "up"})["feedback"]]

    def post(self, path: str, body: dict) -> dict:
        response = self.http.post(path, json=body)
        response.raise_for_status()
        return response.json()


def beside_a_round(clients: int, seconds: float) -> dict:
    """What was asked and voted, and what of it is lost: without an end that a client saw, or not as it saw it in the
    database."""
    seen: Counter = Counter()
    with app() as ours:
        db = ours.home / "kdloop.db"
        fill(db, VOTES, [1])
        ours.start()
        phases = [begun(db)]
        programs = [Program(ours.url, i, seen) for i in range(clients)]
        until = time.monotonic() + seconds
        with ThreadPoolExecutor(clients) as pool:
            ended = [pool.submit(p.work, until) for p in programs]
        failed = Counter(repr(e) for e in (f.exception() for f in ended) if e)
        phases.append(rounds.list_rounds(db, 1)[0].status)
        ours.stop()
        completions = {id: text for p in programs for id, text in p.completions.items()}
        votes = [id for p in programs for id in p.votes]
        kept = sum(stands(conversations.completion(db, id), text) for id, text in completions.items())
        stored = len(feedback.known(db, votes))
    lost = {"lost completions": seen["asked"] - kept, "lost votes": seen["voted"] - stored}
    return dict(seen) | lost | {"errors": dict(failed), "the round at first and at last": phases}


def stands(row: conversations.Completion, text: str) -> bool:
    return row.status in ("finished", "cut") and row.text == text


def begun(db: Path) -> str:
    """The phase of the round that votes have started."""
    until = time.monotonic() + PATIENCE
    while not (now := rounds.running_round(db)) or now.status == "queued":
        if time.monotonic() > until:
            raise TimeoutError(f"No round has begun within {PATIENCE} s")
        time.sleep(1)
    return now.status


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kdloop bench api", description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=7, help="of each figure; 0 leaves them out")
    parser.add_argument("--clients", type=int, default=50, help="beside a round; 0 leaves them out")
    parser.add_argument("--seconds", type=float, default=60.0, help="that they ask and vote")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    args = parser.parse_args(argv)
    found: dict = {"machine": machine(), "figures": [], "beside a round": {}}
    print(table_head(found["machine"]), flush=True)
    for figure in against_llama_server(args.turns) if args.turns else ():
        print(line(figure), flush=True)
        found["figures"].append(asdict(figure) | {"held": figure.held})
    if args.clients:
        found["beside a round"] = beside_a_round(args.clients, args.seconds)
        print(json.dumps(found["beside a round"], indent=1))
    if args.json:
        files.write(args.json, json.dumps(found, indent=1))
    return 1 if found["beside a round"].get("lost completions") or found["beside a round"].get("lost votes") else 0
