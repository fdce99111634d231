"""Decoding at fixed shapes, for GPUs: a KV cache of fixed size, so that each step is the same kernels on one memory.

One at a time these hundreds of small kernels take a CPU many times as long to launch as the GPU to compute; recorded
once as a CUDA graph, a step is one launch. The host looks at what was drawn only now and then, and while it does the
next steps are under way. Without a GPU the same steps are computed one by one: tests hold them to the growing cache.
"""

import sys
from collections.abc import Iterator
from functools import cache
from threading import Lock

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

from kdloop.student import Sampling
from kdloop.student.draws import SeededSampler

LENGTH = 64  # tokens; caches are as many, or twice, three times
ALONE = 512  # tokens for one person, at least
ROWS = 8  # completions of more than one, at least: smaller batches are not faster
KERNELS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]  # take any mask, and plan nothing for each shape
STEADY_ROPES = {"default", "linear", "llama3", "yarn", "proportional"}  # do not look at how long a text is

RECORDING = Lock()


@cache
def side_stream() -> torch.cuda.Stream:
    """The one on which all is recorded: cuBLAS keeps 32 MB for each that it ever saw."""
    return torch.cuda.Stream()


def fits(model) -> bool:
    """Whether the model's step can be recorded: one that looks at its values to choose what to compute cannot."""
    text = model.config.get_text_config()
    ropes = getattr(text, "rope_parameters", None) or {}
    kinds = {r.get("rope_type", "default") for r in (ropes, *ropes.values()) if isinstance(r, dict)}
    masked = text._attn_implementation in ("sdpa", "eager")
    experts = getattr(text, "num_experts", None) or getattr(text, "num_local_experts", None)
    return masked and model._can_compile_fullgraph and kinds <= STEADY_ROPES and not experts


def grows(cache: Cache) -> bool:
    """Whether all layers keep all tokens, as the static cache does."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def shape(rows: int, tokens: int) -> tuple[int, int]:
    """(rows, length) of the decoder for so many completions of so many tokens with their prompts. One person's grows
    with the conversation, so it is doubled."""
    if rows == 1:
        return 1, max(ALONE, 1 << (tokens - 1).bit_length())
    return max(ROWS, 1 << (rows - 1).bit_length()), -(-tokens // LENGTH) * LENGTH


class FixedLayer(CacheLayerMixin):
    """(rows, heads, length, width) keys and values; a step writes the column `at`, an int64 tensor of one."""

    is_compileable, is_sliding = True, False

    def __init__(self, like: DynamicLayer, rows: int, length: int, at: Tensor):
        super().__init__()
        self.at, self.length = at, length
        self.keys, self.values = (x.new_zeros(rows, x.size(1), length, x.size(3)) for x in (like.keys, like.values))
        self.is_initialized = True

    def update(self, keys: Tensor, values: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        self.keys.index_copy_(2, self.at, keys)
        self.values.index_copy_(2, self.at, values)
        return self.keys, self.values

    def lazy_initialization(self, keys: Tensor, values: Tensor) -> None:
        "Its memory is there from the start"

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length, 0

    def get_seq_length(self) -> int:
        return 0  # positions and mask are given

    def get_max_length(self) -> int:
        return self.length


class StaticDecoder:
    """Up to `rows` completions at once, `length` tokens each with its prompt. `like` is a prompt's cache."""

    def __init__(self, model, like: Cache, rows: int, length: int, ends: set[int], top_k: int):
        device = like.layers[0].keys.device
        self.model, self.rows, self.length, self.top_k = model, rows, length, top_k
        self.at = torch.zeros(1, dtype=torch.int64, device=device)
        self.positions, self.tokens = (torch.zeros(rows, 1, dtype=torch.int64, device=device) for _ in range(2))
        self.drawn = torch.zeros(rows, length, dtype=torch.int64, device=device)
        self.finished = torch.zeros(rows, 1, dtype=torch.bool, device=device)
        self.lowest = torch.finfo(like.layers[0].keys.dtype).min
        self.mask = torch.full((rows, 1, 1, length), self.lowest, dtype=like.layers[0].keys.dtype, device=device)
        self.ends = torch.tensor(sorted(ends), device=device)
        self.cache = Cache(layers=[FixedLayer(layer, rows, length, self.at) for layer in like.layers])
        self.draws = SeededSampler(top_k, rows, device)
        self.stream = side_stream() if device.type == "cuda" else None
        self.graph: torch.cuda.CUDAGraph | None = None
        self.warm = False

    def begin(self, logits: Tensor, mask: Tensor, cache: Cache, rows: list[int], sampling: Sampling, seeds: list[int]):
        """Read prompts, one of them (`rows`) for each completion; draws the first tokens."""
        n, width = len(rows), mask.size(1)
        rows = torch.tensor([*rows, *[rows[0]] * (self.rows - n)]).to(self.at.device)
        for mine, read in zip(self.cache.layers, cache.layers, strict=True):
            mine.keys[:, :, :width] = read.keys.index_select(0, rows)
            mine.values[:, :, :width] = read.values.index_select(0, rows)
        seen = mask.index_select(0, rows)
        self.mask.fill_(self.lowest)
        self.mask[:, 0, 0, :width].masked_fill_(seen.bool(), 0.0)
        self.positions.copy_(seen.sum(1, keepdim=True))
        self.at.fill_(width)
        self.finished.zero_()
        self.finished[n:] = True
        self.draws.begin(sampling, [*seeds, *[0] * (self.rows - n)])
        self.take(logits.index_select(0, rows))

    def take(self, logits: Tensor) -> None:
        """Draw from (rows, vocabulary) logits. What a finished row draws is not looked at."""
        at = self.draws.step.clone()
        self.tokens.copy_(self.draws.draw(logits))
        self.drawn.index_copy_(1, at, self.tokens)
        self.finished |= (self.tokens == self.ends).any(-1, keepdim=True)

    def step(self) -> None:
        """The tokens drawn last go through the model, the next are drawn."""
        self.mask.index_fill_(3, self.at, 0.0)
        with sdpa_kernel(KERNELS):
            said = self.model(
                self.tokens,
                attention_mask=self.mask,
                position_ids=self.positions,
                past_key_values=self.cache,
                logits_to_keep=1,
            )
        self.at += 1
        self.positions += 1
        self.take(said.logits[:, -1])

    @property
    def recorded(self) -> bool:
        return self.graph is not None

    def advance(self, steps: int) -> None:
        """The first step of all loads the kernels, the second records them."""
        for _ in range(steps):
            if self.warm and self.graph is None and self.stream:
                self.stream = self.try_to_record()
            if self.graph is not None:
                self.graph.replay()
            elif self.stream:
                self.aside(self.step)
            else:
                self.step()
            self.warm = True

    def try_to_record(self):
        """The stream, or None where the model does what cannot be recorded: then steps go on one by one."""
        graph = torch.cuda.CUDAGraph()
        try:
            self.aside(self.record, graph)
        except RuntimeError as error:
            print(f"kdloop: no CUDA graph of {type(self.model).__name__}: {error}", file=sys.stderr, flush=True)
            return None
        self.graph = graph
        return self.stream

    def aside(self, work, *arguments) -> None:
        """On a stream beside the others', as recording wants it, one at a time."""
        with RECORDING:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                work(*arguments)
            torch.cuda.current_stream().wait_stream(self.stream)

    def record(self, graph) -> None:
        graph.capture_begin(capture_error_mode="thread_local")  # other threads may use the GPU meanwhile
        try:
            self.step()
        finally:
            graph.capture_end()

    def run(self, n: int, tokens: int, block: int) -> Iterator[list[list[int]]]:
        """Blocks of what the first n rows draw, (steps, n) each, until all have ended or have so many tokens. What a
        row draws after its end goes along."""
        seen, under_way = 0, 1
        while seen < tokens:
            shown, finished = self.drawn[:n, seen:under_way].T.contiguous(), self.finished.clone()
            shown, finished = (x.to("cpu", non_blocking=True) for x in (shown, finished))
            there = self.marked()
            ahead, recorded = min(under_way + block, tokens), self.recorded
            if recorded:  # the GPU goes on while the host looks
                self.advance(ahead - under_way)
            there()
            yield shown.tolist()
            if finished.all():
                return
            if not recorded:  # the first token does not wait for the recording
                self.advance(ahead - under_way)
            seen, under_way = under_way, ahead

    def marked(self):
        """A function that waits until all that was asked of the GPU so far is done."""
        if self.at.device.type != "cuda":
            return lambda: None
        event = torch.cuda.Event()
        event.record()
        return event.synchronize
