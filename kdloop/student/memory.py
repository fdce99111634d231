"""What memory is free, and batch sizes on a GPU: as large as that holds. Estimates from a model's shape, for decoding,
scoring and training."""

import os
from pathlib import Path

import psutil
import torch

MAX_ROWS = 256  # saturates a GPU with a small student
MEMORY_SHARE = 0.4  # of the free memory that one batch may take: the estimates are rough, and chats may be beside it
MAX_LOGIT_BYTES = 2**32  # of logits and what is computed from them at once
STATES_PER_TOKEN = 24  # hidden-state sizes that a token takes up in prefill: estimated
LOGIT_BYTES = 12  # beside a logit's own: in fp32, its log-probability, the gradient
STATES_PER_LAYER = 64  # the same kept per layer for the backward pass, an adapter's included: estimated


LIMITS = (  # (most, in use) of a container
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free(device: str) -> int:
    """Bytes that can still be had: by PyTorch on a GPU, or in this machine or container."""
    if torch.device(device).type == "cpu":
        room = psutil.virtual_memory().available
        for most, used in LIMITS:
            if os.path.exists(most) and (limit := Path(most).read_text().strip()).isdigit():
                room = min(room, int(limit) - int(Path(used).read_text()))
        return max(0, room)
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def cache_bytes(config, dtype: torch.dtype) -> int:
    """Bytes of the keys and values of one token."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * heads * width * dtype.itemsize


def logits_bytes(text, dtype: torch.dtype) -> int:
    """Bytes of one position's logits and of what is computed from them; `text` is the config's text part."""
    return text.vocab_size * (dtype.itemsize + LOGIT_BYTES)


def rows(config, dtype: torch.dtype, tokens: int, room: int) -> int:
    """Completions of `tokens`, their prompts included, that can be decoded together in `room` bytes."""
    text = config.get_text_config()
    prefill = tokens * STATES_PER_TOKEN * text.hidden_size * dtype.itemsize
    return within(room, 2 * tokens * cache_bytes(config, dtype) + prefill + 16 * text.vocab_size)  # two caches


def scored(config, dtype: torch.dtype, tokens: int, completion: int, room: int) -> int:
    """Completions of `completion` tokens, `tokens` with their prompts, that can be scored together in `room` bytes."""
    text = config.get_text_config()
    logits = completion * logits_bytes(text, dtype)
    each = logits + tokens * STATES_PER_TOKEN * text.hidden_size * dtype.itemsize
    return min(within(MAX_LOGIT_BYTES, logits), within(room, each))


def trained(config, dtype: torch.dtype, tokens: int, room: int) -> int:
    """Rows of `tokens` whose forward and backward pass fit `room` bytes together; 1 where none does, which is then
    computed with activation checkpointing."""
    return max(1, min(MAX_ROWS, kept_tokens(config, dtype, room) // tokens))


def kept_tokens(config, dtype: torch.dtype, room: int) -> int:
    """Tokens whose activations for the backward pass, logits included, fit `room` bytes."""
    text = config.get_text_config()
    layers = text.num_hidden_layers * text.hidden_size * STATES_PER_LAYER * dtype.itemsize
    return int(MEMORY_SHARE * room) // (layers + logits_bytes(text, dtype))


def within(room: int, each: int) -> int:
    """Rows of `each` bytes in the share of `room` that a batch may take; at least 1."""
    return max(1, min(MAX_ROWS, int(MEMORY_SHARE * room) // each))
