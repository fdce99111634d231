"""Sampling with counter-based random numbers: a draw depends on its seed, step and token alone.

    u = hash(seed, step, token),   token = argmax(log p - log(-log u))          Gumbel-max over the kept tokens

Salmon et al. 2011; the hash is SplitMix64's (Steele et al. 2014). A row's draws are the same alone and in a batch, on
any device, so that champion and candidate can be compared with common random numbers; `generate` draws from one stream
for the whole batch.
"""

import torch
from torch import Tensor

from kdloop.student import Sampling

GAMMA, FIRST_MULTIPLIER, SECOND_MULTIPLIER = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # SplitMix64's
BITS = 23  # of a uniform number: with the added half, which excludes 0 and 1, all that float32 represents exactly


def signed(word: int) -> int:
    """64 bits as int64, which PyTorch has in place of uint64."""
    return word - 2**64 if word >= 2**63 else word


def shift_right(x: Tensor, n: int) -> Tensor:
    """The logical shift of int64 by n bits; PyTorch's is arithmetic."""
    return (x >> n) & (2 ** (64 - n) - 1)


def mix(x: Tensor) -> Tensor:
    """SplitMix64's output function on int64."""
    x = (x ^ shift_right(x, 30)) * signed(FIRST_MULTIPLIER)
    x = (x ^ shift_right(x, 27)) * signed(SECOND_MULTIPLIER)
    return x ^ shift_right(x, 31)


def uniform(seeds: Tensor, step: Tensor, tokens: Tensor) -> Tensor:
    """(B,) seeds, (1,) step and (B, k) tokens, all int64 -> (B, k) in (0, 1), float32."""
    of_step = mix(seeds[:, None] + (step + 1) * signed(GAMMA))
    of_token = mix(of_step + (tokens + 1) * signed(GAMMA))
    return (shift_right(of_token, 64 - BITS).float() + 0.5) * 2.0**-BITS


class SeededSampler:
    """Top-k, then the temperature, then top-p, then a draw. Temperature 0 is greedy.

    All that changes from batch to batch is in tensors, so that a CUDA graph of `draw` serves any batch. (Logits in bf16
    depend on the batch's shape by rounding: there a near tie can give another token.)
    """

    def __init__(self, top_k: int, rows: int, device):
        self.top_k = top_k
        self.seeds, self.step = (torch.zeros(n, dtype=torch.int64, device=device) for n in (rows, 1))
        self.temperature, self.top_p = (torch.ones(1, device=device) for _ in range(2))

    @classmethod
    def of(cls, sampling: Sampling, seeds: list[int], device) -> "SeededSampler":
        return cls(effective_top_k(sampling), len(seeds), device).begin(sampling, seeds)

    def begin(self, sampling: Sampling, seeds: list[int]) -> "SeededSampler":
        """Reset to the first step of rows with these seeds."""
        self.seeds.copy_(torch.tensor([signed(seed % 2**64) for seed in seeds]))
        self.step.zero_()
        self.temperature.fill_(sampling.temperature or 1.0)
        self.top_p.fill_(sampling.top_p)
        return self

    def draw(self, scores: Tensor) -> Tensor:
        """(B, vocabulary) logits -> (B, 1) tokens."""
        if self.top_k == 1:
            self.step += 1
            return scores.argmax(-1, keepdim=True)
        values, tokens = torch.topk(scores, min(self.top_k, scores.size(-1)))  # (B, k), sorted
        logp = torch.log_softmax(values.float() / self.temperature, -1)
        before = logp.exp().cumsum(-1) - logp.exp()  # probability mass ahead of each token
        logp = logp.masked_fill(before >= self.top_p, -torch.inf)
        gumbel = -torch.log(-torch.log(uniform(self.seeds, self.step, tokens)))
        self.step += 1
        return tokens.gather(1, (logp + gumbel).argmax(-1, keepdim=True))

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but these."""
        self.seeds = self.seeds[rows]


def effective_top_k(sampling: Sampling) -> int:
    """Its top_k; 1 where it is greedy."""
    return 1 if sampling.temperature == 0 else sampling.top_k
