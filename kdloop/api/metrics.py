"""GET /metrics: the app in numbers, in Prometheus' text format (its "exposition format", version 0.0.4)."""

from collections.abc import Iterable
from itertools import accumulate

from kdloop.api.writing import Loop
from kdloop.chat import measures
from storage import checkpoints, feedback, rounds

ABOUT = {"first_token": "Seconds to a reply's first token", "reply": "Seconds to its end"}
PHASES = ("idle", *rounds.RUNNING)


def text(loop: Loop) -> str:
    db, places = loop.settings.db, loop.supervisor.places
    votes, new = feedback.count_votes(db)
    running = rounds.running_round(db)
    phase, champion = running.status if running else "idle", checkpoints.serving(db)
    engine = label("engine", loop.serving.base.name, version=champion.name)
    with measures.LOCK:
        replies, tokens = dict(measures.REPLIES), dict(measures.TOKENS)
        times = [(name, [*h.counts], h.sum) for name, h in measures.SECONDS.items()]
    lines = [
        *family("messages_total", "counter", "Replies since the app's start", by("status", replies)),
        *family("tokens_total", "counter", "Tokens of them, read and written", by("kind", tokens)),
        *family("votes", "gauge", "Active votes of people", [("", votes)]),
        *family("votes_new", "gauge", "Of these, votes that no round has used", [("", new)]),
        *family("rounds", "gauge", "Rounds by how they ended", by("status", rounds.count_by_status(db))),
        *family("phase", "gauge", "What the trainer does now", [(label("phase", p), p == phase) for p in PHASES]),
        *family("replies_writing", "gauge", "Replies under way", [("", places.taken)]),
        *family("replies_waiting", "gauge", "Requests that wait for a place", [("", len(places.waiting))]),
        *family("engine_info", "gauge", "The engine of chats, and the version that serves", [(engine, 1)]),
    ]
    for one in times:
        lines += histogram(*one)
    return "\n".join(lines) + "\n"


def family(name: str, kind: str, about: str, samples: Iterable[tuple[str, int]]) -> list[str]:
    head = [f"# HELP kdloop_{name} {about}", f"# TYPE kdloop_{name} {kind}"]
    return head + [f"kdloop_{name}{labels} {value:d}" for labels, value in samples]


def by(name: str, counts: dict[str, int]) -> list[tuple[str, int]]:
    return [(label(name, key), n) for key, n in sorted(counts.items())]


def label(name: str, value: str, **more: str) -> str:
    """As {name="value",...}, with what the format escapes."""
    pairs = {name: value} | more
    escaped = {k: v.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"") for k, v in pairs.items()}
    return "{" + ",".join(f'{k}="{v}"' for k, v in escaped.items()) + "}"


def histogram(name: str, counts: list[int], total: float) -> list[str]:
    """Each bucket holds those below it, too."""
    bounds, upto = [*(f"{b:g}" for b in measures.BOUNDS), "+Inf"], list(accumulate(counts))
    samples = [(f"_bucket{label('le', bound)}", n) for bound, n in zip(bounds, upto, strict=True)]
    lines = family(f"{name}_seconds", "histogram", ABOUT[name], [*samples, ("_count", upto[-1])])
    return [*lines, f"kdloop_{name}_seconds_sum {total:.6f}"]
