"""A pair read once: what chosen and rejected begin with, their prompt, is not computed twice.

    prompt chosen rejected     one row, in which rejected sees the prompt and itself

Prefix sharing for paired preferences (Wang and Hegde 2024, arXiv 2410.20305), as a layer under TRL's trainers: they put
2n rows in and get 2n rows of hidden states out. It is exact: positions and what each token sees are those of two rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature

import torch
from torch import Tensor

from kdloop.student.transformers import attends_to_all

MASKED = "eager", "sdpa"  # implementations of attention that take any mask


@contextmanager
def pairs_read_once(model) -> Iterator[None]:
    """Within this context the model takes batches of pairs alone, n chosen and then n rejected, padded on the right.
    Where it lies on a CPU: to a GPU the tokens that are spared cost less than the launches that are added."""
    backbone = model.get_base_model().base_model
    if backbone.device.type != "cpu" or not sees_what_a_mask_says(backbone):
        yield
        return
    whole = backbone.forward

    def forward(input_ids: Tensor, attention_mask: Tensor, **arguments):
        ids, positions, sees, at = as_single_rows(input_ids, attention_mask.sum(1))
        mask = torch.zeros(sees.shape, dtype=backbone.dtype, device=ids.device)
        mask = mask.masked_fill(~sees, torch.finfo(backbone.dtype).min)[:, None]
        output = whole(input_ids=ids, attention_mask=mask, position_ids=positions, **arguments)
        found = output.last_hidden_state.repeat(2, 1, 1)
        output.last_hidden_state = found.gather(1, at[..., None].expand(-1, -1, found.size(2)))
        return output

    backbone.forward = forward
    try:
        yield
    finally:
        del backbone.forward  # the class's own


def sees_what_a_mask_says(backbone) -> bool:
    """False if a layer has a mask of its own or needs none, or if positions are not given."""
    masked = backbone.config._attn_implementation in MASKED and attends_to_all(backbone.config)
    return masked and "position_ids" in signature(backbone.forward).parameters


def as_single_rows(ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(2n, k) ids and (2n,) lengths -> (n, m) ids, (n, m) positions, (n, m, m) which tokens each one sees, and (2n, k)
    where the tokens of the old rows are in the new ones.

    Of the pair P Q a b and P Q c, which begin alike with two tokens, the new row, its positions, and where c went:

        P Q a b c        0 1 2 3 2        c sees P, Q and itself; the old rows' tokens are at 0 1 2 3 and 0 1 4

    All rows at once, as tensors: this is in every forward pass of a training, and a loop over rows and tokens would
    cost what sharing the prompt saves. tests/test_shared_prompts.py holds it to two rows read apart.
    """
    (chosen, rejected), (chosen_length, rejected_length) = ids.chunk(2), lengths[:, None].chunk(2)
    old = torch.arange(ids.size(1), device=ids.device)
    alike = (chosen == rejected) & (old < torch.minimum(chosen_length, rejected_length))
    shared = alike.cumprod(1).sum(1, keepdim=True)  # (n, 1) tokens from the beginning
    moved = torch.where(old < shared, old, old + chosen_length - shared)  # where the rejected one's tokens go
    new = torch.arange(int((chosen_length + rejected_length - shared).max()), device=ids.device)
    is_rejected = new >= chosen_length  # the rejected one's own
    positions = torch.where(is_rejected, new - chosen_length + shared, new)
    inside = positions.clamp(max=ids.size(1) - 1)
    tokens = torch.where(is_rejected, rejected.gather(1, inside), chosen.gather(1, inside))
    is_chosen = (new >= shared) & ~is_rejected  # the chosen one's own
    hidden = is_rejected[:, :, None] & is_chosen[:, None, :]
    at = torch.cat([old.expand(len(chosen), -1), moved]).clamp(max=len(new) - 1)
    return tokens, positions, (new[:, None] >= new) & ~hidden, at
