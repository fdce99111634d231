"""How much a GPU computes at once: as much as its free memory holds."""

import torch

MOST = 256  # rows: a GPU is busy with so many
SHARE = 0.4  # of the free memory that one batch may take
SCORES = 2**32  # bytes of logits and what is computed of them at once
STATES = 24  # hidden states' sizes that a token takes up as it is read
ACTIVATIONS = 64  # the same that a layer keeps for its backward pass, an adapter's included


def free(device: str) -> int:
    """Bytes on the GPU that PyTorch can still give out."""
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def cache_bytes(config, dtype: torch.dtype) -> int:
    """Of the keys and values of one token."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * heads * width * dtype.itemsize


def rows(config, dtype: torch.dtype, tokens: int, room: int) -> int:
    """Completions of so many tokens with their prompts that can be decoded together in `room` bytes."""
    text = config.get_text_config()
    read = tokens * STATES * text.hidden_size * dtype.itemsize
    return within(room, 2 * tokens * cache_bytes(config, dtype) + read + 16 * text.vocab_size)  # read, then copied


def scored(config, dtype: torch.dtype, tokens: int, completion: int, room: int) -> int:
    """Completions of so many tokens, with prompts of `tokens` together, whose log-probabilities fit."""
    text = config.get_text_config()
    logits = completion * text.vocab_size * (dtype.itemsize + 12)
    each = logits + tokens * STATES * text.hidden_size * dtype.itemsize
    return min(within(SCORES, logits), within(room, each))


def trained(config, dtype: torch.dtype, tokens: int, room: int) -> int:
    """Rows of so many tokens that go forward and back together."""
    text = config.get_text_config()
    layers = tokens * text.num_hidden_layers * text.hidden_size * ACTIVATIONS * dtype.itemsize
    return max(1, within(room, layers + tokens * text.vocab_size * (dtype.itemsize + 12)))


def within(room: int, each: int) -> int:
    return max(1, min(MOST, int(SHARE * room) // each))
