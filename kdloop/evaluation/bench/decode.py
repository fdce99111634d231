"""Decoding and time to first token: the app's engine against a llama-server and against transformers' `generate`."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from threading import Event
from urllib.request import Request, urlopen

import torch
from transformers import AutoModelForCausalLM

from kdloop import packs
from kdloop.evaluation.bench import Figure, in_turns
from kdloop.evaluation.bench.generate import generate
from kdloop.settings import Settings
from kdloop.student import Engine, Sample, Sampling
from kdloop.student.base import embedded_gguf
from kdloop.student.engines import CHATS, open_engine
from kdloop.student.template import Template
from storage.conversations import Message, as_prompt

TOKENS = 64
BATCHES = 1, 8, 16
SERVER = """
import sys, xllamacpp
p = xllamacpp.CommonParams()
path, slots, context, threads = sys.argv[1:]
p.model.path, p.n_parallel, p.n_ctx, p.verbosity = path, int(slots), int(slots) * int(context), -1
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = int(threads)
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
sys.stdin.read()"""
GREEDY = Sampling(TOKENS, temperature=0)


@cache
def engine() -> Engine:
    return open_engine(replace(Settings.from_environment(), engine="llamacpp"))


@cache
def model(dtype: torch.dtype):
    return AutoModelForCausalLM.from_pretrained(engine().source, dtype=dtype).eval()


def prompts(n: int, turn: int) -> list[list[Message]]:
    """Different prompts in each turn, so that no prompt cache helps."""
    questions = packs.prompts("general", "heldout")
    return [as_prompt(questions[(turn * n + i) % len(questions)]) for i in range(n)]


def decode() -> Iterator[Figure]:
    """Tokens per second, prompts included, as people see them. The app decodes CHATS at once and queues the rest; the
    server has a slot for each."""
    for batch in BATCHES:
        with llama_server(max(CHATS, batch)) as address:
            ours, theirs = in_turns(lambda i, b=batch: streams(b, i), lambda i, b=batch, a=address: posts(a, b, i))
        bar = ">= 0.95" if batch == 1 else ""
        yield Figure(f"decode batch {batch} ÷ llama-server", ours, theirs, "tok/s", ours / theirs, bar)
    for dtype, bar in ((torch.bfloat16, ">= 4"), (torch.float32, "")):
        for batch in BATCHES:
            ours, theirs = in_turns(lambda i, b=batch: streams(b, i), lambda i, b=batch, d=dtype: generates(d, b, i))
            name = f"decode batch {batch} ÷ transformers {str(dtype).removeprefix('torch.')}"
            yield Figure(name, ours, theirs, "tok/s", ours / theirs, bar if batch == 1 else "")


def first_token() -> Iterator[Figure]:
    """Milliseconds from the question to the first token, one person, a new conversation."""
    with llama_server() as address:
        ours, theirs = in_turns(first_streamed, lambda i: first_posted(address, i))
        yield Figure("first token ÷ llama-server", ours, theirs, "ms", ours / theirs)
    ours, theirs = in_turns(first_streamed, first_generated)
    yield Figure("first token ÷ transformers float32", ours, theirs, "ms", ours / theirs)


def streams(batch: int, turn: int) -> float:
    start = time.monotonic()
    with ThreadPoolExecutor(batch) as pool:
        samples = list(pool.map(streamed, prompts(batch, turn)))
    return sum(s.completion_tokens for s in samples) / (time.monotonic() - start)


def streamed(prompt: list[Message], sampling: Sampling = GREEDY) -> Sample:
    *_, last = engine().stream(prompt, sampling, 1, Event())
    return last


def first_streamed(turn: int) -> float:
    return 1000 * streamed(prompts(1, turn)[0], Sampling(2, temperature=0)).first_token_seconds


def generates(dtype: torch.dtype, batch: int, turn: int, tokens: int = TOKENS) -> float:
    """Tokens per second of a batched, greedy `generate`."""
    tokenizer, start = engine().tokenizer, time.monotonic()
    new = generate(model(dtype), tokenizer, prompts(batch, turn), replace(GREEDY, max_tokens=tokens))
    return float((new != tokenizer.pad_token_id).sum()) / (time.monotonic() - start)


def first_generated(turn: int) -> float:
    start = time.monotonic()
    generates(torch.float32, 1, turn, tokens=1)
    return 1000 * (time.monotonic() - start)


@contextmanager
def llama_server(slots: int = CHATS) -> Iterator[str]:
    """The HTTP server of the same wheel, with as many threads as the app's, in a process of its own; yields its
    address."""
    gguf, settings = embedded_gguf(""), Settings.from_environment()
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER, *map(str, (gguf, slots, settings.context_tokens, torch.get_num_threads()))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield child.stdout.readline().strip()
    finally:
        child.stdin.close()
        child.wait(30)


def posts(address: str, batch: int, turn: int) -> float:
    start = time.monotonic()
    with ThreadPoolExecutor(batch) as pool:
        tokens = list(pool.map(lambda p: posted(address, p, TOKENS)[0], prompts(batch, turn)))
    return sum(tokens) / (time.monotonic() - start)


def first_posted(address: str, turn: int) -> float:
    return 1000 * posted(address, prompts(1, turn)[0], 2)[1]


def posted(address: str, prompt: list[Message], tokens: int) -> tuple[int, float]:
    """(tokens, seconds to the first one) of a streamed completion over HTTP."""
    request = {
        "prompt": Template.of(engine().tokenizer).prompt_ids(prompt),
        "n_predict": tokens,
        "temperature": 0,
        "stream": True,
    }
    start, first, last = time.monotonic(), 0.0, {}
    post = Request(f"{address}/completion", json.dumps(request).encode(), {"Content-Type": "application/json"})
    with urlopen(post) as lines:
        for line in lines:
            if line.startswith(b"data: "):
                first = first or time.monotonic() - start
                last = json.loads(line[6:])
    return last["tokens_predicted"], first
