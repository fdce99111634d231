"""The database: the page's queries and a round's reading at 10^3 to 10^6 votes."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kdloop.chat import arena
from kdloop.evaluation.bench import Figure, within
from kdloop.feedback import collect
from kdloop.feedback.examples import from_feedback
from storage import checkpoints, conversations, feedback
from storage.database import open_database
from storage.synthetic import fill

MAX_WAIT = 50.0  # ms for a vote or a query of the page: the bar of docs/scale.md
SIZES = (1_000, 10_000, 100_000, 1_000_000)
REPEATS = 20  # of each query
QUERIES = {
    "votes so far": lambda db, at: feedback.count_votes(db),
    "votes by hour": lambda db, at: feedback.votes_by_hour(db),
    "standings": lambda db, at: arena.standings(db),
    "past conversations": lambda db, at: conversations.find_conversations(db, f"person {at}"),
    "a conversation": lambda db, at: conversations.history(db, f"v{at}", f"person {at}"),
    "its thumbs": lambda db, at: feedback.thumbs(db, f"person {at}", f"v{at}"),
    "what to teach": lambda db, at: feedback.ai_choices(db, f"person {at}"),
    "a vote": lambda db, at: collect.thumb(db, f"person {at}", f"a{at}", True),
    "its undo": lambda db, at: feedback.retract(db, f"person {at}", "thumb", f"a{at}"),
}


def new_database(home: str) -> Path:
    db = open_database(Path(home) / "kdloop.db")
    checkpoints.ensure_base(db)
    return db


def pages() -> Iterator[Figure]:
    """The slowest query of the page at each size, against the same query at the smallest size."""
    with tempfile.TemporaryDirectory() as home:
        db, first = new_database(home), {}
        for size in SIZES:
            fill(db, size, [1])
            times = {name: p95(db, query) for name, query in QUERIES.items()}
            first = first or times
            slow = max(times, key=times.get)
            ratio = times[slow] / first[slow]
            name = f"page p95 at {size} votes: {slow}"
            yield Figure(name, times[slow], first[slow], "ms", ratio, n=REPEATS)
            if size == SIZES[-1]:
                yield within(name, times[slow], MAX_WAIT, "ms", REPEATS)


def p95(db: Path, query) -> float:
    """Milliseconds."""
    out = []
    for i in range(REPEATS):
        start = time.monotonic()
        query(db, i)
        out.append(1000 * (time.monotonic() - start))
    return p(out, 95)


def p(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def examples() -> Iterator[Figure]:
    """A round's reading of the votes: seconds and peak memory at 10^6 against 10^5 votes."""
    with tempfile.TemporaryDirectory() as home:
        db, found = new_database(home), []
        for size in SIZES[-2:]:
            fill(db, size, [1])
            found.append([statistics.median(values) for values in zip(*(read(db) for _ in range(5)), strict=True)])
        (small, small_mib), (large, large_mib) = found
        yield Figure("examples from 10^6 ÷ 10^5 votes", large, small, "s", large / small, "<= 12")
        yield Figure("their memory, 10^6 ÷ 10^5 votes", large_mib, small_mib, "MiB", large_mib / small_mib, "<= 1.1")


def read(db: Path) -> tuple[float, float]:
    """(seconds, peak MiB) in a process of its own."""
    code = "import sys, pathlib, kdloop.evaluation.bench.data as d; print(*d.read_here(pathlib.Path(sys.argv[1])))"
    out = subprocess.run([sys.executable, "-c", code, str(db)], check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, peak = map(float, out.split())
    return seconds, peak


def read_here(db: Path) -> tuple[float, float]:
    """VmHWM, not ru_maxrss, which starts at the parent's peak."""
    start = time.monotonic()
    from_feedback(db)
    seconds, status = time.monotonic() - start, Path("/proc/self/status").read_text()
    return seconds, int(status.partition("VmHWM:")[2].split()[0]) / 1024
