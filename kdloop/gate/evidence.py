"""What people's blind comparisons of a challenger with the champion show, valid whenever it is looked at.

Let p be the probability that people prefer the challenger where they prefer one. Against the null hypothesis p <= 1/2
the e-process after w wins and l losses is the likelihood ratio of a mixture of alternatives to a fair coin,

    E(w, l) = 2^(w + l) * integral over p in (1/2, 1) of p^w (1 - p)^l dPRIOR(p)

Each factor has expectation <= 1 under every p <= 1/2, so by Ville's inequality P(E ever reaches 1 / alpha) <= alpha,
however often and whenever somebody looks, and wherever they stop (Ramdas et al. 2023, "Game-theoretic statistics and
safe anytime-valid inference", arXiv 2210.01948; the mixture is Robbins' 1970). Ties say nothing about p and do not
count.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincc, betaln

PRIOR = (12.0, 6.0)  # Beta, cut to p > 1/2: its mean is 0.67; found by the table in docs/log.md, not by people's votes
CONFIRM = 20.0  # 1 / 0.05: a challenger that people do not prefer is confirmed in at most one trial of twenty
ROLL_BACK = 6.0  # of the flipped process: a wrong roll back loses a version, a wrong confirmation serves a worse one
MOST = 64  # comparisons of a trial; one that is not decided by then is rolled back


@dataclass(frozen=True)
class Evidence:
    """`wins`, `losses` and `ties` are the challenger's."""

    wins: int = 0
    losses: int = 0
    ties: int = 0

    @classmethod
    def of(cls, outcomes: Iterable[float]) -> "Evidence":
        """From comparisons: 1 where the challenger was preferred, 0 where the champion was, 0.5 for a tie."""
        counts = [sum(o == kind for o in outcomes) for outcomes in [list(outcomes)] for kind in (1.0, 0.0, 0.5)]
        return cls(*counts)

    @property
    def better(self) -> float:
        """The e-value against "people do not prefer the challenger"."""
        return float(np.exp(log_e_value(self.wins, self.losses)))

    @property
    def worse(self) -> float:
        """The e-value against "people do not prefer the champion"."""
        return float(np.exp(log_e_value(self.losses, self.wins)))

    @property
    def decision(self) -> str:
        """confirmed | rolled back | running. `confirmed` wins where both thresholds could be read at once: they cannot,
        as each e-value is small where the other is large."""
        if self.better >= CONFIRM:
            return "confirmed"
        if self.worse >= ROLL_BACK or self.wins + self.losses + self.ties >= MOST:
            return "rolled back"
        return "running"


def log_e_value(wins: int, losses: int) -> float:
    """log E(wins, losses) of the module's docstring; 0 where nothing was compared."""
    a, b = PRIOR
    posterior = betaln(a + wins, b + losses) + np.log(betaincc(a + wins, b + losses, 0.5))
    prior = betaln(a, b) + np.log(betaincc(a, b, 0.5))
    return float(posterior - prior + (wins + losses) * np.log(2))
