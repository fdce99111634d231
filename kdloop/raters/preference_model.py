"""The embedded AI rater: a Bradley-Terry reward head on MiniLM and surface features, fitted on people's votes.

    p(chosen > rejected) = sigmoid(w . (f(chosen) - f(rejected)))            Bradley & Terry 1952; survey Eq. 12

w has a Gaussian prior with one variance for the surface features and one for the embedding, both chosen by the Laplace
evidence (MacKay 1992), so nothing has to be held out for tuning. A thumb counts as a comparison with the average
completion. `skill` says whether the model may judge at all: each vote is predicted by a model that has not seen its
conversation, and the accuracy must be above chance.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, log_expit
from scipy.stats import norm

from kdloop.pairs import Example
from kdloop.raters.features import SURFACE, embed, surface

EMBEDDING_DIMENSIONS = 16
PRIOR_SCALES = (0.05, 0.15, 0.5, 1.5)  # standard deviations of a standardised weight that are tried
SKILL_P = 0.01  # a rater that is at chance passes so rarely
FOLDS = 12


@dataclass(frozen=True)
class Skill:
    """Out-of-sample prediction of votes: `right` of `n` pairs, and the p-value of their margins.

    `p_value` is of a sign-flip test: under a rater without skill each margin (log-odds given to what was chosen) has
    either sign equally often. A vote between two near-equal completions, which is noise, so weighs little.
    """

    right: float
    n: int
    p_value: float = 1.0

    @property
    def accuracy(self) -> float:
        return self.right / self.n if self.n else 0.0

    @property
    def proven(self) -> bool:
        return self.accuracy > 0.5 and self.p_value < SKILL_P

    def __str__(self) -> str:
        return f"{self.right:g} of {self.n} unseen votes predicted"


@dataclass(frozen=True)
class PreferenceModel:
    """`scores` are log-odds against the average completion; their difference is the log-odds of one over the other."""

    centre: np.ndarray
    scale: np.ndarray
    axes: np.ndarray  # (384, EMBEDDING_DIMENSIONS)
    weights: np.ndarray
    covariance: np.ndarray = field(repr=False)
    skill: Skill = Skill(0, 0)

    def scores(self, prompts: list[str], completions: list[tuple[str, bool]]) -> np.ndarray:
        return self.features(prompts, completions) @ self.weights

    def features(self, prompts: list[str], completions: list[tuple[str, bool]]) -> np.ndarray:
        return (raw(prompts, completions, self.axes) - self.centre) / self.scale

    def probability(self, prompt: str, first: tuple[str, bool], second: tuple[str, bool]) -> float:
        """p(first is better), moderated by how uncertain the weights are (MacKay's probit approximation)."""
        a, b = self.features([prompt, prompt], [first, second])
        variance = (a - b) @ self.covariance @ (a - b)
        return float(expit((a - b) @ self.weights / np.sqrt(1 + np.pi * variance / 8)))

    def strongest(self, n: int = 3) -> list[str]:
        """The surface features that speak loudest, with their sign: what the raters seem to like."""
        order = np.argsort(-np.abs(self.weights[: len(SURFACE)]))[:n]
        return [f"{'more' if self.weights[i] > 0 else 'less'} {SURFACE[i]}" for i in order]


def raw(prompts: list[str], completions: list[tuple[str, bool]], axes: np.ndarray) -> np.ndarray:
    """(n, surface + embedding) features before standardisation."""
    styles = np.array([surface(p, text, done) for p, (text, done) in zip(prompts, completions, strict=True)])
    return np.hstack([styles, embed([text for text, _ in completions]) @ axes])


def fit(train: list[Example], held_out: list[Example] = ()) -> PreferenceModel:
    """Fit on the training part; `held_out` only measures skill, beside the training part's own left-out folds.

    Raises ValueError where `train` holds fewer than four votes.
    """
    votes = [*train, *held_out]
    if len(train) < 4:
        raise ValueError(f"{len(train)} votes are too few for a preference model")
    texts = [(e.question, (k.text, k.status == "finished")) for e in votes for k in e.completions]
    embedded = embed([text for _, (text, _) in texts])
    axes = np.linalg.svd(embedded - embedded.mean(0), full_matrices=False)[2][:EMBEDDING_DIMENSIONS].T
    features = raw([q for q, _ in texts], [c for _, c in texts], axes)
    centre, scale = features.mean(0), features.std(0)
    scale[scale < 1e-6] = 1.0
    x = comparisons(votes, (features - centre) / scale)
    n = len(train)
    weights, covariance = evidence_fit(x[:n])
    margins = np.concatenate([cross_validated(x[:n], [e.conversation for e in train]), x[n:] @ weights])
    return PreferenceModel(centre, scale, axes, weights, covariance, measure(margins))


def comparisons(votes: list[Example], features: np.ndarray) -> np.ndarray:
    """(votes, features): chosen minus rejected; where one side is missing, the average completion (0) stands in."""
    rows, at = [], 0
    for e in votes:
        sides = features[at : at + len(e.completions)]
        at += len(e.completions)
        rows.append(sides[0] - sides[1] if len(sides) == 2 else sides[0] if e.chosen else -sides[0])
    return np.array(rows).reshape(len(votes), features.shape[1])


def cross_validated(x: np.ndarray, groups: list[str]) -> np.ndarray:
    """Each row's margin under a model fitted without the row's group."""
    names = sorted(set(groups))
    fold = np.array([names.index(g) % FOLDS for g in groups])
    margins = np.zeros(len(x))
    for k in set(fold.tolist()):
        if (fold != k).any():
            margins[fold == k] = x[fold == k] @ evidence_fit(x[fold != k])[0]
    return margins


def measure(margins: np.ndarray) -> Skill:
    """Skill from out-of-sample margins, by 20,000 random sign flips."""
    if len(margins) > 200:  # the normal limit, instead of a large matrix
        p_value = norm.sf(margins.sum() / max(np.linalg.norm(margins), 1e-12))
    else:
        flips = np.random.default_rng(0).choice([-1.0, 1.0], (20_000, len(margins))) @ np.abs(margins)
        p_value = (1 + (flips >= margins.sum() - 1e-12).sum()) / (1 + len(flips))
    return Skill(float((margins > 0).sum() + 0.5 * (margins == 0).sum()), len(margins), float(p_value))


def evidence_fit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and covariance at the pair of prior scales with the greatest Laplace evidence."""
    best = None
    for style in PRIOR_SCALES:
        for meaning in PRIOR_SCALES:
            prior = np.full(x.shape[1], meaning**-2.0)
            prior[: len(SURFACE)] = style**-2.0
            candidate = laplace(x, prior)
            best = candidate if best is None or candidate[0] > best[0] else best
    return best[1], best[2]


def laplace(x: np.ndarray, prior: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """(log evidence, mode, covariance) of logistic regression with precision `prior`, by Newton's method."""
    w = np.zeros(x.shape[1])
    for _ in range(25):
        p = expit(x @ w)
        hessian = (x.T * (p * (1 - p))) @ x + np.diag(prior)
        step = np.linalg.solve(hessian, x.T @ (1 - p) - prior * w)
        w = w + step
        if np.abs(step).max() < 1e-5:
            break
    log_posterior = log_expit(x @ w).sum() - 0.5 * (prior * w * w).sum()
    evidence = log_posterior + 0.5 * np.log(prior).sum() - 0.5 * np.linalg.slogdet(hessian)[1]
    return evidence, w, np.linalg.inv(hessian)
