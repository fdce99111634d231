"""Active selection: the preference model's probabilities for the pairs on the Teach tab, by all votes up to now.

Each round stores its own probabilities; votes cast since then may have settled a pair, or shown a rater to be
unreliable. New votes start a refit in a thread of its own. Only the app's shutdown waits for it: Python aborts if a
daemon thread is inside PyTorch at exit, and no thread can start during shutdown.
"""

from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread

from kdloop import packs
from kdloop.feedback.examples import from_feedback
from kdloop.raters import preference_model
from storage import feedback, people


@dataclass
class Estimates:
    """`probabilities` by AI choice id; `votes` (all, since the last round) as counted when the last refit began."""

    probabilities: dict[str, float] = field(default_factory=dict)
    votes: tuple[int, int] = (0, 0)
    refit: Thread | None = None
    lock: Lock = field(default_factory=Lock)


ESTIMATES: dict[Path, Estimates] = {}  # one per database that this process serves


def latest(db: Path) -> dict[str, float]:
    """AI choice id -> probability that its chosen completion is the better one, by the last finished refit. Starts a
    refit if the votes have changed since. Empty until the model's skill is proven."""
    estimates, votes = ESTIMATES.setdefault(db, Estimates()), feedback.count_votes(db)
    with estimates.lock:
        if votes != estimates.votes and not (estimates.refit and estimates.refit.is_alive()):
            estimates.votes, estimates.refit = votes, Thread(target=update, args=(db, estimates), name="refit")
            estimates.refit.start()
        return estimates.probabilities


def update(db: Path, estimates: Estimates) -> None:
    estimates.probabilities = estimate(db)


def wait() -> None:
    """Block until all running refits have finished."""
    for estimates in list(ESTIMATES.values()):
        if estimates.refit:
            estimates.refit.join()


def forget() -> None:
    """Drop all cached texts and estimates after an erasure, once running refits are done: they may have read what was
    erased."""
    wait()
    preference_model.FEATURE_CACHE.clear()
    ESTIMATES.clear()


people.FORGET.append(forget)


def estimate(db: Path) -> dict[str, float]:
    """Refit on the current votes; the probabilities of all pairs that wait."""
    split = from_feedback(db)
    if not (waiting := waiting_pairs(db)):
        return {}
    model = preference_model.of_people(split)
    if not preference_model.proven(model):
        return {}
    sides = [[(text, True) for text in side] for side in zip(*((a.chosen, a.rejected) for a in waiting), strict=True)]
    return dict(zip([a.id for a in waiting], model.probabilities([a.question for a in waiting], *sides), strict=True))


def waiting_pairs(db: Path) -> list[feedback.AIChoice]:
    """Unchecked AI choices on the packs' prompts only: other people's prompts are private."""
    return feedback.ai_choices(db, "", packs.prompts("general", "train"))
