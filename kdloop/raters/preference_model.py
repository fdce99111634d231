"""The embedded AI rater: a Bradley-Terry reward head on MiniLM and surface features, fitted on people's votes.

    p(chosen > rejected) = sigmoid(w . (f(chosen) - f(rejected)))            Bradley & Terry 1952; survey Eq. 12

w has a Gaussian prior with one variance for the surface features and one for the embedding, both chosen by the Laplace
evidence (MacKay 1992), so nothing has to be held out for tuning. A thumb counts as a comparison with the average
completion. `skill` says whether the model may judge at all: the evidence for the votes must be greater than for nearly
all coin-flip votes on the same completions. A vote counts as its rater's weight says, and less where a rater's votes
cannot be predicted from their own others.

A refit after a vote must not be waited for: what was read once is kept; the axes, the prior's scales and the skill are
found on the newest votes, and the weights are fitted on all.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, logsumexp

from kdloop.feedback.examples import Example, relative_weights, trusted
from kdloop.raters.bradley_terry import laplace
from kdloop.raters.features import SURFACE, embed, surface
from storage import people
from storage.conversations import Message, transcript

EMBEDDING_DIMENSIONS = 16
PRIOR_SCALES = (0.05, 0.15, 0.5, 1.5)  # standard deviations of a standardised weight that are tried
SKILL_P = 0.01  # a rater that is at chance passes so rarely
FLIPS = 399
MANY = 300  # votes, from where on the Bayes factor alone decides, and one prior serves all folds
FOLDS = 12
NEWEST = 1000  # votes that the embedding's axes, the prior's scales and the skill are found on
OWN_VOTES = 24  # of one rater, from where on their reliability is measured
LEAST_RELIABLE = 0.1  # what a vote still counts


@dataclass(frozen=True)
class Skill:
    """`right` of `n` votes predicted by a model that has not seen their conversation; `p_value` of `flip_test`."""

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
    """`scores` are log-odds against the average completion; their difference is the log-odds of one over the other.

    A prompt is given as one text: of a conversation, its `transcript`.
    """

    centre: np.ndarray
    scale: np.ndarray
    axes: np.ndarray  # (384, EMBEDDING_DIMENSIONS)
    weights: np.ndarray
    covariance: np.ndarray = field(repr=False)
    skill: Skill = Skill(0, 0)
    reliability: dict[str, float] = field(default_factory=dict)  # of each rater with enough votes; 1 counts fully

    def scores(self, prompts: list[str], completions: list[tuple[str, bool]]) -> np.ndarray:
        return self.features(prompts, completions) @ self.weights

    def reward(self, prompt: list[Message], text: str, finished: bool) -> float:
        """The score of one completion; `finished` says whether its author ended it."""
        return float(self.scores([transcript(prompt)], [(text, finished)])[0])

    def features(self, prompts: list[str], completions: list[tuple[str, bool]]) -> np.ndarray:
        return (raw(prompts, completions, self.axes) - self.centre) / self.scale

    def probabilities(self, prompts: list[str], first: list[tuple[str, bool]], second: list[tuple[str, bool]]):
        """(n,) p(first is better), moderated by how uncertain the weights are (MacKay's probit approximation)."""
        both = self.features([*prompts, *prompts], [*first, *second])
        d = both[: len(prompts)] - both[len(prompts) :]
        variance = np.einsum("ni,ij,nj->n", d, self.covariance, d)
        return expit(d @ self.weights / np.sqrt(1 + np.pi * variance / 8))

    def strongest(self, n: int = 3) -> list[str]:
        """The surface features that speak loudest, with their sign: what the raters seem to like."""
        order = np.argsort(-np.abs(self.weights[: len(SURFACE)]))[:n]
        return [f"{'more' if self.weights[i] > 0 else 'less'} {SURFACE[i]}" for i in order]


KNOWN: dict[tuple[str, str, bool], tuple[np.ndarray, np.ndarray]] = {}  # what was read: its surface and its embedding
people.FORGET.append(KNOWN.clear)
MOST_KNOWN = 30_000  # of them, at about 2 kB each; the oldest go


def read(prompts: list[str], completions: list[tuple[str, bool]]) -> tuple[np.ndarray, np.ndarray]:
    """(n, surface) and (n, 384) features; only what is new is computed."""
    keys = [(p, *said) for p, said in zip(prompts, completions, strict=True)]
    found = {k: KNOWN.get(k) for k in keys}  # an erasure may empty KNOWN meanwhile
    new = [k for k, features in found.items() if features is None]
    texts = list(dict.fromkeys(text for _, text, _ in new))
    vectors = dict(zip(texts, embed(texts) if texts else [], strict=True))
    computed = {key: (np.array(surface(*key)), vectors[key[1]]) for key in new}
    KNOWN.update(computed)
    for oldest in list(KNOWN)[: max(0, len(KNOWN) - MOST_KNOWN)]:
        KNOWN.pop(oldest, None)
    found |= computed
    return np.array([found[k][0] for k in keys]), np.array([found[k][1] for k in keys])


def raw(prompts: list[str], completions: list[tuple[str, bool]], axes: np.ndarray) -> np.ndarray:
    """(n, surface + embedding) features before standardisation."""
    styles, embedded = read(prompts, completions)
    return np.hstack([styles, embedded @ axes])


def fit(train: list[Example], held_out: list[Example] = ()) -> PreferenceModel:
    """Fit on the training part; `held_out` only measures skill, beside the training part's own left-out folds.

    Raises ValueError where `train` holds fewer than four votes.
    """
    votes = [*train, *held_out]
    if len(train) < 4:
        raise ValueError(f"{len(train)} votes are too few for a preference model")
    texts = [(e.question, k.said) for e in votes for k in e.completions]
    questions, said = [q for q, _ in texts], [c for _, c in texts]
    embedded = read(questions[-2 * NEWEST :], said[-2 * NEWEST :])[1].astype(np.float64)
    axes = np.linalg.eigh(np.cov(embedded, rowvar=False))[1][:, ::-1][:, :EMBEDDING_DIMENSIONS]
    features = raw(questions, said, axes)
    centre, scale = features.mean(0), features.std(0)
    scale[scale < 1e-6] = 1.0
    x = comparisons(votes, (features - centre) / scale)
    n, prior = len(train), best_prior(x[: len(train)])
    reliability = reliabilities(x[:n], train, prior)
    counts = np.array(relative_weights(trusted(train, reliability)))
    _, mode, hessian = laplace(x[None, :n], prior, counts)
    weights, covariance = mode[0], np.linalg.inv(hessian[0])
    newest = slice(max(0, n - NEWEST), n)
    margins = cross_validated(x[newest], [e.conversation for e in train[newest]], prior if n >= MANY else None)
    margins = np.concatenate([margins, x[n:] @ weights])
    right = (margins > 0).sum() + 0.5 * (margins == 0).sum()
    skill = Skill(float(right), len(margins), flip_test(x[newest.start :]))
    return PreferenceModel(centre, scale, axes, weights, covariance, skill, reliability)


def reliabilities(x: np.ndarray, votes: list[Example], prior: np.ndarray) -> dict[str, float]:
    """rater -> how far their newest votes can be predicted from their own others: 1 always, less like a coin."""
    said: dict[str, list[tuple[int, float]]] = defaultdict(list)  # rater -> votes, and whether for or against
    for i, e in enumerate(votes):
        for rater, weight in e.all_votes:
            said[rater].append((i, np.sign(weight)))
    found: dict[str, float] = {}
    for rater in sorted(set(said) - {""}):
        own, signs = map(np.array, zip(*said[rater][-NEWEST // 4 :], strict=True))
        if len(own) >= OWN_VOTES:
            margins = cross_validated(x[own] * signs[:, None], [votes[i].conversation for i in own], prior)
            right = ((margins > 0).sum() + 1) / (len(own) + 1)
            found[rater] = float(np.clip(2 * right - 1, LEAST_RELIABLE, 1))
    most = max(found.values(), default=1.0)
    return {rater: r / most for rater, r in found.items()}  # alone, a rater counts fully


def comparisons(votes: list[Example], features: np.ndarray) -> np.ndarray:
    """(votes, features): chosen minus rejected; where one side is missing, the average completion (0) stands in."""
    rows, at = [], 0
    for e in votes:
        sides = features[at : at + len(e.completions)]
        at += len(e.completions)
        rows.append(sides[0] - sides[1] if len(sides) == 2 else sides[0] if e.chosen else -sides[0])
    return np.array(rows).reshape(len(votes), features.shape[1])


def cross_validated(x: np.ndarray, groups: list[str], prior: np.ndarray | None = None) -> np.ndarray:
    """Each row's margin under a model fitted without the row's group; without `prior`, each fold finds its own."""
    names = {g: i for i, g in enumerate(dict.fromkeys(groups))}
    fold = np.array([names[g] % FOLDS for g in groups])
    if prior is not None:  # all folds at once: in each, its own rows count nothing
        others = (fold != np.arange(FOLDS)[:, None]).astype(float)
        _, modes, _ = laplace(np.broadcast_to(x, (FOLDS, *x.shape)), prior, others)
        return (x * modes[fold]).sum(1)
    margins = np.zeros(len(x))
    for k in set(fold.tolist()):
        if (fold != k).any():
            rest = x[fold != k]
            _, mode, _ = laplace(rest[None], best_prior(rest))
            margins[fold == k] = x[fold == k] @ mode[0]
    return margins


def flip_test(x: np.ndarray) -> float:
    """p-value of the votes against a coin: the share of coin-flip votes on these completions with as great an evidence.

    Exact under the coin, whatever the features. (Margins of left-out folds are not independent: a sign test on them
    passed coins at 1 % in 5 % of cases.) For many votes, Markov's bound on the Bayes factor, which is cheaper.
    """
    if len(x) >= MANY:
        return float(min(1.0, np.exp(-log_bayes_factor(x[None])[0])))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (FLIPS, len(x), 1))
    flipped = log_bayes_factor(np.concatenate([x[None], signs * x]))
    return float((flipped >= flipped[0] - 1e-9).mean())


def log_bayes_factor(x: np.ndarray) -> np.ndarray:
    """(b, n, d) comparisons -> (b,) log of evidence to that of a coin, averaged over what may be so: that all features
    count, at any pair of prior scales, or that one of the surface alone does, which few votes prove where it is so."""
    together = [laplace(x, prior)[0] for prior in priors(x.shape[2])]
    one = [x[:, :, [j]] for j in range(min(len(SURFACE), x.shape[2]))]
    alone = [laplace(column, np.array([scale**-2.0]))[0] for column in one for scale in PRIOR_SCALES]
    evidence = [logsumexp(np.array(part), axis=0) - np.log(2 * len(part)) for part in (together, alone)]
    return np.logaddexp(*evidence) + x.shape[1] * np.log(2)


def priors(dimensions: int) -> list[np.ndarray]:
    """Precisions of the weights, one array for each pair of prior scales."""
    surface_or_not = np.arange(dimensions) < len(SURFACE)
    return [np.where(surface_or_not, style**-2.0, meaning**-2.0) for style in PRIOR_SCALES for meaning in PRIOR_SCALES]


def best_prior(x: np.ndarray) -> np.ndarray:
    """The precisions at the pair of prior scales with the greatest Laplace evidence for the newest votes."""
    return max(priors(x.shape[1]), key=lambda prior: laplace(x[None, -NEWEST // 2 :], prior)[0][0])
