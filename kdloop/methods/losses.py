"""Losses as pure functions of named tensors, each with its equation: no model, no trainer, no state.

Log-probabilities are in nats. In the divergences `p` is the teacher's and `q` the student's next-token distribution,
both as log-probabilities (..., vocabulary), and the result has one number per position (...). Golden values computed by
hand are in tests/methods/test_losses.py, comparisons with TRL's in tests/methods/test_trl_parity.py.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, logsigmoid, pad, relu, sigmoid

# --- pairs and rankings: log-probabilities of whole completions ---------------------------------------------------


def conservative(margin: Tensor, noise: Tensor | float) -> Tensor:
    """-(1 - e) log s(margin) - e log s(-margin), e being the probability that the vote is flipped; all (n,) or ().

    Mitchell 2023 (cDPO); e = 0 is DPO, Rafailov et al. 2023, Eq. 7 and survey Eq. 14.
    """
    return -(1 - noise) * logsigmoid(margin) - noise * logsigmoid(-margin)


def simpo(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    """-log s(beta (chosen - rejected) - gamma) of log-probabilities per token, all (n,) or (). Meng et al. 2024."""
    return -logsigmoid(beta * (chosen - rejected) - gamma)


def odds_ratio(chosen: Tensor, rejected: Tensor) -> Tensor:
    """-log s(log odds(chosen) - log odds(rejected)) of log-probabilities per token, odds(y) = p / (1 - p) with p the
    geometric mean of the tokens' probabilities; all (n,) or (). Hong et al. 2024 (ORPO), Eq. 7."""

    def log_odds(logp: Tensor) -> Tensor:
        return logp - torch.log(-torch.expm1(logp.clamp(max=-1e-6)))

    return -logsigmoid(log_odds(chosen) - log_odds(rejected))


def rrhf(ranked: Tensor) -> Tensor:
    """Sum of max(0, worse - better) over all pairs of (n,) log-probabilities per token, best first. Survey Eq. 15."""
    difference = (
        ranked[None, :] - ranked[:, None]
    )  # [i, j]: ranked[j] - ranked[i]; j is the worse one above the diagonal
    return relu(difference).triu(1).sum()


def pro(ranked: Tensor) -> Tensor:
    """-sum_k log softmax(ranked[k:])[0] of (n,) log-probabilities per token, best first. Survey Eq. 16."""
    return sum(torch.logsumexp(ranked[k:], 0) - ranked[k] for k in range(len(ranked) - 1))


# --- divergences: survey Eq. 10 and Table 1 -----------------------------------------------------------------------


def forward_kl(p: Tensor, q: Tensor) -> Tensor:
    """sum p log(p / q): covers the teacher's modes."""
    return (p.exp() * (p - q)).sum(-1)


def reverse_kl(p: Tensor, q: Tensor) -> Tensor:
    """sum q log(q / p): seeks the teacher's modes."""
    return forward_kl(q, p)


def mixture(p: Tensor, q: Tensor, weight: float) -> Tensor:
    """log(weight p + (1 - weight) q)."""
    return torch.logaddexp(p + math.log(weight), q + math.log1p(-weight))


def gjsd(p: Tensor, q: Tensor, beta: float = 0.5) -> Tensor:
    """beta KL(p | m) + (1 - beta) KL(q | m), m = beta p + (1 - beta) q. GKD, Agarwal et al. 2024, Eq. 1; 1/2: JSD."""
    m = mixture(p, q, beta)
    return beta * forward_kl(p, m) + (1 - beta) * forward_kl(q, m)


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """1/2 sum |p - q|. Wen et al. 2023 (f-Distill)."""
    return 0.5 * (p.exp() - q.exp()).abs().sum(-1)


def skew_kl(p: Tensor, q: Tensor, alpha: float = 0.1) -> Tensor:
    """KL(p | alpha p + (1 - alpha) q). Ko et al. 2024 (DistiLLM)."""
    return forward_kl(p, mixture(p, q, alpha))


def skew_reverse_kl(p: Tensor, q: Tensor, alpha: float = 0.1) -> Tensor:
    """KL(q | (1 - alpha) p + alpha q). Ko et al. 2024 (DistiLLM)."""
    return forward_kl(q, mixture(q, p, alpha))


def adaptive_kl(p: Tensor, q: Tensor, head: float = 0.5) -> Tensor:
    """w KL(p | q) + (1 - w) KL(q | p), w = the head's share of sum |p - q|. Wu et al. 2024 (AKL).

    The head is the teacher's likeliest tokens whose mass adds up to `head` or less, and always the likeliest one, as in
    the authors' code: `mask = cum_sum > mu; mask[0] = False`. Forward KL fits the head first, reverse KL the tail, and
    each position gets more of the one whose part differs more.
    """
    probabilities, order = p.exp().sort(-1, descending=True)
    gap = (p.exp() - q.exp()).abs().gather(-1, order).detach()
    in_head = probabilities.cumsum(-1) <= head
    in_head[..., 0] = True
    share = (gap * in_head).sum(-1) / gap.sum(-1).clamp(min=1e-12)
    return share * forward_kl(p, q) + (1 - share) * reverse_kl(p, q)


def cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    """-sum p log q."""
    return -(p.exp() * q).sum(-1)


def sorted_l1(p: Tensor, q: Tensor) -> Tensor:
    """sum |sorted p - sorted q|, the smaller vocabulary padded with zeros. Boizard et al. 2024 (ULD)."""
    p, q = (x.exp().sort(-1, descending=True).values for x in (p, q))
    width = max(p.size(-1), q.size(-1))
    return (pad(p, (0, width - p.size(-1))) - pad(q, (0, width - q.size(-1)))).abs().sum(-1)


@dataclass(frozen=True)
class Taid:
    """The interpolation of TAID and its adaptive schedule: Shing et al. 2025.

        p_t = softmax((1 - t) sg[z_S] + t z_T),   loss = -sum p_t log q

    t never falls, is never below the straight line from `first` to 1, and runs ahead of it while the loss falls.
    """

    t: float = 0.4
    momentum: float = 0.0
    loss: float | None = None
    first: float = 0.4

    def target(self, teacher: Tensor, student: Tensor) -> Tensor:
        """log p_t from (..., vocabulary) logits, without a gradient."""
        return ((1 - self.t) * student.detach() + self.t * teacher).log_softmax(-1)

    def after(self, loss: float, step: int, steps: int, rate: float = 5e-4, beta: float = 0.99) -> "Taid":
        """The schedule after optimizer step `step` of `steps` with this loss; the first step only records the loss."""
        if self.loss is None:
            return Taid(self.t, self.momentum, loss, self.first)
        gain = (self.loss - loss) / (self.loss + 1e-15)
        momentum = beta * self.momentum + (1 - beta) * gain
        ahead = self.t + rate * float(sigmoid(torch.tensor(momentum, dtype=torch.float64))) * (1 - self.t)
        line = self.first + (1 - self.first) * step / steps
        return Taid(min(1.0, max(line, ahead)), momentum, loss, self.first)


# --- similarity of features: survey Eq. 11 and Table 2 ------------------------------------------------------------


def l2(teacher: Tensor, student: Tensor) -> Tensor:
    """(n, d) -> (n,) Euclidean distances."""
    return (teacher - student).norm(dim=-1)


def l1(teacher: Tensor, student: Tensor) -> Tensor:
    """(n, d) -> (n,) Manhattan distances."""
    return (teacher - student).abs().sum(-1)


def cosine(teacher: Tensor, student: Tensor) -> Tensor:
    """(n, d) -> (n,) cosine distances."""
    return 1 - cosine_similarity(teacher, student, dim=-1)


def mmd(teacher: Tensor, student: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two sets of features (n, d) -> (), with a Gaussian kernel whose bandwidth is
    the median distance. Gretton et al. 2012, the biased estimate."""
    both = torch.cat([teacher, student])
    squared = (both[:, None] - both[None]).square().sum(-1)
    kernel = torch.exp(-squared / squared.detach().median().clamp(min=1e-12))
    n = len(teacher)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def layer_map(student: int, teacher: int) -> list[tuple[int, int]]:
    """(student layer, teacher layer) of `student` and `teacher` layers, from 1, evenly spaced; 0 is the embedding."""
    return [(i, max(1, i * teacher // student)) for i in range(1, student + 1)]
