"""How sure the student may be of an answer: its own log-probabilities, calibrated on answers whose worth is known.

    p(right) = sigmoid(a + b t),   t = log 1 / (1 - exp(mean token log-prob))      HCMA, arXiv 2410.02173

The transform spreads out what lies close to 1, so that a few dozen labels fix the two numbers. A calibration that
cannot tell right answers from wrong ones is not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import mannwhitneyu
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

MIN_LABELS = 50
CHANCE_P = 0.025  # one-sided: the lower bound of a 95 % interval of the AUROC lies above 1/2
PRIOR = 0.05  # precision of the Gaussian prior on both numbers: finite where the labels can be separated


@dataclass(frozen=True)
class Confidence:
    """`auroc` is the chance that a right answer has a higher log-probability than a wrong one; 1/2 says nothing."""

    intercept: float
    slope: float
    n: int
    auroc: float
    p_value: float

    @property
    def proven(self) -> bool:
        return self.n >= MIN_LABELS and self.auroc > 0.5 and self.p_value < CHANCE_P

    def probability(self, logprob: float) -> float:
        return float(expit(self.intercept + self.slope * transform(logprob)))

    def __str__(self) -> str:
        return f"AUROC {self.auroc:.2f}, p = {self.p_value:.3f}, {self.n} rated answers of at least {MIN_LABELS}"


def transform(logprob):
    """Mean token log-probability (nats, below 0) -> log 1 / (1 - p)."""
    return -np.log1p(-np.exp(np.minimum(logprob, -1e-6)))


def fit(logprobs: Sequence[float], right: Sequence[bool]) -> Confidence:
    """Maximum a posteriori of the two numbers; never proven where all answers are right, or all are wrong."""
    x, y = np.asarray(logprobs, float), np.asarray(right, bool)
    if y.all() or not y.any():
        return Confidence(0.0, 0.0, len(y), 0.5, 1.0)
    columns = np.stack([np.ones(len(x)), transform(x)], axis=1)  # the intercept has the prior, too
    model = LogisticRegression(C=1 / PRIOR, fit_intercept=False, tol=1e-8).fit(columns, y)
    p_value = mannwhitneyu(x[y], x[~y], alternative="greater").pvalue
    intercept, slope = map(float, model.coef_[0])
    return Confidence(intercept, slope, len(y), float(roc_auc_score(y, x)), float(p_value))


def risk(logprobs: Sequence[float], right: Sequence[bool], shares=(0.0, 0.2, 0.4, 0.6)) -> list[tuple[float, float]]:
    """(share of answers left to somebody else, the least sure first; error rate of those that are given)."""
    y = np.asarray(right, float)[np.argsort(logprobs)]
    return [(share, float(1 - y[int(share * len(y)) :].mean())) for share in shares]
