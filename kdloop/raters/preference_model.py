"""The embedded AI rater: a Bradley-Terry reward head on MiniLM and surface features, fitted on people's votes.

    p(chosen > rejected) = sigmoid(w . (f(chosen) - f(rejected)))            Bradley & Terry 1952; survey Eq. 12

w has a Gaussian prior with one variance for the surface features and one for the embedding; for few votes w is averaged
over what they may be about (averaging.py), for many both variances are chosen by the Laplace evidence (MacKay 1992), so
no votes are held out for tuning. A thumb counts as a comparison with the average completion.
`skill` says whether the model may judge at all: the evidence for the votes must exceed that for nearly all coin-flip
votes on the same completions. A vote has its rater's weight, discounted if the rater's votes cannot be predicted from
the rater's other votes.

What selects and rewards is fitted on the training part of the votes; its `judge`, which the gate asks, on the held-out
part alone. So a candidate that was trained towards what is noise in the one gains nothing by the other.

A refit after each vote has to be fast: features are cached; the embedding's axes, the prior's scales and the skill come
from the newest votes, and only the weights are fitted on all.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import expit, logsumexp

from kdloop.feedback.examples import Example, Split, relative_weights, trusted
from kdloop.raters.averaging import PRIOR_SCALES, averaged, priors
from kdloop.raters.bradley_terry import laplace
from kdloop.raters.features import SURFACE, embed, surface, tail
from storage import people
from storage.conversations import Message, transcript

EMBEDDING_DIMENSIONS = 16  # principal components of the 384: a few dozen votes have to be enough for their weights
SKILL_P = 0.01  # false-positive rate for coin-flip votes: 0 of 40 coins passed (docs/log.md, "permutation test")
SIGN_FLIPS = 399  # resolves p = 0.0025, a quarter of SKILL_P; each costs one evidence of all hypotheses
SUM_FLIPS = 19_999  # of one number a vote, which cost nothing: they resolve the error of the 30th gate
LARGE_N = 300  # votes from which the flips cost more than they add: the Bayes factor decides, one prior for all folds
FOLDS = 12
MAX_FIT_VOTES = 1000  # newest votes for axes, prior scales and skill: refits within 1 s at 10,000 (log, "bench refit")
MAX_RATER_VOTES = MAX_FIT_VOTES // 4  # newest of one person, where people are told apart
MIN_VOTES = 4  # people's, to fit a model at all; whether it may judge is `skill`'s to say
MIN_JUDGE_VOTES = 12  # held out, to fit a judge: of fewer, a test at 0.025 could hardly confirm anything
MIN_RATER_VOTES = 24  # before a rater's reliability is measured: its standard error is 0.2 there
MIN_RELIABILITY = 0.1  # a rater at chance is discounted, never silenced


@dataclass(frozen=True)
class Skill:
    """`right` of `n` votes predicted by models that were fitted without their conversation; `p_value` by
    `flip_test`."""

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
    """A fitted model over d = len(SURFACE) + EMBEDDING_DIMENSIONS standardised features.

    A prompt is one text: for a conversation, its `transcript`. A completion is (text, finished).
    """

    centre: np.ndarray  # (d,)
    scale: np.ndarray  # (d,)
    axes: np.ndarray  # (384, EMBEDDING_DIMENSIONS)
    weights: np.ndarray  # (d,)
    covariance: np.ndarray = field(repr=False)  # (d, d), of the weights
    skill: Skill = Skill(0, 0)
    reliability: dict[str, float] = field(default_factory=dict)  # by rater with enough votes, in [0.1, 1]
    judge: "PreferenceModel | None" = None  # its skill: how this model, which has not seen them, predicts its votes

    def scores(self, prompts: list[str], completions: list[tuple[str, bool]]) -> np.ndarray:
        """(n,) log-odds against the average completion; a difference is the log-odds of one over the other."""
        return self.features(prompts, completions) @ self.weights

    def reward(self, prompt: list[Message], text: str, finished: bool) -> float:
        """The score of one completion, as methods that maximise a reward take it; `finished`: not cut."""
        return float(self.scores([transcript(prompt)], [(text, finished)])[0])

    def features(self, prompts: list[str], completions: list[tuple[str, bool]]) -> np.ndarray:
        """(n, d), standardised."""
        return (raw(prompts, completions, self.axes) - self.centre) / self.scale

    def probabilities(self, prompts: list[str], first: list[tuple[str, bool]], second: list[tuple[str, bool]]):
        """(n,) p(first is better), moderated by the uncertainty of the weights (MacKay's probit approximation)."""
        both = self.features([*prompts, *prompts], [*first, *second])
        d = both[: len(prompts)] - both[len(prompts) :]
        variance = np.einsum("ni,ij,nj->n", d, self.covariance, d)
        return expit(d @ self.weights / np.sqrt(1 + np.pi * variance / 8))

    def strongest(self, n: int = 3) -> list[str]:
        """The n surface features with the largest weights, with their sign: what the raters seem to like."""
        order = np.argsort(-np.abs(self.weights[: len(SURFACE)]))[:n]
        return [f"{'more' if self.weights[i] > 0 else 'less'} {SURFACE[i]}" for i in order]


FEATURE_CACHE: dict[tuple[str, str, bool], tuple[np.ndarray, np.ndarray]] = {}  # -> surface features, embedding
people.FORGET.append(FEATURE_CACHE.clear)
MAX_CACHED = 30_000  # completions of about 2 kB each, so 60 MB; the oldest go first


def read(prompts: list[str], completions: list[tuple[str, bool]]) -> tuple[np.ndarray, np.ndarray]:
    """(n, len(SURFACE)) surface features and (n, 384) embeddings, cached by prompt and completion."""
    keys = [(p, *completion) for p, completion in zip(prompts, completions, strict=True)]
    found = {k: FEATURE_CACHE.get(k) for k in keys}  # kept here, as an erasure may clear the cache at any time
    new = [k for k, features in found.items() if features is None]
    texts = list(dict.fromkeys(text for question, text, _ in new for text in (tail(question), text)))
    vectors = dict(zip(texts, embed(texts) if texts else [], strict=True))
    topics = {key: float(vectors[tail(key[0])] @ vectors[key[1]]) for key in new}
    computed = {key: (np.array(surface(*key, topics[key])), vectors[key[1]]) for key in new}
    FEATURE_CACHE.update(computed)
    for oldest in list(FEATURE_CACHE)[: max(0, len(FEATURE_CACHE) - MAX_CACHED)]:
        FEATURE_CACHE.pop(oldest, None)
    found |= computed
    return np.array([found[k][0] for k in keys]), np.array([found[k][1] for k in keys])


def raw(prompts: list[str], completions: list[tuple[str, bool]], axes: np.ndarray) -> np.ndarray:
    """(n, d) features before standardisation."""
    styles, embedded = read(prompts, completions)
    return np.hstack([styles, embedded @ axes])


def people_said(split: Split) -> list[Example]:
    return [e for e in split.train if e.source == "human"]


def of_people(split: Split) -> PreferenceModel | None:
    """Fitted on people's examples; None where they are too few."""
    human = people_said(split)
    return fit(human, split.held_out) if len(human) >= MIN_VOTES else None


def proven(rater: PreferenceModel | None) -> bool:
    """Whether there is one, and its skill is shown."""
    return bool(rater and rater.skill.proven)


def fit(train: list[Example], held_out: list[Example] = ()) -> PreferenceModel:
    """Fit on the training part, with a judge that is fitted on `held_out` where it is large enough; the prior's scales
    are the training part's. `held_out` measures skill, too, beside the cross-validation of the training part.

    Raises ValueError where `train` holds fewer than MIN_VOTES.
    """
    votes = [*train, *held_out]
    if len(train) < MIN_VOTES:
        raise ValueError(f"{len(train)} votes are too few for a preference model")
    x, centre, scale, axes = standardised(votes)
    n, prior = len(train), best_prior(x[: len(train)])
    reliability = reliabilities(x[:n], train, prior)
    counts = np.array(relative_weights(trusted(train, reliability)))
    weights, covariance = posterior(x[:n], prior, counts)
    newest = slice(max(0, n - MAX_FIT_VOTES), n)
    margins = cross_validated(x[newest], [e.conversation for e in train[newest]], prior if n >= LARGE_N else None)
    margins = np.concatenate([margins, x[n:] @ weights])
    right = (margins > 0).sum() + 0.5 * (margins == 0).sum()
    skill = Skill(float(right), len(margins), flip_test(x[newest.start :]))
    model = PreferenceModel(centre, scale, axes, weights, covariance, skill, reliability)
    return replace(model, judge=judge_of(model, x[n:], trusted(held_out, reliability), prior))


def judge_of(model: PreferenceModel, x: np.ndarray, votes: list[Example], prior: np.ndarray) -> PreferenceModel | None:
    """Fitted on `votes`, which the model has not seen, and their (n, d) comparisons; None where they are too few."""
    if len(votes) < MIN_JUDGE_VOTES:
        return None
    weights, covariance = posterior(x, prior, np.array(relative_weights(votes)))
    margins = x @ model.weights
    right = (margins > 0).sum() + 0.5 * (margins == 0).sum()
    skill = Skill(float(right), len(margins), sum_test(margins))
    return replace(model, weights=weights, covariance=covariance, skill=skill, reliability={})


def posterior(x: np.ndarray, prior: np.ndarray, counts: np.ndarray | float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) comparisons -> the weights' (mean (d,), covariance (d, d)): averaged over what few votes may be about; of
    LARGE_N and more by the `prior` alone, where all features matter."""
    if len(x) < LARGE_N:
        return averaged(x, len(SURFACE), counts)
    _, mode, hessian = laplace(x[None], prior, counts)
    return mode[0], np.linalg.inv(hessian[0])


def reliabilities(x: np.ndarray, votes: list[Example], prior: np.ndarray) -> dict[str, float]:
    """rater -> how well their newest votes are predicted from their other votes: 2 accuracy - 1, over the best rater's,
    so that a single rater has 1. Only for raters with MIN_RATER_VOTES."""
    found: dict[str, float] = {}
    for rater, own_votes in sorted(votes_of(votes).items()):
        own, signs = map(np.array, zip(*own_votes[-MAX_RATER_VOTES:], strict=True))
        if len(own) >= MIN_RATER_VOTES:
            margins = cross_validated(x[own] * signs[:, None], [votes[i].conversation for i in own], prior)
            right = ((margins > 0).sum() + 1) / (len(own) + 1)
            found[rater] = float(np.clip(2 * right - 1, MIN_RELIABILITY, 1))
    best = max(found.values(), default=1.0)
    return {rater: r / best for rater, r in found.items()}


def votes_of(examples: list[Example]) -> dict[str, list[tuple[int, float]]]:
    """rater -> (index of the example, 1 for it or -1 against it) of each of their votes; nobody is no rater."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for i, e in enumerate(examples):
        for rater, weight in e.all_votes:
            found[rater].append((i, np.sign(weight)))
    found.pop("", None)
    return found


def standardised(votes: list[Example]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(votes, d) `comparisons` of standardised features, with their centre (d,), scale (d,), and the axes of the
    embedding, (384, EMBEDDING_DIMENSIONS). None of it depends on which of a pair was chosen, but the rows' signs."""
    texts = [(e.question, k.said) for e in votes for k in e.completions]
    questions, completions = [q for q, _ in texts], [c for _, c in texts]
    embedded = read(questions[-2 * MAX_FIT_VOTES :], completions[-2 * MAX_FIT_VOTES :])[1].astype(np.float64)
    axes = np.linalg.eigh(np.cov(embedded, rowvar=False))[1][:, ::-1][:, :EMBEDDING_DIMENSIONS]
    features = raw(questions, completions, axes)
    centre, scale = features.mean(0), features.std(0)
    scale[scale < 1e-6] = 1.0
    return comparisons(votes, (features - centre) / scale), centre, scale, axes


def comparisons(votes: list[Example], features: np.ndarray) -> np.ndarray:
    """(votes, d): chosen minus rejected; a missing side is the average completion, whose features are 0. `features` has
    a row for each of the votes' completions, in order."""
    rows, left = [], iter(features)
    for e in votes:
        chosen = next(left) if e.chosen else 0.0
        rows.append(chosen - (next(left) if e.rejected else 0.0))
    return np.array(rows).reshape(len(votes), features.shape[1])


def cross_validated(x: np.ndarray, groups: list[str], prior: np.ndarray | None = None) -> np.ndarray:
    """(n,) margins, each by a model fitted without the row's group; without a `prior`, each fold chooses its own."""
    names = {g: i for i, g in enumerate(dict.fromkeys(groups))}
    fold = np.array([names[g] % FOLDS for g in groups])
    if prior is not None:  # all folds in one batch: each gives its own rows the weight 0
        others = (fold != np.arange(FOLDS)[:, None]).astype(float)
        _, modes, _ = laplace(np.broadcast_to(x, (FOLDS, *x.shape)), prior, others)
        return (x * modes[fold]).sum(1)
    margins = np.zeros(len(x))
    for k in set(fold.tolist()):
        if (fold != k).any():
            rest = x[fold != k]
            margins[fold == k] = x[fold == k] @ averaged(rest, len(SURFACE))[0]
    return margins


def flip_test(x: np.ndarray) -> float:
    """p-value against coin-flip votes: the share of random sign flips of the comparisons with as great an evidence.

    Exact under the null hypothesis, whatever the features. A sign test on the margins of left-out folds is not: they
    are dependent, and 5 % of coins passed it at 1 % (docs/log.md). scipy's permutation_test flips single numbers, not
    rows of features. For many votes Markov's bound on the Bayes factor, which is cheaper.
    """
    if len(x) >= LARGE_N:
        return float(min(1.0, np.exp(-log_bayes_factor(x[None])[0])))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (SIGN_FLIPS, len(x), 1))
    flipped = log_bayes_factor(np.concatenate([x[None], signs * x]))
    return float((flipped >= flipped[0] - 1e-9).mean())


def sum_test(margins: np.ndarray) -> float:
    """p-value of a sum of (n,) margins against coin-flip votes, by random sign flips: votes that were missed widely
    count for more than in a sign test."""
    if not len(margins):
        return 1.0
    kept = np.random.default_rng(0).integers(0, 2, (SUM_FLIPS, len(margins)), dtype=np.int8)  # 1: its sign stays
    total = margins.sum()
    flipped = 2 * (kept.astype(np.float32) @ margins.astype(np.float32)) - total
    return float((1 + (flipped >= total - 1e-5 * np.abs(margins).sum()).sum()) / (SUM_FLIPS + 1))


def log_bayes_factor(x: np.ndarray) -> np.ndarray:
    """(b, n, d) comparisons -> (b,) log Bayes factors of "the votes follow the features" against a coin.

    The numerator averages over two hypotheses of equal weight: all features matter (any pair of prior scales), or one
    surface feature alone does. The second is there because few votes prove a one-feature taste under it, and not under
    the first: of 12 made-up ones with 18 votes, 10 instead of 0 (docs/log.md). The coin's evidence is 2^-n.
    """
    numerator = np.logaddexp(log_evidence_of_all_features(x), log_evidence_of_one_feature(x)) - np.log(2)
    return numerator + x.shape[1] * np.log(2)


def log_evidence_of_all_features(x: np.ndarray) -> np.ndarray:
    """(b, n, d) -> (b,), averaged over the pairs of prior scales."""
    return log_mean_exp([laplace(x, prior)[0] for prior in priors(x.shape[2], len(SURFACE))])


def log_evidence_of_one_feature(x: np.ndarray) -> np.ndarray:
    """(b, n, d) -> (b,), averaged over the surface features and the prior scales."""
    columns = [x[:, :, [j]] for j in range(min(len(SURFACE), x.shape[2]))]
    precisions = [np.array([scale**-2.0]) for scale in PRIOR_SCALES]
    return log_mean_exp([laplace(column, prior)[0] for column in columns for prior in precisions])


def log_mean_exp(logs: list[np.ndarray]) -> np.ndarray:
    return logsumexp(np.array(logs), axis=0) - np.log(len(logs))


def best_prior(x: np.ndarray) -> np.ndarray:
    """The precisions with the greatest Laplace evidence for the newest votes (empirical Bayes)."""
    return max(priors(x.shape[1], len(SURFACE)), key=lambda prior: laplace(x[None, -MAX_FIT_VOTES // 2 :], prior)[0][0])
