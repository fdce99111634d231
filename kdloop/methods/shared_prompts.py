"""Pairs in one row: the prefix that chosen and rejected share, their prompt, is computed once.

    prompt chosen rejected     one row, in which rejected attends to the prompt and to itself

Prefix sharing for paired preferences (Wang and Hegde 2024, arXiv 2410.20305), below TRL's trainers: they put 2n
sequences in and get 2n rows of hidden states out. It is exact: positions and attention are those of two rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature

import torch
from torch import Tensor

from kdloop.student.transformers import attends_to_all

ANY_MASK = "eager", "sdpa"  # implementations of attention that take any mask


@contextmanager
def pairs_read_once(model) -> Iterator[None]:
    """Within this context the model takes batches of pairs alone, n chosen and then n rejected, padded on the right. On
    a GPU nothing is changed: the tokens that are saved cost less there than the kernels that are added."""
    backbone = model.get_base_model().base_model
    if backbone.device.type != "cpu" or not takes_any_mask(backbone):
        yield
        return
    one_row_each = backbone.forward

    def forward(input_ids: Tensor, attention_mask: Tensor, **arguments):
        ids, positions, attends, index = as_single_rows(input_ids, attention_mask.sum(1))
        mask = torch.zeros(attends.shape, dtype=backbone.dtype, device=ids.device)
        mask = mask.masked_fill(~attends, torch.finfo(backbone.dtype).min)[:, None]
        output = one_row_each(input_ids=ids, attention_mask=mask, position_ids=positions, **arguments)
        states = output.last_hidden_state.repeat(2, 1, 1)
        output.last_hidden_state = states.gather(1, index[..., None].expand(-1, -1, states.size(2)))
        return output

    backbone.forward = forward
    try:
        yield
    finally:
        del backbone.forward  # the class's own


def takes_any_mask(backbone) -> bool:
    """False if a layer makes a mask of its own or takes none, or if positions cannot be given."""
    masked = backbone.config._attn_implementation in ANY_MASK and attends_to_all(backbone.config)
    return masked and "position_ids" in signature(backbone.forward).parameters


def as_single_rows(ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(2n, k) ids, n chosen and then n rejected sequences, and (2n,) lengths -> of the n rows that hold both: (n, m)
    ids, (n, m) positions, (n, m, m) attention mask, and (2n, k) the index in its row of each token of a sequence.

    For the pair P Q a b and P Q c, which share a prefix of two tokens:

        ids P Q a b c        positions 0 1 2 3 2        c attends to P, Q and itself        indices 0 1 2 3 and 0 1 4

    All rows at once, as tensors: this is in every forward pass of a training, and a loop over rows and tokens would
    cost what sharing the prompt saves, a step of 8 pairs in 6.2 to 6.6 s instead of 8.1 (docs/log.md).
    tests/methods/test_shared_prompts.py holds it to two rows read apart.
    """
    (chosen, rejected), (chosen_length, rejected_length) = ids.chunk(2), lengths[:, None].chunk(2)  # (n, k), (n, 1)
    old = torch.arange(ids.size(1), device=ids.device)
    same = (chosen == rejected) & (old < torch.minimum(chosen_length, rejected_length))
    prefix = same.cumprod(1).sum(1, keepdim=True)  # (n, 1): length of the common prefix
    rejected_index = torch.where(old < prefix, old, old + chosen_length - prefix)
    new = torch.arange(int((chosen_length + rejected_length - prefix).max()), device=ids.device)
    is_rejected = new >= chosen_length  # after the prefix
    positions = torch.where(is_rejected, new - chosen_length + prefix, new)
    inside = positions.clamp(max=ids.size(1) - 1)
    tokens = torch.where(is_rejected, rejected.gather(1, inside), chosen.gather(1, inside))
    is_chosen = (new >= prefix) & ~is_rejected
    hidden = is_rejected[:, :, None] & is_chosen[:, None, :]
    index = torch.cat([old.expand(len(chosen), -1), rejected_index]).clamp(max=len(new) - 1)
    return tokens, positions, (new[:, None] >= new) & ~hidden, index
