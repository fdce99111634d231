"""Weights averaged over hypotheses: by hand for one feature, sparse where few things are liked, else nothing lost."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit, log_expit
from scipy.stats import norm

from kdloop.raters.averaging import PRIOR_SCALES, averaged
from kdloop.raters.bradley_terry import laplace


def test_of_one_feature_the_mean_is_that_of_the_integral():
    x = np.random.default_rng(1).normal(0.5, 1, (160, 1))

    def weighted(power):
        def density(w, scale):
            return w**power * np.exp(log_expit(x[:, 0] * w).sum()) * norm.pdf(w, scale=scale)

        return sum(quad(density, -8, 8, args=(scale,))[0] for scale in PRIOR_SCALES)

    mean, covariance = averaged(x, 1)
    expected = weighted(1) / weighted(0)
    assert mean[0] == pytest.approx(expected, rel=0.05)
    assert covariance[0, 0] == pytest.approx(weighted(2) / weighted(0) - expected**2, rel=0.15)


def draws(weights, n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(weights))) * 2**0.5
    return x * np.where(rng.random(n) < expit(x @ weights), 1, -1)[:, None]


@pytest.mark.parametrize(("liked", "gain"), [([3.0], 0.1), ([2.0, -2.0], 0.05), ([0.5] * 12, -0.02)])
def test_few_votes_for_few_things_are_understood_and_for_many_things_nothing_is_lost(liked, gain):
    """Accuracy on votes of another draw, beside all features alone."""
    weights = np.array([*liked, *[0.0] * (40 - len(liked))])
    right = []
    for seed in range(12):
        x, unseen = draws(weights, 24, seed), draws(weights, 2000, 100 + seed)
        mean, covariance = averaged(x, 40)
        alone = max((laplace(x[None], np.full(40, s**-2.0)) for s in PRIOR_SCALES), key=lambda fit: fit[0][0])[1][0]
        right.append([(unseen @ w > 0).mean() for w in (mean, alone)])
        assert np.linalg.eigvalsh(covariance).min() > -1e-9
    ours, theirs = np.mean(right, 0)
    assert ours - theirs > gain


def test_a_vote_of_weight_two_counts_as_two():
    x = draws(np.array([2.0, 0, 0, 0]), 12, 3)
    twice = averaged(np.concatenate([x, x[:6]]), 3)
    counted = averaged(x, 3, np.array([2.0] * 6 + [1.0] * 6))
    for one, other in zip(twice, counted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
