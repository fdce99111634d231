"""What this process has answered since its start: counts and latencies of replies, for GET /metrics."""

from bisect import bisect_left
from collections import Counter
from threading import Lock

BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)  # seconds
LOCK = Lock()
REPLIES: Counter = Counter()  # by status
TOKENS: Counter = Counter()  # prompt, completion


class Histogram:
    """How many measurements lie in each bucket: up to a bound of BOUNDS, or above them all."""

    def __init__(self):
        self.counts, self.sum = [0] * (len(BOUNDS) + 1), 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds


SECONDS = {"first_token": Histogram(), "reply": Histogram()}


def count(status: str, **measured) -> None:
    """Of a reply that has ended: its status, and what was measured (student.Sample.measured), if anything."""
    with LOCK:
        REPLIES[status] += 1
        for name in ("prompt", "completion"):
            TOKENS[name] += measured.get(f"{name}_tokens") or 0
        for name, key in (("first_token", "first_token_seconds"), ("reply", "seconds")):
            if key in measured:
                SECONDS[name].add(measured[key])
