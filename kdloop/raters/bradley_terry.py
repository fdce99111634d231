"""Bradley-Terry fits of many small data sets at once: the preference model's weights, the Arena's standings.

P(a preferred to b) = sigmoid(w (x_a - x_b)), so a comparison is one row, the difference of the two sides' features.
"""

import numpy as np
from scipy.special import expit, log_expit


def laplace(
    x: np.ndarray, prior: np.ndarray, counts: np.ndarray | float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(log evidence, mode, Hessian), each with the leading axis of x (b, n, d), of logistic regression with precision
    `prior` (d,) on b data sets, by Newton's method. `counts`, (n,) or (b, n), says how much each row counts."""
    w, hessian, transposed = np.zeros((len(x), x.shape[2])), np.diag(prior), x.transpose(0, 2, 1)
    for _ in range(25):
        p = expit(times(x, w))
        hessian = (transposed * (counts * p * (1 - p))[:, None]) @ x + np.diag(prior)
        step = np.linalg.solve(hessian, (times(transposed, counts * (1 - p)) - prior * w)[..., None])[..., 0]
        w = w + step
        if np.abs(step).max() < 1e-4:
            break
    log_posterior = (counts * log_expit(times(x, w))).sum(-1) - 0.5 * (prior * w * w).sum(-1)
    return log_posterior + 0.5 * np.log(prior).sum() - 0.5 * np.linalg.slogdet(hessian)[1], w, hessian


def times(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(b, n, d) @ (b, d) -> (b, n)."""
    return (matrices @ vectors[..., None])[..., 0]
