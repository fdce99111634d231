"""Decoding with static shapes, for GPUs: a KV cache of fixed size, so that each step is the same kernels on the same
memory.

Launching these hundreds of small kernels takes the CPU many times as long as the GPU needs to compute them; captured
as a CUDA graph, a step is one launch (one person's reply on an H100: 323 tok/s instead of 21.5). The host reads the
sampled tokens only every few steps, while the next ones run. Without a GPU the same steps are computed one by one, and
tests compare them with the growing cache.
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

LENGTH_MULTIPLE = 16  # tokens of a cache: attention reads all of it, and is a third of a step
MIN_LENGTH_ALONE = 512  # tokens of a cache for one person, which is doubled as the conversation grows
MIN_ROWS = 8  # of a batch: smaller ones are not faster
KERNELS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]  # take any mask, and have no plan per shape
STATIC_ROPES = {"default", "linear", "llama3", "yarn", "proportional"}  # frequencies do not depend on the length

CAPTURING = Lock()


@cache
def side_stream() -> torch.cuda.Stream:
    """The only one for capturing: cuBLAS keeps 32 MB for each stream that it has seen."""
    return torch.cuda.Stream()


def fits(model) -> bool:
    """Whether the model's step can be captured: not where control flow depends on values, as in mixtures of experts."""
    text = model.config.get_text_config()
    ropes = getattr(text, "rope_parameters", None) or {}
    kinds = {r.get("rope_type", "default") for r in (ropes, *ropes.values()) if isinstance(r, dict)}
    masked = text._attn_implementation in ("sdpa", "eager")
    experts = getattr(text, "num_experts", None) or getattr(text, "num_local_experts", None)
    return masked and model._can_compile_fullgraph and kinds <= STATIC_ROPES and not experts


def keeps_all(cache: Cache) -> bool:
    """Whether all layers keep all tokens, as the static cache does: no sliding windows."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def shape(rows: int, tokens: int) -> tuple[int, int]:
    """(rows, length) of the decoder for `rows` completions of `tokens`, their prompts included: rounded up, so that few
    shapes are captured."""
    if rows == 1:
        return 1, max(MIN_LENGTH_ALONE, 1 << (tokens - 1).bit_length())
    return max(MIN_ROWS, 1 << (rows - 1).bit_length()), -(-tokens // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


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
        "Its memory is allocated by the constructor"

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length, 0

    def get_seq_length(self) -> int:
        return 0  # positions and mask are given

    def get_max_length(self) -> int:
        return self.length


class StaticDecoder:
    """Decodes up to `rows` completions at once, of up to `length` tokens with their prompts. dtype and sizes are those
    of `like`, a prompt's cache; `ends` are the tokens that end a turn."""

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
        """Take over p prompts that were read: (p, vocabulary) last logits, (p, width) mask and cache; `rows` has the
        prompt of each completion. Samples the first tokens."""
        n, width = len(rows), mask.size(1)
        rows = torch.tensor([*rows, *[rows[0]] * (self.rows - n)]).to(self.at.device)
        for mine, read in zip(self.cache.layers, cache.layers, strict=True):
            mine.keys[:, :, :width] = read.keys.index_select(0, rows)
            mine.values[:, :, :width] = read.values.index_select(0, rows)
        prompt_mask = mask.index_select(0, rows)
        self.mask.fill_(self.lowest)
        self.mask[:, 0, 0, :width].masked_fill_(prompt_mask.bool(), 0.0)
        self.positions.copy_(prompt_mask.sum(1, keepdim=True))
        self.at.fill_(width)
        self.finished.zero_()
        self.finished[n:] = True
        self.draws.begin(sampling, [*seeds, *[0] * (self.rows - n)])
        self.take(logits.index_select(0, rows))

    def take(self, logits: Tensor) -> None:
        """Sample from (rows, vocabulary) logits. What a finished row samples is ignored."""
        at = self.draws.step.clone()
        self.tokens.copy_(self.draws.draw(logits))
        self.drawn.index_copy_(1, at, self.tokens)
        self.finished |= (self.tokens == self.ends).any(-1, keepdim=True)

    def step(self) -> None:
        """Forward pass of the last tokens, and sampling of the next."""
        self.mask.index_fill_(3, self.at, 0.0)
        with sdpa_kernel(KERNELS):
            output = self.model(
                self.tokens,
                attention_mask=self.mask,
                position_ids=self.positions,
                past_key_values=self.cache,
                logits_to_keep=1,
            )
        self.at += 1
        self.positions += 1
        self.take(output.logits[:, -1])

    @property
    def captured(self) -> bool:
        return self.graph is not None

    def advance(self, steps: int) -> None:
        """Take steps; the very first one loads the kernels, the second captures them."""
        for _ in range(steps):
            if self.warm and self.graph is None and self.stream:
                self.stream = self.try_to_capture()
            if self.graph is not None:
                self.graph.replay()
            elif self.stream:
                self.on_side_stream(self.step)
            else:
                self.step()
            self.warm = True

    def try_to_capture(self):
        """The stream, or None where the model cannot be captured: then steps are computed one by one."""
        graph = torch.cuda.CUDAGraph()
        try:
            self.on_side_stream(self.capture, graph)
        except RuntimeError as error:
            print(f"kdloop: no CUDA graph of {type(self.model).__name__}: {error}", file=sys.stderr, flush=True)
            return None
        self.graph = graph
        return self.stream

    def on_side_stream(self, work, *arguments) -> None:
        """On a stream of its own, as capturing requires, one at a time."""
        with CAPTURING:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                work(*arguments)
            torch.cuda.current_stream().wait_stream(self.stream)

    def capture(self, graph) -> None:
        graph.capture_begin(capture_error_mode="thread_local")  # other threads may use the GPU at the same time
        try:
            self.step()
        finally:
            graph.capture_end()

    def run(self, n: int, tokens: int, block: int) -> Iterator[list[list[int]]]:
        """Yield blocks of the tokens of the first n rows, (steps, n) each, until all have ended or have `tokens`; those
        after a row's end are included. `block` steps are taken between two reads."""
        read, launched = 0, 1  # steps
        while read < tokens:
            drawn, finished = self.drawn[:n, read:launched].T.contiguous(), self.finished.clone()
            drawn, finished = (x.to("cpu", non_blocking=True) for x in (drawn, finished))
            wait = self.event()
            ahead, captured = min(launched + block, tokens), self.captured
            if captured:  # the GPU computes while the host reads
                self.advance(ahead - launched)
            wait()
            yield drawn.tolist()
            if finished.all():
                return
            if not captured:  # the first token does not wait for the capture
                self.advance(ahead - launched)
            read, launched = launched, ahead

    def event(self):
        """A function that waits until the GPU has done all that was launched so far."""
        if self.at.device.type != "cuda":
            return lambda: None
        event = torch.cuda.Event()
        event.record()
        return event.synchronize
