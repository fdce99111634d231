"""Sampling for a round: 16 prompts x 4 at a time, as `knowledge/self_knowledge.py` asks, by the engine that rounds use
and by a batched `generate` of the same model, in the same dtype, with the same sampling."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

from kdloop import packs
from kdloop.evaluation.bench import Figure, in_turns
from kdloop.knowledge.self_knowledge import SPREAD, N
from kdloop.settings import Settings
from kdloop.student import Sampling
from kdloop.student.base import find_student
from kdloop.student.template import Template
from kdloop.student.transformers import TransformersEngine, device_and_dtype
from storage.conversations import Message, as_prompt

PROMPTS = 16


def sampling() -> Iterator[Figure]:
    """Completions a second; the turns go through 96 of the prompts."""
    settings = Settings.from_environment()
    engine = TransformersEngine(find_student(settings.student, settings.home), dtype=device_and_dtype()[1])
    how = Sampling(settings.round_max_tokens, temperature=SPREAD)

    def ours(asked: list[list[Message]]):
        engine.complete(asked, how, list(range(len(asked))))

    found = in_turns(lambda i: speed(prompts(i), ours), lambda i: speed(prompts(i), partial(generated, engine, how)))
    name = f"sampling {PROMPTS} prompts x {N} ÷ transformers batched"
    yield Figure(name, *found, "completions/s", found[0] / found[1], ">= 1.3")


def prompts(turn: int) -> list[list[Message]]:
    return [as_prompt(q) for q in packs.prompts("general", "train")[turn * PROMPTS :][:PROMPTS] for _ in range(N)]


def speed(asked: list[list[Message]], complete: Callable) -> float:
    begun = time.monotonic()
    complete(asked)
    return len(asked) / (time.monotonic() - begun)


def generated(engine: TransformersEngine, how: Sampling, asked: list[list[Message]]) -> list[str]:
    """As a user of transformers would: all of them in one padded batch."""
    heads = [Template.of(engine.tokenizer).prompt_ids(p) for p in asked]
    inputs = engine.tokenizer.pad({"input_ids": heads}, return_tensors="pt").to(engine.model.device)
    torch.manual_seed(1)
    sampled = {"do_sample": True, "temperature": how.temperature, "top_k": how.top_k, "top_p": how.top_p}
    out = engine.model.generate(**inputs, max_new_tokens=how.max_tokens, **sampled)
    return engine.tokenizer.batch_decode(out[:, inputs["input_ids"].size(1) :], skip_special_tokens=True)
