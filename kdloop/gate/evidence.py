"""What people's blind comparisons of a challenger with the champion show, valid whenever it is looked at.

Let p be the probability that people prefer the challenger where they prefer one. Against the null hypothesis p <= 1/2
the e-process after w wins and l losses is the likelihood ratio of a mixture of alternatives to a fair coin,

    E(w, l) = 2^(w + l) * integral over p in (1/2, 1) of p^w (1 - p)^l dPRIOR(p)

Each factor has expectation <= 1 under every p <= 1/2, so by Ville's inequality P(E ever reaches 1 / alpha) <= alpha,
however often and whenever somebody looks, and wherever they stop (Ramdas et al. 2023, "Game-theoretic statistics and
safe anytime-valid inference", arXiv 2210.01948; the mixture is Robbins' 1970). A vote of weight v < 1 is a factor to
the power v, whose expectation is <= 1 too (Jensen). Ties say nothing about p: they are no part of the evidence, nor of
the MOST comparisons in which it has to be found.

Where the page is shared, nobody decides alone: whoever has compared most is left out. So the bound holds whatever a
flooder says, and they are missed only where they are few comparisons anyway.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincc, betaln

from storage.trials import Vote

PRIOR = (12.0, 6.0)  # Beta, cut to p > 1/2: its mean is 0.67; found by simulation (docs/log.md), not by people's votes
CONFIRM = 20.0  # 1 / 0.05: a challenger that people do not prefer is confirmed in at most one trial of twenty
ROLL_BACK = 6.0  # of the flipped process: a wrong roll back loses a version, a wrong confirmation serves a worse one
MOST = 64  # comparisons of a trial that prefer one; a trial that is not decided by then is rolled back
MOST_WITH_TIES = (
    2 * MOST
)  # and with those that prefer none: counted like the others, a third of ties cost 0.16 of power
KINDS = (1.0, 0.0, 0.5)  # outcomes: the challenger was preferred, the champion was, neither


@dataclass(frozen=True)
class Evidence:
    """`wins`, `losses` and `ties` are the challenger's, by the weights of those who gave them. `better` is the e-value
    against "people do not prefer the challenger", `worse` against "people do not prefer the champion". They, the number
    of comparisons `compared`, and of those that prefer one, `decided`, are without whoever is left out."""

    wins: float = 0.0
    losses: float = 0.0
    ties: float = 0.0
    better: float = 1.0
    worse: float = 1.0
    compared: float = 0.0
    decided: float = 0.0

    @classmethod
    def of(cls, counts: np.ndarray, shared: bool) -> "Evidence":
        """`counts` is (people, KINDS): how much each person has said of each kind."""
        kept = counted(counts, shared)
        wins, losses, _ = kept
        better, worse = np.exp(log_e_value(wins, losses)), np.exp(log_e_value(losses, wins))
        return cls(*map(float, (*counts.sum(0), better, worse, kept.sum(), wins + losses)))

    @property
    def decision(self) -> str:
        """confirmed | rolled back | running. Both thresholds are never reached at once: each e-value is small where the
        other is large."""
        if self.better >= CONFIRM:
            return "confirmed"
        over = self.decided >= MOST or self.compared >= MOST_WITH_TIES
        return "rolled back" if self.worse >= ROLL_BACK or over else "running"

    @property
    def way(self) -> float:
        """How far the trial has come, by logarithms of evidence: 1 is confirmed, -1 rolled back, 0 nothing known."""
        up, down = np.log(self.better) / np.log(CONFIRM), np.log(self.worse) / np.log(ROLL_BACK)
        return float(np.clip(max(up, 0.0) - max(down, 0.0), -1, 1))

    def as_dict(self) -> dict:
        return {name: round(value, 4) for name, value in self.__dict__.items()}


def counted(counts: np.ndarray, shared: bool) -> np.ndarray:
    """Of counts (..., people, KINDS), the sum over people: where the page is shared, without whoever compared most."""
    if not (shared and counts.shape[-2]):
        return counts.sum(-2)
    most = counts.sum(-1).argmax(-1)[..., None, None]
    return counts.sum(-2) - np.take_along_axis(counts, most, -2)[..., 0, :]


def trail(votes: Sequence[Vote], shared: bool) -> list[Evidence]:
    """The evidence before the first vote and after each one, to the one that decides: the same whenever one looks."""
    people = {person: i for i, person in enumerate(sorted({v.person for v in votes}))}
    counts, found = np.zeros((len(people), len(KINDS))), [Evidence()]
    for vote in votes:
        if found[-1].decision != "running":
            break
        counts[people[vote.person], KINDS.index(vote.outcome)] += vote.weight
        found.append(Evidence.of(counts, shared))
    return found


def least_more(evidence: Evidence) -> int:
    """The fewest further comparisons that could decide, if all went one way and nobody need be left out."""
    wins, losses, left = evidence.wins, evidence.losses, max(1, int(np.ceil(MOST - evidence.decided)))
    more = np.arange(1, left + 1)
    decided = (log_e_value(wins + more, losses) >= np.log(CONFIRM)) | (
        log_e_value(losses + more, wins) >= np.log(ROLL_BACK)
    )
    return int(more[decided][0]) if decided.any() else left


def log_e_value(wins, losses):
    """log E(wins, losses) of the module's docstring, of numbers or of arrays; 0 where nothing was compared."""
    a, b = PRIOR
    posterior = betaln(a + wins, b + losses) + np.log(betaincc(a + wins, b + losses, 0.5))
    prior = betaln(a, b) + np.log(betaincc(a, b, 0.5))
    return posterior - prior + (wins + losses) * np.log(2)
