"""The student's confidence in a completion: its mean log-probability, calibrated on completions with known labels.

    p(right) = sigmoid(a + b t),   t = log 1 / (1 - exp(mean token log-prob))      HCMA, arXiv 2410.02173

The transform spreads out probabilities close to 1, so that a few dozen labels determine the two parameters. A
calibration that does not separate right from wrong completions is not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

MIN_LABELS = 50  # the paper calibrates on 50 to 100
CHANCE_P = 0.025  # one-sided: the 95 % interval of the AUROC lies above 1/2
PRIOR = 0.05  # precision of the Gaussian prior on both parameters: weak, but finite for separable labels


@dataclass(frozen=True)
class Confidence:
    """`auroc` is the probability that a right completion has a higher log-probability than a wrong one; 1/2 is
    chance."""

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
    """Mean token log-probability (nats, below 0) -> log 1 / (1 - p); capped at p = 1 - 1e-6."""
    return -np.log1p(-np.exp(np.minimum(logprob, -1e-6)))


def fit(logprobs: Sequence[float], right: Sequence[bool]) -> Confidence:
    """The two parameters' posterior mode; `logprobs` are in nats per token. Never proven if all labels are the same."""
    from scipy.stats import mannwhitneyu  # these take a second, and most apps never calibrate
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    x, y = np.asarray(logprobs, float), np.asarray(right, bool)
    if y.all() or not y.any():
        return Confidence(0.0, 0.0, len(y), 0.5, 1.0)
    columns = np.stack([np.ones(len(x)), transform(x)], axis=1)  # the prior is on the intercept, too
    model = LogisticRegression(C=1 / PRIOR, fit_intercept=False, tol=1e-8).fit(columns, y)
    p_value = mannwhitneyu(x[y], x[~y], alternative="greater").pvalue
    intercept, slope = map(float, model.coef_[0])
    return Confidence(intercept, slope, len(y), float(roc_auc_score(y, x)), float(p_value))


def risk(logprobs: Sequence[float], right: Sequence[bool], shares=(0.0, 0.2, 0.4, 0.6)) -> list[tuple[float, float]]:
    """The risk-coverage curve: (share abstained from, the least confident first; error rate of the rest)."""
    y = np.asarray(right, float)[np.argsort(logprobs)]
    return [(share, float(1 - y[int(share * len(y)) :].mean())) for share in shares]
