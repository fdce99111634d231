"""Decoding with a KV cache that grows, for CPUs and for models whose cache cannot be static: finished rows leave the
batch. (On GPUs see static.py.)"""

from collections.abc import Generator

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from kdloop.student import Sampling
from kdloop.student.draws import SeededSampler

MAX_OCCUPANCY = 7 / 8  # finished rows stay while more than this share is unfinished: dropping them copies the cache
Steps = Generator[dict[int, int], None, None]  # row -> its next token, step by step
ROOM = 32  # tokens by which a cache is enlarged: 64 x 64 tokens in 28.1 s, in 33.0 with a copy at each step


class RoomyLayer(DynamicLayer):
    """A KV cache into which a step writes its own token; transformers' copies all that came before at each step."""

    @classmethod
    def of(cls, layer):
        """The same cache; those of other kinds (sliding windows) stay as they are."""
        if type(layer) is not DynamicLayer:
            return layer
        roomy = cls()
        roomy.lazy_initialization(layer.keys, layer.values)
        roomy.keys, roomy.values = layer.keys, layer.values
        return roomy

    def update(self, keys: Tensor, values: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        self.keys, self.values = append(self.keys, keys), append(self.values, values)
        return self.keys, self.values


def append(old: Tensor, new: Tensor) -> Tensor:
    """(B, heads, n, d) and (B, heads, m, d) -> (B, heads, n + m, d), in the memory of `old` where it has room."""
    b, heads, n, d = old.shape
    total = n + new.size(2)
    if old.stride(1) < total * d:
        room = old.new_empty(b, heads, total + ROOM, d)
        room[:, :, :n] = old
        old = room[:, :, :n]
    grown = old.as_strided((b, heads, total, d), old.stride(), old.storage_offset())
    grown[:, :, n:] = new
    return grown


def decode(
    model,
    ends: tuple[int, ...],
    logits: Tensor,
    mask: Tensor,
    cache: Cache,
    rows: list[int],
    sampling: Sampling,
    seeds: list[int],
) -> Steps:
    """Yield, step by step, {completion: its next token} of those in the batch, which finished ones leave in the end.

    `logits` (p, vocabulary), `mask` (p, width) and `cache` are of p prompts that were read, `rows` has the prompt of
    each completion, and `ends` the tokens that end a turn.
    """
    cache.batch_select_indices(torch.tensor(rows, device=mask.device))
    cache.layers = [RoomyLayer.of(layer) for layer in cache.layers]
    logits, mask = logits[rows], mask[rows]
    draws, alive, finished = SeededSampler.of(sampling, seeds, mask.device), list(range(len(rows))), set()
    for _ in range(sampling.max_tokens):
        tokens = draws.draw(logits)
        drawn = dict(zip(alive, tokens.flatten().tolist(), strict=True))
        yield drawn
        finished |= {i for i, token in drawn.items() if token in ends}
        going = [at for at, i in enumerate(alive) if i not in finished]
        if len(going) < MAX_OCCUPANCY * len(alive):
            cache.batch_select_indices(torch.tensor(going, device=mask.device))
            tokens, mask, alive = tokens[going], mask[going], [alive[at] for at in going]
            draws.keep(going)
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], 1)
        at = mask.sum(1, keepdim=True) - 1
        step = model(tokens, attention_mask=mask, position_ids=at, past_key_values=cache, logits_to_keep=1)
        logits = step.logits[:, -1]
