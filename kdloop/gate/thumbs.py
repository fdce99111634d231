"""Do people like the version that serves less than the one before it? An alarm by thumbs; it acts on nothing.

The one before liked q of its thumbs; `before` is the lower end of q's 95 % interval (Clopper & Pearson 1934), so "less"
is well below. Against "the version is liked in at least `before`" the e-process after w likes and l dislikes is the
mixture of all smaller rates, each alike,

    E(w, l) = integral over p in (0, before) of (p / before)^w ((1 - p) / (1 - before))^l dp / before

whose factors have expectation <= 1 where the version is no worse; so it ever reaches ALARM in one of twenty such
versions at most, as in gate/evidence.py. The interval is wrong for one predecessor of forty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import betainc, betaincinv, betaln

from storage import checkpoints, feedback, rounds

ALARM = 20.0
FEWEST = 10  # thumbs of the version before: of fewer, the interval's lower end is near nothing


@dataclass(frozen=True)
class Thumbs:
    """`name` serves, `predecessor` served before; (likes, thumbs) of each; `evidence` is the greatest so far."""

    name: str
    predecessor: str
    liked: tuple[int, int]
    liked_before: tuple[int, int]
    before: float
    evidence: float

    @property
    def alarm(self) -> bool:
        return self.evidence >= ALARM


def watch(db: Path) -> Thumbs | None:
    """None where nothing served before, or too few have rated that."""
    now = checkpoints.serving(db)
    if now.round_id is None:
        return None
    former = checkpoints.get_checkpoint(db, rounds.get_round(db, now.round_id).base_id)
    given, before = feedback.thumbs_of(db, now.id), feedback.thumbs_of(db, former.id)
    if len(before) < FEWEST:
        return None
    likes = sum(before)
    low = float(betaincinv(likes, len(before) - likes + 1, 0.025)) if likes else 0.0
    return Thumbs(now.name, former.name, (sum(given), len(given)), (sum(before), len(before)), low, worst(given, low))


def worst(given: Sequence[bool], before: float) -> float:
    """The greatest e-value after any of these thumbs, in their order."""
    if not len(given) or before <= 0:
        return 1.0
    likes = np.cumsum(given)
    dislikes = np.arange(1, len(given) + 1) - likes
    log_mixture = betaln(likes + 1, dislikes + 1) + np.log(betainc(likes + 1, dislikes + 1, before) + 1e-300)
    log_null = (likes + 1) * np.log(before) + dislikes * np.log1p(-before)
    return float(np.exp(max(0.0, (log_mixture - log_null).max())))
