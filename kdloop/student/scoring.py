"""How likely an engine finds given completions: negative log-likelihood (NLL), in nats."""

import numpy as np

from kdloop.student import Engine
from storage.conversations import Message


def nats(engine: Engine, prompts: list[list[Message]], completions: list[tuple[str, bool]]) -> np.ndarray:
    """(n,) the NLL of each completion, summed over its tokens."""
    return -np.array([sum(scores) for scores in engine.logprobs(prompts, completions)])


def mean_nll(engine: Engine, prompts: list[list[Message]], completions: list[tuple[str, bool]]) -> float:
    """Nats per token, over all tokens of all completions."""
    scores = engine.logprobs(prompts, completions)
    return -sum(map(sum, scores)) / max(1, sum(map(len, scores)))
