"""Sampling for a round: 16 prompts x 4 at a time, as `knowledge/self_knowledge.py` asks, in each of the two engines."""

import time
from collections.abc import Iterator

from kdloop import packs
from kdloop.bench import Figure, in_turns
from kdloop.knowledge.self_knowledge import SPREAD, N
from kdloop.settings import Settings
from kdloop.student import Engine, Sampling
from kdloop.student.engines import ENGINES
from storage.conversations import as_prompt

PROMPTS = 16


def sampling() -> Iterator[Figure]:
    """Completions a second; the turns go through 80 of the prompts."""
    settings = Settings.from_environment()
    ours, theirs = (ENGINES[name](settings) for name in ("llamacpp", "transformers"))
    found = in_turns(lambda i: drawn(settings, ours, i), lambda i: drawn(settings, theirs, i))
    ratio = found[0] / found[1]
    yield Figure("sampling 16 prompts x 4 ÷ transformers batched", *found, "completions/s", ratio, ">= 1.3")


def drawn(settings: Settings, engine: Engine, turn: int) -> float:
    questions = packs.prompts("general", "train")[turn * PROMPTS :][:PROMPTS]
    asked, begun = [as_prompt(q) for q in questions for _ in range(N)], time.monotonic()
    engine.complete(asked, Sampling(settings.round_max_tokens, temperature=SPREAD), list(range(len(asked))))
    return len(asked) / (time.monotonic() - begun)
