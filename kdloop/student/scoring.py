"""How likely an engine finds given completions, and how far two engines are from each other on them, in nats."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdloop.student import Engine, Sampling
from kdloop.student.transformers import TransformersEngine
from storage.conversations import Message

# What a candidate may differ from the untrained student, or in entropy from the champion (docs/trust.md):
MAX_KL = 0.3  # nats per token; of a student sharpened by 1.3, 0.165
ENTROPY_CHANGE = (-0.25, 0.25)  # relative; sharpened by 1.3: -36 %, by 1.15: -22 %; flattened by 1.05: +10 %


def nats(engine: Engine, prompts: list[list[Message]], completions: list[tuple[str, bool]]) -> np.ndarray:
    """(n,) the NLL of each completion, summed over its tokens."""
    return -np.array([sum(scores) for scores in engine.logprobs(prompts, completions)])


def mean_nll(engine: Engine, prompts: list[list[Message]], completions: list[tuple[str, bool]]) -> float:
    """Nats per token, over all tokens of all completions."""
    scores = engine.logprobs(prompts, completions)
    return -sum(map(sum, scores)) / max(1, sum(map(len, scores)))


def at_temperature_1(max_tokens: int) -> Sampling:
    """From the whole vocabulary: what a divergence is an expectation over."""
    return Sampling(max_tokens, temperature=1.0, top_p=1.0, top_k=2**20)


@dataclass(frozen=True)
class Divergence:
    """Of a student q from a student p, in nats per token, exact over the vocabulary at each token of given completions:
    KL(p || q), KL(q || p), and both entropies."""

    forward: float
    reverse: float
    entropy_p: float
    entropy_q: float


def divergence(
    p: TransformersEngine,
    q: TransformersEngine,
    prompts: list[list[Message]],
    completions: Sequence[tuple[str, bool]],
) -> Divergence:
    """Where p has sampled the completions at temperature 1, `forward` estimates KL(p || q) of whole completions, per
    token; where q has, `reverse` does so for KL(q || p). Both engines are of one student."""
    sums, tokens = np.zeros(4), 0
    for log_p, log_q in zip(p.distributions(prompts, completions), q.distributions(prompts, completions), strict=True):
        of_p, of_q = log_p.exp(), log_q.exp()
        pp, pq, qq, qp = (
            float((share * nats).sum()) for share, nats in ((of_p, log_p), (of_p, log_q), (of_q, log_q), (of_q, log_p))
        )
        sums += pp - pq, qq - qp, -pp, -qq
        tokens += len(log_p)
    return Divergence(*(sums / max(1, tokens)).tolist())
