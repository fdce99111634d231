"""The transformers engine: any causal LM, on CPU (bf16 where that is faster, else fp32) or on a GPU.

The adapter is merged into a copy of the base's weights at loading (merging.py). It decodes by growing.py, and by
static.py on a GPU where the model allows that.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from threading import Event, Lock
from typing import Self

import torch
from torch.nn.functional import cross_entropy, pad
from transformers import AutoTokenizer, Cache

from kdloop.student import Sample, Sampling, growing, memory, static, thinking
from kdloop.student.base import read_weights
from kdloop.student.draws import effective_top_k
from kdloop.student.growing import Steps
from kdloop.student.merging import merged, merged_with, updated
from kdloop.student.norms import fuse_norms
from kdloop.student.template import HALF, Template
from storage.conversations import Message

# On a CPU:
BATCH = 64  # completions decoded together: 228 tok/s with 64, 149 with 96 (SmolLM2-135M, two cores)
READ_BATCH = 16  # prompts read together, of similar length: 64 padded to the longest took as long as 40 decoding steps
SCORE_BATCH = 8  # completions scored together: 96 one by one took 5.6 s, by eights 1.6 s
LENGTH_MULTIPLE = 32  # that prompts are padded to: PyTorch's kernels keep 3 MB for each length that they have seen
DECODING_THREAD = ThreadPoolExecutor(1, "decoder")  # and each thread that computes keeps kernels of its own
# On a GPU:
GPU_LENGTH_MULTIPLE = 8  # which its kernels are aligned to
READ_TOKENS = 2**15  # prompts read together: as many tokens saturate it
BLOCK, STREAM_BLOCK = 8, 2  # steps between two reads of the sampled tokens, of a batch and of one person's reply
MAX_DECODERS = 3  # that an engine keeps, each with a cache of its own
DECODERS_LOCK = Lock()


def decode_in_child() -> None:
    """A forked process (ZeroGPU's) has no thread of its parent's, and would wait for it for ever."""
    global DECODING_THREAD, DECODERS_LOCK
    DECODING_THREAD, DECODERS_LOCK = ThreadPoolExecutor(1, "decoder"), Lock()


os.register_at_fork(after_in_child=decode_in_child)


def device_and_dtype() -> tuple[str, torch.dtype]:
    """The device and dtype of rounds, which compute many tokens at once.

    bf16 on GPUs and on CPUs that have units for it: AMX, or AVX-512 bf16 by another maker than Intel, whose own is half
    as fast as fp32 (103 and 204 GFLOP/s, docs/log.md). Elsewhere it is emulated and several times slower.
    """
    if torch.cuda.is_available():
        return "cuda", torch.bfloat16
    intel = "Intel" in torch.cpu.get_capabilities().get("cpu_name", "")
    slower = intel and not torch.cpu._is_amx_tile_supported()
    return "cpu", torch.float32 if slower else reply_dtype()


def reply_dtype() -> torch.dtype:
    """The dtype of replies, which compute one token at a time, as fast as weights can be read: bf16, half the bytes of
    fp32, wherever it is not emulated."""
    fast = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def last(ids: torch.Tensor, n: int) -> torch.Tensor:
    """(n,) the last n positions of (B, k) ids, for `logits_to_keep`. A number would make it a slice, for which PyTorch
    copies the LM head once per row on a CPU (findings/frozen_head_slice_bmm.sh)."""
    return torch.arange(ids.size(1) - n, ids.size(1), device=ids.device)


def pad_left(rows: list[list[int]], value: int, device=None, multiple: int = 1) -> torch.Tensor:
    """(n, length of the longest row, rounded up to a multiple)."""
    width = -(-max(map(len, rows)) // multiple) * multiple
    return torch.tensor([[value] * (width - len(r)) + r for r in rows], device=device)


def attends_to_all(config) -> bool:
    """Whether each layer attends to all previous tokens: none has a sliding window, none is recurrent."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    narrow = getattr(text, "sliding_window", None) or getattr(text, "attention_chunk_size", None)
    return set(kinds) == {"full_attention"} if kinds else not narrow


def steps(decoding: Steps) -> Steps:
    """The same steps, computed by the decoding thread: a web server takes each step on whichever thread is free."""
    try:
        while drawn := DECODING_THREAD.submit(next, decoding, None).result():
            yield drawn
    finally:
        DECODING_THREAD.submit(decoding.close).result()


class TransformersEngine:
    """See kdloop.student.Engine. `source` is a model directory or a Hub name, `thinks` as Template's `thinking`."""

    name = "transformers"
    at_once = 1  # replies streamed at the same time; `complete` decodes BATCH together

    def __init__(
        self,
        source: str,
        adapter: Path | None = None,
        dtype: torch.dtype | None = None,
        device: str | None = None,
        bits: int = 16,
        thinks: str = "",
    ):
        self.source = source
        self.device, self.dtype = device or device_and_dtype()[0], dtype or reply_dtype()
        self.tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
        self.template = Template.of(self.tokenizer, thinks)
        self.of(read_weights(source, self.dtype, self.device, bits))
        if adapter:
            self.serve(merged(self.untrained, adapter))

    def of(self, model) -> Self:
        """Serve `model`, which is on the engine's device, as the untrained one."""
        self.untrained = updated(model, {})
        if self.on_gpu:
            fuse_norms(self.untrained)
        return self.serve(merged(self.untrained, None))

    @property
    def on_gpu(self) -> bool:
        return torch.device(self.device).type == "cuda"

    def load(self, adapter: Path | None) -> Self:
        """From the untrained weights in memory, on their device. (Not on the default one: in a ZeroGPU Space PyTorch
        reports a GPU once the page is built.) Raises AdapterRefused for an adapter of another architecture."""
        return copy(self).serve(merged(self.untrained, adapter))

    def load_trained(self, training) -> Self:
        """An engine with the current adapter of a model in training, without files."""
        return copy(self).serve(merged_with(self.untrained, training))

    def serve(self, model) -> Self:
        self.model, self.decoders = model, []
        self.static = self.on_gpu and attends_to_all(model.config) and static.fits(model)
        return self

    def stream(self, prompt: list[Message], sampling: Sampling, seed: int, stop: Event) -> Iterator[str | Sample]:
        head, ids, begun, first, thought = self.template.prompt_ids(prompt), [], time.monotonic(), 0.0, ""
        for drawn in steps(self.decode([head], sampling, [seed])):
            first = first or time.monotonic() - begun
            ids.append(drawn[0])
            told, (thought, text) = thought, (part.rstrip(HALF) for part in self.template.parts(ids, False))
            yield from thinking.so_far(thought, text, told)
            if stop.is_set():
                break
        yield self.sample(ids, len(head), sampling, first, time.monotonic() - begun)

    def complete(self, prompts: list[list[Message]], sampling: Sampling, seeds: list[int]) -> list[Sample]:
        """In batches of similar prompt length, so that little is padding."""
        heads = self.template.prompts_ids(prompts)
        order = sorted(range(len(heads)), key=lambda i: (len(heads[i]), heads[i]))
        samples: dict[int, Sample] = {}
        batch = self.rows_at_once(max(map(len, heads), default=1) + sampling.max_tokens)
        for at in range(0, len(order), batch):
            rows, begun = order[at : at + batch], time.monotonic()
            ids: list[list[int]] = [[] for _ in rows]
            for drawn in self.decode([heads[i] for i in rows], sampling, [seeds[i] for i in rows]):
                for row, token in drawn.items():
                    ids[row].append(token)
            seconds = (time.monotonic() - begun) / len(rows)
            for i, tokens in zip(rows, ids, strict=True):
                samples[i] = self.sample(tokens, len(heads[i]), sampling, 0.0, seconds)
        return [samples[i] for i in range(len(prompts))]

    def rows_at_once(self, tokens: int) -> int:
        """Completions of `tokens`, their prompts included, that are decoded together."""
        return memory.rows(self.model.config, self.dtype, tokens, memory.free(self.device)) if self.on_gpu else BATCH

    @torch.inference_mode()
    def decode(self, heads: list[list[int]], sampling: Sampling, seeds: list[int]) -> Steps:
        """Yield, step by step, {row: its next token} of the rows that have not ended their turn. Equal prompts are read
        once."""
        distinct = sorted(set(map(tuple, heads)), key=len)
        logits, mask, cache = self.read([list(head) for head in distinct])
        rows = [distinct.index(tuple(head)) for head in heads]
        prompts = logits, mask, cache, rows, sampling, seeds
        is_static = self.static and static.keeps_all(cache)
        steps = self.decode_static(*prompts) if is_static else growing.decode(self.model, self.template.ends, *prompts)
        finished: set[int] = set()
        try:
            for drawn in steps:
                drawn = {i: token for i, token in drawn.items() if i not in finished}
                yield drawn
                ended = {i for i, token in drawn.items() if token in self.template.ends}
                finished |= ended
                if len(finished) == len(heads):
                    break
        finally:
            steps.close()

    def decode_static(self, logits, mask, cache, rows: list[int], sampling, seeds) -> Steps:
        """As growing.decode; what a row samples after its end is included."""
        decoder = self.decoder(cache, len(rows), mask.size(1) + sampling.max_tokens, effective_top_k(sampling))
        try:
            decoder.begin(logits, mask, cache, rows, sampling, seeds)
            for block in decoder.run(len(rows), sampling.max_tokens, STREAM_BLOCK if len(rows) == 1 else BLOCK):
                yield from (dict(enumerate(tokens)) for tokens in block)
        finally:
            self.decoders.append(decoder)
            del self.decoders[:-MAX_DECODERS]

    def decoder(self, cache, rows: int, tokens: int, top_k: int) -> static.StaticDecoder:
        """A free one that is large enough and not much larger, or a new one."""
        needed, length = static.shape(rows, tokens)
        with DECODERS_LOCK:
            for free in self.decoders:
                enough = needed <= free.rows <= (needed if rows == 1 else 4 * needed)
                if enough and length <= free.length <= 2 * length and free.top_k == top_k:
                    self.decoders.remove(free)
                    return free
        return static.StaticDecoder(self.model, cache, needed, length, set(self.template.ends), top_k)

    def read(self, heads: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, Cache]:
        """((n, vocabulary) last logits, (n, width) attention mask, KV cache) of n prompts, sorted by length and read in
        groups so that little of the work is padding.

        A sliding window's cache has dropped its beginning and cannot be padded to the others' length: there all prompts
        are one group.
        """
        masks, logits, caches = [], [], []
        at_once = max(1, READ_TOKENS // max(map(len, heads))) if self.on_gpu else READ_BATCH
        at_once = at_once if attends_to_all(self.model.config) else len(heads)
        for at in range(0, len(heads), at_once):
            batch = self.padded(heads[at : at + at_once])
            positions, keep = self.positions(batch), last(batch["input_ids"], 1)
            step = self.model(**batch, position_ids=positions, logits_to_keep=keep, use_cache=True)
            masks.append(batch["attention_mask"])
            logits.append(step.logits[:, -1])
            caches.append(step.past_key_values)
        width = max(mask.size(1) for mask in masks)
        for number, layer in enumerate(caches[0].layers if len(caches) > 1 else []):
            group = [cache.layers[number] for cache in caches]
            layer.keys = torch.cat([pad(k.keys, (0, 0, width - k.keys.size(2), 0)) for k in group])
            layer.values = torch.cat([pad(k.values, (0, 0, width - k.values.size(2), 0)) for k in group])
        mask = torch.cat([pad(mask, (width - mask.size(1), 0)) for mask in masks])
        return torch.cat(logits), mask, caches[0]

    def logprobs(self, prompts: list[list[Message]], completions: list[tuple[str, bool]]) -> list[list[float]]:
        """In batches of similar length."""
        scores: list[list[float]] = [[] for _ in completions]
        for rows, heads, tails in self.scoring_batches(prompts, completions):
            for i, found in zip(rows, self.score(heads, tails), strict=True):
                scores[i] = found
        return scores

    def distributions(
        self, prompts: list[list[Message]], completions: list[tuple[str, bool]]
    ) -> Iterator[torch.Tensor]:
        """(tokens, vocabulary) log-probabilities in fp32 of all that could be in place of each token of a completion,
        one completion after the other (a batch takes gigabytes), in the same order by engines of one student."""
        for _, heads, tails in self.scoring_batches(prompts, completions):
            with torch.inference_mode():  # not around the yield: it would hold in what runs meanwhile
                _, logits = self.logits(heads, tails)
            for row, tail in zip(logits, tails, strict=True):
                yield row[-len(tail) :].float().log_softmax(-1)

    def scoring_batches(
        self, prompts: list[list[Message]], completions: list[tuple[str, bool]]
    ) -> Iterator[tuple[list[int], list[list[int]], list[list[int]]]]:
        """(indices, prompts' tokens, completions' tokens), of similar length; none of an empty completion."""
        heads = self.template.prompts_ids(prompts)
        tails = [self.template.completion_ids(*c) for c in completions]
        order = sorted((i for i, tail in enumerate(tails) if tail), key=lambda i: len(heads[i]) + len(tails[i]))
        widest, longest = (max(map(len, of)) for of in ([h + t for h, t in zip(heads, tails, strict=True)], tails))
        batch = self.scored_at_once(widest, longest)
        for at in range(0, len(order), batch):
            rows = order[at : at + batch]
            yield rows, [heads[i] for i in rows], [tails[i] for i in rows]

    def scored_at_once(self, tokens: int, completion: int) -> int:
        """Completions of `completion` tokens, `tokens` with their prompts, that are scored together."""
        if not self.on_gpu:
            return SCORE_BATCH
        return memory.scored(self.model.config, self.dtype, tokens, completion, memory.free(self.device))

    @torch.inference_mode()
    def score(self, heads: list[list[int]], tails: list[list[int]]) -> list[list[float]]:
        """The log-probabilities of each tail's tokens, in one forward pass."""
        ids, logits = self.logits(heads, tails)
        if self.on_gpu:
            targets = ids[:, -logits.size(1) :]  # beside shorter completions, the end of the prompt
            nats = cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none").view_as(targets)
            return [[-n for n in row[-len(tail) :]] for row, tail in zip(nats.tolist(), tails, strict=True)]
        rows = zip(logits, [torch.tensor(tail, device=self.device) for tail in tails], strict=True)
        return [(-cross_entropy(row[-len(tail) :].float(), tail, reduction="none")).tolist() for row, tail in rows]

    def logits(self, heads: list[list[int]], tails: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """((n, width) token ids, padded at the left; (n, longest tail, vocabulary) logits of the tails' tokens, aligned
        at the right)."""
        batch = self.padded([head + tail for head, tail in zip(heads, tails, strict=True)])
        positions, keep = self.positions(batch), last(batch["input_ids"], max(map(len, tails)) + 1)
        logits = self.model(**batch, position_ids=positions, logits_to_keep=keep, use_cache=False).logits[:, :-1]
        return batch["input_ids"], logits

    def padded(self, ids: list[list[int]]) -> dict[str, torch.Tensor]:
        """By hand: `tokenizer.pad` took a tenth of the time of 256 rows on a GPU (docs/speed.md)."""
        multiple = GPU_LENGTH_MULTIPLE if self.on_gpu else LENGTH_MULTIPLE
        rows = {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}
        return {name: pad_left(each, 0, self.device, multiple) for name, each in rows.items()}

    def positions(self, batch: dict) -> torch.Tensor:
        return (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)

    def sample(self, ids: list[int], prompt_tokens: int, sampling: Sampling, first: float, seconds: float) -> Sample:
        ids, finished = self.template.until_end(ids)
        status = "finished" if finished else "cut" if len(ids) >= sampling.max_tokens else "stopped"
        thought, text = (part if finished else part.rstrip(HALF) for part in self.template.parts(ids, finished))
        return Sample(text.strip(), status, prompt_tokens, len(ids), first, seconds, thought.strip())
