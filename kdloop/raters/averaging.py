"""Weights of the preference model, averaged over hypotheses of what people like: few votes are mostly for few things.

    w = sum_h p(h | votes) E[w | h, votes]        Bayesian model averaging (Hoeting et al. 1999)

h: all features matter, or one surface feature alone, or two; a third of the prior each, shared within by prior scales.
p(h | votes) is by the Laplace evidence. On completions of the embedded student, eleven tastes, 36 votes of which 18
train: best and worst of four agree with the taste in 0.94, with all features alone in 0.83 (docs/log.md).
"""

from itertools import combinations

import numpy as np
from scipy.special import logsumexp

from kdloop.raters.bradley_terry import laplace

PRIOR_SCALES = (0.05, 0.15, 0.5, 1.5)  # candidates for the prior's standard deviation, about a factor of 3 apart
NEGLIGIBLE = 1e-4  # probability of a hypothesis whose covariance is left out


def priors(dimensions: int, surface: int) -> list[np.ndarray]:
    """(dimensions,) precisions of the weights, for each pair of prior scales (of the first `surface` features, of the
    others)."""
    is_surface = np.arange(dimensions) < surface
    return [np.where(is_surface, a**-2.0, b**-2.0) for a in PRIOR_SCALES for b in PRIOR_SCALES]


def averaged(x: np.ndarray, surface: int, counts: np.ndarray | float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) comparisons, chosen minus rejected, with their weights `counts` -> the weights' posterior (mean (d,),
    covariance (d, d)). The first `surface` features, or all where there are fewer, may matter alone."""
    surface = min(surface, d := x.shape[1])
    single = np.arange(surface)[:, None]
    pairs = np.array(list(combinations(range(surface), 2))).reshape(-1, 2)
    kinds = [whole(x, surface, counts), *(some(x, which, counts) for which in (single, pairs) if len(which))]
    logs = np.concatenate([log - np.log(len(log)) for log, *_ in kinds])
    p = np.exp(logs - logsumexp(logs))
    modes = np.concatenate([modes for _, modes, _ in kinds])
    mean = p @ modes
    spread = (modes * p[:, None]).T @ modes - np.outer(mean, mean)
    within, at = np.zeros((d, d)), 0
    for log, _, add in kinds:
        add(within, p[at : at + len(log)])
        at += len(log)
    return mean, spread + within


def whole(x: np.ndarray, surface: int, counts):
    """All features, for each pair of prior scales: (log evidences (h,), modes (h, d), what adds their covariances to a
    matrix, by their probabilities)."""
    fits = [laplace(x[None], prior, counts) for prior in priors(x.shape[1], surface)]

    def add(total: np.ndarray, p: np.ndarray) -> None:
        for share, (_, _, hessian) in zip(p, fits, strict=True):
            if share > NEGLIGIBLE:
                total += share * np.linalg.inv(hessian[0])

    return np.concatenate([f[0] for f in fits]), np.concatenate([f[1] for f in fits]), add


def some(x: np.ndarray, which: np.ndarray, counts):
    """The same for (k, m) sets of m features, for each prior scale: h = k * len(PRIOR_SCALES), scale by scale."""
    few = np.ascontiguousarray(x[:, which].transpose(1, 0, 2))  # (k, n, m)
    fits = [laplace(few, np.full(which.shape[1], scale**-2.0), counts) for scale in PRIOR_SCALES]
    modes = np.zeros((len(fits), len(which), x.shape[1]))
    for found, (_, mode, _) in zip(modes, fits, strict=True):
        np.put_along_axis(found, which, mode, axis=1)

    def add(total: np.ndarray, p: np.ndarray) -> None:
        inverse = np.linalg.inv(np.concatenate([hessian for _, _, hessian in fits])) * p[:, None, None]
        sets = np.tile(which, (len(fits), 1))
        np.add.at(total, (sets[:, :, None], sets[:, None, :]), inverse)

    return np.concatenate([f[0] for f in fits]), modes.reshape(-1, x.shape[1]), add
