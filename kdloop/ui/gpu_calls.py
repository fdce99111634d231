"""A ZeroGPU Space's GPU, by calls of at most a minute: a reply, a part of a round. `spaces` is there alone.

The Hub lends the GPU to a visitor's request, on that visitor's daily quota. A call runs in a process forked from the
app's, and only there is CUDA: the app's own process computes on the CPU, and what a call has made comes back as rows
and files. Where the Hub lends none, the CPU does it.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr
import httpx

from kdloop.rounds.process import log_file
from kdloop.settings import Settings
from kdloop.student import Engine, Sample, Sampling, Thought
from kdloop.student.engines import transformers
from storage import rounds
from storage.conversations import Message

CALL_SECONDS = 60  # at most: ZeroGPU's own default
GATING_SECONDS = 30  # a round's last phase
RESERVE_SECONDS = 18  # of a call: loading the student, and the end of what has begun when time is up
REPLY_SECONDS, TOKENS_PER_SECOND = 10, 25  # loading, and the slowest decoding that was measured on a GPU (docs/log.md)
NO_GPU = (gr.Error, RuntimeError, httpx.HTTPError)  # what `spaces` raises: no quota, none free, a call that was ended


def training_seconds(settings: Settings, round_id: int) -> int:
    """How long a call for a part of this round may take."""
    last = rounds.get_round(settings.db, round_id).status == "gating"
    return GATING_SECONDS if last else CALL_SECONDS


def train_a_part(settings: Settings, round_id: int) -> bool:
    """Within a call: whether the round has come to its end. What it prints goes to the round's log."""
    from kdloop.rounds.trainer import part

    seconds = training_seconds(settings, round_id) - RESERVE_SECONDS
    with log_file(settings, round_id).open("a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        return part(settings, round_id, seconds)


def reply_seconds(
    settings: Settings, adapter: Path | None, prompt: list[Message], sampling: Sampling, seed: int
) -> int:
    return min(CALL_SECONDS, REPLY_SECONDS + round(sampling.max_tokens / TOKENS_PER_SECOND))


def reply(
    settings: Settings, adapter: Path | None, prompt: list[Message], sampling: Sampling, seed: int
) -> Iterator[str | Sample]:
    """Within a call: as Engine.stream. To end it early, close it."""
    yield from engine_here(settings, adapter).stream(prompt, sampling, seed, Event())


@lru_cache(maxsize=2)
def engine_here(settings: Settings, adapter: Path | None) -> Engine:
    """On this process's device. The Hub may keep the process for the next call."""
    return transformers(settings).load(adapter)


@dataclass(frozen=True)
class Calls:
    """The functions above, each as a call for a GPU."""

    train: Callable[[Settings, int], bool]
    reply: Callable[..., Iterator[str | Sample]]


@lru_cache(maxsize=1)
def calls() -> Calls:
    """Once the student is loaded, and before the page starts: from here on PyTorch, in the app's own process, only
    pretends to have a GPU."""
    importlib.import_module("kdloop.rounds.run")  # TRL is read here, in nobody's quota, and before PyTorch pretends
    import spaces

    return Calls(spaces.GPU(duration=training_seconds)(train_a_part), spaces.GPU(duration=reply_seconds)(reply))


class LentGpu:
    """An engine (kdloop.student.Engine) whose replies a GPU writes, and where there is none, the engine itself."""

    def __init__(self, settings: Settings, engine: Engine, adapter: Path | None, told: Callable[[Exception], None]):
        self.settings, self.engine, self.adapter, self.told = settings, engine, adapter, told

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def stream(self, prompt: list[Message], sampling: Sampling, seed: int, stop: Event) -> Iterator[str | Sample]:
        tokens, thought, text = 0, "", ""
        try:
            with closing(calls().reply(self.settings, self.adapter, prompt, sampling, seed)) as pieces:
                for piece in pieces:
                    yield piece
                    if isinstance(piece, Sample):
                        return
                    thought, text = (piece, text) if isinstance(piece, Thought) else (thought, piece)
                    tokens += 1
                    if stop.is_set():
                        read = len(self.engine.template.prompt_ids(prompt))
                        yield Sample(text.strip(), "stopped", read, tokens, 0.0, 0.0, thought.strip())
                        return
        except NO_GPU as error:
            self.told(error)
            print(f"kdloop: no GPU for a reply: {error}", file=sys.stderr, flush=True)
        yield from self.engine.stream(prompt, sampling, seed, stop)
