"""Batched Bradley-Terry fits: the preference model's weights and the Arena's standings.

P(a preferred to b) = sigmoid(w (x_a - x_b)) (Bradley & Terry 1952), so one comparison is one row: the difference of the
two sides' features. scikit-learn's LogisticRegression fits one data set and gives neither evidence nor Hessian; the
skill test needs both, for hundreds of sign-flipped copies of a data set.
"""

import numpy as np
from scipy.special import expit, log_expit


def laplace(
    x: np.ndarray, prior: np.ndarray, counts: np.ndarray | float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Laplace approximation of Bayesian logistic regression on b data sets at once (MacKay 1992), by Newton's method.

    `x` is (b, n, d), `prior` the (d,) precision of the Gaussian prior, `counts` the weight of each row, (n,) or (b, n).
    Returns (log evidence (b,), posterior mode (b, d), Hessian (b, d, d)).
    """
    w, hessian, transposed = np.zeros((len(x), x.shape[2])), np.diag(prior), x.transpose(0, 2, 1)
    for _ in range(25):  # quadratic convergence: real fits end after about six steps
        p = expit(np.matvec(x, w))
        hessian = (transposed * (counts * p * (1 - p))[:, None]) @ x + np.diag(prior)
        step = np.linalg.solve(hessian, (np.matvec(transposed, counts * (1 - p)) - prior * w)[..., None])[..., 0]
        w = w + step
        if np.abs(step).max() < 1e-4:
            break
    log_posterior = (counts * log_expit(np.matvec(x, w))).sum(-1) - 0.5 * (prior * w * w).sum(-1)
    return log_posterior + 0.5 * np.log(prior).sum() - 0.5 * np.linalg.slogdet(hessian)[1], w, hessian
