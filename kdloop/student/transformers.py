"""The transformers engine: any causal LM, on CPU (bf16 where that is faster, else fp32) or on a GPU.

The adapter is merged into a copy of the base's weights at loading: replies carry no LoRA overhead, and training, which
patches models for good, never touches what serves.
"""

import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from threading import Event, Lock

import torch
from torch.nn.functional import cross_entropy, pad
from transformers import AutoTokenizer, Cache
from transformers.cache_utils import DynamicLayer

from kdloop.student import Sample, Sampling, memory, static
from kdloop.student.base import read_weights
from kdloop.student.draws import SeededSampler, kept
from kdloop.student.merging import merged, merged_with, updated
from kdloop.student.norms import fuse_norms
from kdloop.student.template import HALF, Template
from storage.conversations import Message

KEEP = 7 / 8  # finished rows stay until they are more than this leaves: leaving copies the cache
ROOM = 32  # tokens that a KV cache can take up before it is copied
READ = 16  # prompts read at once; these four are a CPU's numbers, a GPU has others
SCORE = 8  # completions whose log-probabilities are computed at once
MULTIPLE = 32  # of tokens, that prompts are padded to: PyTorch's CPU kernels keep 3 MB for each length they ever saw
ALIGNED = 8  # the same on a GPU, whose kernels want so much
TOGETHER = 2**15  # tokens that a GPU reads at once
BLOCK, STREAMED = 8, 2  # steps between two looks at what a GPU has drawn, of a batch and of one person's reply
DECODERS = 3  # that an engine keeps, each with a cache of its own
TAKING = Lock()  # one of them
DECODER = ThreadPoolExecutor(1, "decoder")  # and each thread that computes keeps its own
BATCH = 64  # beyond this the KV cache of a 135M model no longer helps a CPU's throughput
Steps = Generator[dict[int, int], None, None]  # row -> its next token, step by step


def device_and_dtype() -> tuple[str, torch.dtype]:
    """Where rounds compute, and in what: many tokens at once.

    bf16 where there are units for it: AMX, or AVX-512 bf16 of another maker than Intel, whose own is half as fast as
    fp32 (docs/log.md). Elsewhere it is emulated and several times slower.
    """
    if torch.cuda.is_available():
        return "cuda", torch.bfloat16
    intel = "Intel" in torch.cpu.get_capabilities().get("cpu_name", "")
    slower = intel and not torch.cpu._is_amx_tile_supported()
    return "cpu", torch.float32 if slower else reply_dtype()


def reply_dtype() -> torch.dtype:
    """One token at a time is as fast as the weights can be read: bf16 has half of fp32's, wherever it is computed."""
    fast = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


class RoomyLayer(DynamicLayer):
    """A KV cache in which a step writes its own token; the parent copies all that came before, at each step."""

    @classmethod
    def of(cls, layer):
        """The same cache; those of other kinds (sliding windows) stay as they are."""
        if type(layer) is not DynamicLayer:
            return layer
        roomy = cls()
        roomy.lazy_initialization(layer.keys, layer.values)
        roomy.keys, roomy.values = layer.keys, layer.values
        return roomy

    def update(self, keys: torch.Tensor, values: torch.Tensor, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values = appended(self.keys, keys), appended(self.values, values)
        return self.keys, self.values


def appended(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """(B, heads, n, d) and (B, heads, m, d) -> (B, heads, n + m, d), in the memory of `old` where it ends in room."""
    b, heads, n, d = old.shape
    total = n + new.size(2)
    if old.stride(1) < total * d:
        room = old.new_empty(b, heads, total + ROOM, d)
        room[:, :, :n] = old
        old = room[:, :, :n]
    grown = old.as_strided((b, heads, total, d), old.stride(), old.storage_offset())
    grown[:, :, n:] = new
    return grown


def last(ids: torch.Tensor, n: int) -> torch.Tensor:
    """The last n positions, by index: of a slice, PyTorch's CPU kernels would copy the LM head once for each row."""
    return torch.arange(ids.size(1) - n, ids.size(1), device=ids.device)


def attends_to_all(config) -> bool:
    """Whether each layer sees all that came before: none has a sliding window, none is recurrent."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    narrow = getattr(text, "sliding_window", None) or getattr(text, "attention_chunk_size", None)
    return set(kinds) == {"full_attention"} if kinds else not narrow


def steps(decoding: Steps) -> Steps:
    """The same, computed by the one thread that decodes: a web server takes each step on whichever thread is free."""
    try:
        while drawn := DECODER.submit(next, decoding, None).result():
            yield drawn
    finally:
        DECODER.submit(decoding.close).result()


class TransformersEngine:
    """See kdloop.student.Engine. `source` is a model directory or a Hub name."""

    name = "transformers"
    at_once = 1  # streams: `complete` batches BATCH

    def __init__(
        self, source: str, adapter: Path | None = None, dtype: torch.dtype | None = None, device: str | None = None
    ):
        self.source = source
        self.device, self.dtype = device or device_and_dtype()[0], dtype or reply_dtype()
        self.tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
        self.template = Template.of(self.tokenizer)
        self.of(read_weights(source, self.dtype).to(self.device))
        if adapter:
            self.serve(merged(self.untrained, adapter))

    def of(self, model) -> "TransformersEngine":
        """Serve this model, which lies on the engine's device, as the untrained one."""
        self.untrained = updated(model, {})
        if self.on_gpu:
            fuse_norms(self.untrained)
        return self.serve(merged(self.untrained, None))

    @property
    def on_gpu(self) -> bool:
        return torch.device(self.device).type == "cuda"

    def load(self, adapter: Path | None) -> "TransformersEngine":
        """From the untrained weights in memory, and where they are: once a ZeroGPU Space's page is built, PyTorch says
        there that it has a GPU."""
        return copy(self).serve(merged(self.untrained, adapter))

    def load_trained(self, training) -> "TransformersEngine":
        """The same with the adapter of a model in training as it is now: nothing goes through files."""
        return copy(self).serve(merged_with(self.untrained, training))

    def serve(self, model) -> "TransformersEngine":
        self.model, self.decoders = model, []
        self.static = self.on_gpu and attends_to_all(model.config) and static.fits(model)
        return self

    def stream(self, prompt: list[Message], sampling: Sampling, seed: int, stop: Event) -> Iterator[str | Sample]:
        head, ids, begun, first = self.template.prompt_ids(prompt), [], time.monotonic(), 0.0
        for drawn in steps(self.decode([head], sampling, [seed])):
            first = first or time.monotonic() - begun
            ids.append(drawn[0])
            yield self.template.text(ids).rstrip(HALF)
            if stop.is_set():
                break
        yield self.sample(ids, len(head), sampling, first, time.monotonic() - begun)

    def complete(self, prompts: list[list[Message]], sampling: Sampling, seeds: list[int]) -> list[Sample]:
        """Batches of similar prompt length, so that little is padding."""
        heads = self.template.prompts_ids(prompts)
        order = sorted(range(len(heads)), key=lambda i: (len(heads[i]), heads[i]))
        samples: dict[int, Sample] = {}
        most = self.rows_at_once(max(map(len, heads), default=1) + sampling.max_tokens)
        for at in range(0, len(order), most):
            rows, begun = order[at : at + most], time.monotonic()
            ids: list[list[int]] = [[] for _ in rows]
            for drawn in self.decode([heads[i] for i in rows], sampling, [seeds[i] for i in rows]):
                for row, token in drawn.items():
                    ids[row].append(token)
            seconds = (time.monotonic() - begun) / len(rows)
            for i, tokens in zip(rows, ids, strict=True):
                samples[i] = self.sample(tokens, len(heads[i]), sampling, 0.0, seconds)
        return [samples[i] for i in range(len(prompts))]

    def rows_at_once(self, tokens: int) -> int:
        """Completions of so many tokens with their prompts."""
        return memory.rows(self.model.config, self.dtype, tokens, memory.free(self.device)) if self.on_gpu else BATCH

    @torch.inference_mode()
    def decode(self, heads: list[list[int]], sampling: Sampling, seeds: list[int]) -> Steps:
        """Step by step, the next token of each row that has not ended its turn. Equal prompts are read once, and
        finished rows leave the batch."""
        distinct = sorted(set(map(tuple, heads)), key=len)
        logits, mask, cache = self.read([list(head) for head in distinct])
        rows = [distinct.index(tuple(head)) for head in heads]
        fixed = self.static and static.grows(cache)
        steps = (self.decode_fixed if fixed else self.decode_growing)(logits, mask, cache, rows, sampling, seeds)
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

    def decode_growing(self, logits, mask, cache, rows: list[int], sampling, seeds) -> Steps:
        cache.batch_select_indices(torch.tensor(rows, device=self.device))
        cache.layers = [RoomyLayer.of(layer) for layer in cache.layers]
        logits, mask = logits[rows], mask[rows]
        draws, alive, finished = SeededSampler.of(sampling, seeds, self.device), list(range(len(rows))), set()
        for _ in range(sampling.max_tokens):
            tokens = draws.draw(logits)
            drawn = dict(zip(alive, tokens.flatten().tolist(), strict=True))
            yield drawn
            finished |= {i for i, token in drawn.items() if token in self.template.ends}
            going = [at for at, i in enumerate(alive) if i not in finished]
            if len(going) < KEEP * len(alive):
                cache.batch_select_indices(torch.tensor(going, device=self.device))
                tokens, mask, alive = tokens[going], mask[going], [alive[at] for at in going]
                draws.keep(going)
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], 1)
            at = mask.sum(1, keepdim=True) - 1
            step = self.model(tokens, attention_mask=mask, position_ids=at, past_key_values=cache, logits_to_keep=1)
            logits = step.logits[:, -1]

    def decode_fixed(self, logits, mask, cache, rows: list[int], sampling, seeds) -> Steps:
        decoder = self.decoder(cache, len(rows), mask.size(1) + sampling.max_tokens, kept(sampling))
        try:
            decoder.begin(logits, mask, cache, rows, sampling, seeds)
            for block in decoder.run(len(rows), sampling.max_tokens, STREAMED if len(rows) == 1 else BLOCK):
                yield from (dict(enumerate(tokens)) for tokens in block)
        finally:
            self.decoders.append(decoder)
            del self.decoders[:-DECODERS]

    def decoder(self, cache, rows: int, tokens: int, top_k: int) -> static.StaticDecoder:
        """One that is free and large enough, not much larger; or a new one."""
        needed, length = static.shape(rows, tokens)
        with TAKING:
            for free in self.decoders:
                enough = needed <= free.rows <= (needed if rows == 1 else 4 * needed)
                if enough and length <= free.length <= 2 * length and free.top_k == top_k:
                    self.decoders.remove(free)
                    return free
        return static.StaticDecoder(self.model, cache, needed, length, set(self.template.ends), top_k)

    def read(self, heads: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, Cache]:
        """(last logits, attention mask, KV cache) of prompts, read in groups so that little of the work is padding.

        A sliding window's cache has lost its beginning and cannot be lengthened to others': there, all at once.
        """
        masks, logits, caches = [], [], []
        at_once = max(1, TOGETHER // max(map(len, heads))) if self.on_gpu else READ
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
        """Batches of similar length."""
        heads = self.template.prompts_ids(prompts)
        tails = [self.template.completion_ids(*said) for said in completions]
        order = sorted((i for i, tail in enumerate(tails) if tail), key=lambda i: len(heads[i]) + len(tails[i]))
        scores: list[list[float]] = [[] for _ in tails]
        widest, longest = (max(map(len, of)) for of in ([h + t for h, t in zip(heads, tails, strict=True)], tails))
        most = self.scored_at_once(widest, longest)
        for at in range(0, len(order), most):
            rows = order[at : at + most]
            for i, found in zip(rows, self.score([heads[i] for i in rows], [tails[i] for i in rows]), strict=True):
                scores[i] = found
        return scores

    def scored_at_once(self, tokens: int, completion: int) -> int:
        """Completions of so many tokens, `tokens` with their prompts."""
        if not self.on_gpu:
            return SCORE
        return memory.scored(self.model.config, self.dtype, tokens, completion, memory.free(self.device))

    @torch.inference_mode()
    def score(self, heads: list[list[int]], tails: list[list[int]]) -> list[list[float]]:
        batch = self.padded([head + tail for head, tail in zip(heads, tails, strict=True)])
        positions, keep = self.positions(batch), last(batch["input_ids"], max(map(len, tails)) + 1)
        logits = self.model(**batch, position_ids=positions, logits_to_keep=keep, use_cache=False).logits[:, :-1]
        if self.on_gpu:
            targets = batch["input_ids"][:, -logits.size(1) :]  # of shorter completions, the prompt's end too
            nats = cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none").view_as(targets)
            return [[-n for n in row[-len(tail) :]] for row, tail in zip(nats.tolist(), tails, strict=True)]
        rows = zip(logits, [torch.tensor(tail, device=self.device) for tail in tails], strict=True)
        return [(-cross_entropy(row[-len(tail) :].float(), tail, reduction="none")).tolist() for row, tail in rows]

    def padded(self, ids: list[list[int]]) -> dict[str, torch.Tensor]:
        multiple = ALIGNED if self.on_gpu else MULTIPLE
        batch = self.tokenizer.pad({"input_ids": ids}, pad_to_multiple_of=multiple, return_tensors="pt")
        return batch.to(self.device)

    def positions(self, batch: dict) -> torch.Tensor:
        return (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)

    def sample(self, ids: list[int], prompt_tokens: int, sampling: Sampling, first: float, seconds: float) -> Sample:
        ids, finished = self.template.until_end(ids)
        status = "finished" if finished else "cut" if len(ids) >= sampling.max_tokens else "stopped"
        text = self.template.text(ids)
        text = text.strip() if finished else text.rstrip(HALF).strip()
        return Sample(text, status, prompt_tokens, len(ids), first, seconds)
