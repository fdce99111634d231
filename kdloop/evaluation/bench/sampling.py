"""A round's sampling, 16 prompts x 4 as in knowledge/self_knowledge.py: the engine of rounds against a batched
`generate` of the same model, in the same dtype, with the same sampling parameters."""

import time
from collections.abc import Callable, Iterator

import torch

from kdloop import packs
from kdloop.evaluation.bench import Figure, in_turns
from kdloop.evaluation.bench.generate import generate
from kdloop.knowledge.self_knowledge import SPREAD, N
from kdloop.settings import Settings
from kdloop.student import Sampling, engines
from kdloop.student.transformers import device_and_dtype
from storage.conversations import Message, as_prompt

PROMPTS = 16


def sampling() -> Iterator[Figure]:
    """Completions per second; the turns go through 96 of the prompts."""
    settings = Settings.from_environment()
    engine = engines.transformers(settings, device_and_dtype()[1])
    how = Sampling(settings.round_max_tokens, temperature=SPREAD)

    def ours(batch: list[list[Message]]):
        engine.complete(batch, how, list(range(len(batch))))

    def batched(batch: list[list[Message]]):
        torch.manual_seed(1)
        engine.tokenizer.batch_decode(generate(engine.model, engine.tokenizer, batch, how), skip_special_tokens=True)

    found = in_turns(lambda i: speed(prompts(i), ours), lambda i: speed(prompts(i), batched))
    name = f"sampling {PROMPTS} prompts x {N} ÷ transformers batched"
    yield Figure(name, *found, "completions/s", found[0] / found[1], ">= 1.3")


def prompts(turn: int) -> list[list[Message]]:
    return [as_prompt(q) for q in packs.prompts("general", "train")[turn * PROMPTS :][:PROMPTS] for _ in range(N)]


def speed(batch: list[list[Message]], complete: Callable) -> float:
    start = time.monotonic()
    complete(batch)
    return len(batch) / (time.monotonic() - start)
