"""The llama.cpp engine: the embedded GGUF as it is, a checkpoint as a LoRA adapter over it, all in this process.

One xllamacpp server an engine: `slots` completions are decoded together, and each slot keeps the prompt that it read
last, so that the next turn of a chat reads only what is new. A server takes adapters when it starts (under a second)
and never after, which is just what an engine is: one checkpoint that never changes.
"""

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread

import torch
import xllamacpp
from transformers import AutoTokenizer

from kdloop.student import Sample, Sampling
from kdloop.student.gguf import write_adapter
from kdloop.student.prompts import completion_ids, prompt_ids
from kdloop.student.servers import llama_sampled, llama_scoring
from storage.conversations import Message

STATUS = {"stop": "finished", "length": "cut"}


class LlamaCppError(RuntimeError):
    "llama.cpp refused a request"


class LlamaCppEngine:
    """See kdloop.student.Engine. `source` is the model directory that was converted from `gguf`.

    A seed repeats a completion but for near-ties: what else is decoded at the time changes the rounding. Comparisons by
    common random numbers, a round's, are the transformers engine's.
    """

    name = "llamacpp"

    def __init__(
        self, source: str, gguf: Path, context_tokens: int, slots: int, adapter: Path | None = None, tokenizer=None
    ):
        self.source, self.gguf, self.context_tokens, self.at_once = source, gguf, context_tokens, slots
        self.tokenizer = tokenizer or AutoTokenizer.from_pretrained(source)
        with tempfile.TemporaryDirectory() as directory:  # read at the start only, and written in 0.1 s: no cache
            lora = adapter and write_adapter(adapter, Path(source), Path(directory) / "adapter.gguf")
            self.server = xllamacpp.Server(parameters(gguf, lora, context_tokens, slots))

    def load(self, adapter: Path | None) -> "LlamaCppEngine":
        return LlamaCppEngine(self.source, self.gguf, self.context_tokens, self.at_once, adapter, self.tokenizer)

    def stream(self, prompt: list[Message], sampling: Sampling, seed: int, stop: Event) -> Iterator[str | Sample]:
        head, chunks, left, begun = prompt_ids(self.tokenizer, prompt), SimpleQueue(), Event(), time.monotonic()
        asked = llama_sampled(head, sampling, seed) | {"stream": True, "timings_per_token": True}

        def hear(chunk: dict) -> bool:
            chunks.put(chunk)
            return left.is_set()  # ends the completion

        Thread(target=self.ask, args=(asked, hear, chunks.put), daemon=True).start()
        text, tokens, first, status = "", 0, 0.0, "stopped"
        try:
            while chunk := chunks.get():
                choice = choices(chunk)[0]
                first = first or time.monotonic() - begun
                text, tokens = text + choice["text"], chunk["timings"]["predicted_n"]
                if choice["finish_reason"]:
                    status = STATUS[choice["finish_reason"]]
                    break
                yield text
                if stop.is_set():
                    break
        finally:
            left.set()
        seconds = time.monotonic() - begun
        yield Sample(text.strip(), status, len(head), tokens - (status == "finished"), first, seconds)

    def ask(self, asked: dict, hear: Callable[[dict], bool], end: Callable[[None], None]) -> None:
        try:
            self.server.handle_completions(asked, hear)
        finally:
            end(None)

    def complete(self, prompts: list[list[Message]], sampling: Sampling, seeds: list[int]) -> list[Sample]:
        heads, begun = [prompt_ids(self.tokenizer, p) for p in prompts], time.monotonic()
        told = self.together(llama_sampled(head, sampling, seed) for head, seed in zip(heads, seeds, strict=True))
        seconds = (time.monotonic() - begun) / max(1, len(prompts))
        return [sample(t, len(head), seconds) for t, head in zip(told, heads, strict=True)]

    def together(self, requests) -> list[dict]:
        """Twice as many at once as there are slots: the next one is there when a slot gets free."""
        with ThreadPoolExecutor(2 * self.at_once) as pool:
            return list(pool.map(self.server.handle_completions, requests))

    def logprobs(self, prompts: list[list[Message]], completions: list[tuple[str, bool]]) -> list[list[float]]:
        """A grammar lets nothing but the completion's own tokens be drawn, one by one: log-probabilities are taken
        before it, from what the student alone would say."""
        heads = [prompt_ids(self.tokenizer, p) for p in prompts]
        tails = [completion_ids(self.tokenizer, *k) for k in completions]
        end = self.tokenizer.eos_token_id
        told = self.together(llama_scoring(head, tail, end) for head, tail in zip(heads, tails, strict=True) if tail)
        scores = iter([[t["logprob"] for t in choices(t)[0]["logprobs"]["content"]] for t in told])
        return [next(scores) if tail else [] for tail in tails]


def parameters(gguf: Path, lora: Path | None, context_tokens: int, slots: int) -> xllamacpp.CommonParams:
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    if lora:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora), 1.0)]
    params.n_parallel, params.n_ctx = slots, slots * context_tokens
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()  # by OMP_NUM_THREADS
    params.verbosity = -1
    params.ui = params.endpoint_slots = False
    params.api_keys = [secrets.token_hex()]  # the server also listens on a free port of this machine: for nobody
    params.n_threads_http = 1
    params.cache_ram_mib = 0
    params.fit_params = False  # to a memory that is too small: it reads the model once more
    return params


def choices(told: dict) -> list[dict]:
    if "choices" not in told:
        raise LlamaCppError(told)
    return told["choices"]


def sample(told: dict, prompt_tokens: int, seconds: float) -> Sample:
    (choice,) = choices(told)
    status = STATUS[choice["finish_reason"]]
    tokens = told["usage"]["completion_tokens"] - (status == "finished")
    return Sample(choice["text"].strip(), status, prompt_tokens, tokens, 0.0, seconds)
