"""Active choice: of the pairs that wait on the Teach tab, how sure the preference model is by the votes of this minute.

Each round has stored how sure it was; a vote since then may have settled a pair, and a rater who proved unreliable may
have unsettled one. The model is refitted in a thread of its own, where votes have come. Only the app's end waits for
it: Python aborts where a daemon thread is within PyTorch meanwhile, and another may start no threads any more.
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
    """`sure` is of the `votes` (all, and new ones) that were counted when the last refit began."""

    sure: dict[str, float] = field(default_factory=dict)
    votes: tuple[int, int] = (0, 0)
    refit: Thread | None = None
    lock: Lock = field(default_factory=Lock)


KNOWN: dict[Path, Estimates] = {}  # of this process, by database


def latest(db: Path) -> dict[str, float]:
    """id of an AI choice -> probability that the chosen completion is the better one, as of the last refit that has
    ended; starts another one where votes have come or gone since. Empty until the model's skill is proven."""
    known, votes = KNOWN.setdefault(db, Estimates()), feedback.count_votes(db)
    with known.lock:
        if votes != known.votes and not (known.refit and known.refit.is_alive()):
            known.votes, known.refit = votes, Thread(target=update, args=(db, known), name="refit")
            known.refit.start()
        return known.sure


def update(db: Path, known: Estimates) -> None:
    known.sure = estimate(db)


def wait() -> None:
    """Until the refits that have begun are done."""
    for known in list(KNOWN.values()):
        if known.refit:
            known.refit.join()


def forget() -> None:
    """Of erased texts, nothing stays: a refit that began before the erasure has read them."""
    wait()
    preference_model.KNOWN.clear()


people.FORGET.append(forget)


def estimate(db: Path) -> dict[str, float]:
    split = from_feedback(db)
    human, waiting = [e for e in split.train if e.source == "human"], waiting_pairs(db)
    if len(human) < 4 or not waiting:
        return {}
    model = preference_model.fit(human, split.held_out)
    if not model.skill.proven:
        return {}
    sides = [[(text, True) for text in side] for side in zip(*((a.chosen, a.rejected) for a in waiting), strict=True)]
    return dict(zip([a.id for a in waiting], model.probabilities([a.question for a in waiting], *sides), strict=True))


def waiting_pairs(db: Path) -> list[feedback.AIChoice]:
    """Of anybody; on the packs' prompts only: what others asked is theirs."""
    return feedback.ai_choices(db, "", packs.prompts("general", "train"))
