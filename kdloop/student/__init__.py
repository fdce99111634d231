"""The student: what an engine is, and the one that serves.

An engine holds one checkpoint of the student and is immutable; another checkpoint is another engine (`load`). So a
reply in flight keeps the weights that it began with, whatever is promoted in the meantime.

In: a model directory and an adapter. Out: completions, log-probabilities, token ids. May import storage and settings.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from storage.conversations import Message


@dataclass(frozen=True)
class Sampling:
    """temperature 0 is greedy. top_k is applied before top_p, so that only top_k logits are sorted: generate's order
    costs 0.14 s more per step of 64 rows (findings/top_p_sorts_after_top_k.sh)."""

    max_tokens: int
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 50


@dataclass(frozen=True)
class Sample:
    """One completion. `status`: finished (the student ended its turn), cut (token limit) or stopped (by a person)."""

    text: str
    status: str
    prompt_tokens: int
    completion_tokens: int
    first_token_seconds: float
    seconds: float
    thought: str = ""  # before the text, counted among its tokens

    @property
    def measured(self) -> dict:
        """Status, thought, tokens and seconds: columns of a stored completion."""
        return {k: v for k, v in asdict(self).items() if k != "text"}

    @property
    def said(self) -> tuple[str, bool]:
        """(text, whether the student ended its turn), as of a stored Completion."""
        return self.text, self.status == "finished"

    @property
    def written(self) -> tuple[str, bool, str]:
        """The same with its thought."""
        return *self.said, self.thought


class Thought(str):
    "The thought so far, of a reply whose text has not begun"

    __slots__ = ()


class PromptTooLong(ValueError):
    "The last message alone does not fit the student's context window"


class EngineUnavailable(ValueError):
    "The server that computes the student's tokens is unreachable, or its replies are invalid"


class AdapterRefused(EngineUnavailable):
    "The engine cannot load this checkpoint's adapter"


class NoLogprobs(EngineUnavailable):
    "The server does not return the log-probabilities of a given completion"


class Engine(Protocol):
    """What computes the student's tokens. Prompts are conversations; `completions` are (text, finished) or (text,
    finished, thought)."""

    name: str  # its key in ENGINES
    tokenizer: Any  # the student's own, with its chat template
    template: Any  # that of the tokenizer (template.py)
    source: str  # the base student's model directory or Hub name: what training starts from
    at_once: int  # completions that it decodes together, and so people who can chat at the same time

    def stream(self, prompt: list[Message], sampling: Sampling, seed: int, stop: Event) -> Iterator[str | Sample]:
        """Yield the Thought so far, then the text so far, after each step, and at last the Sample. `stop` ends it at
        the next token."""

    def complete(self, prompts: list[list[Message]], sampling: Sampling, seeds: list[int]) -> list[Sample]:
        """One completion per prompt; a seed gives the same completion, whatever else is in the batch (in fp32)."""

    def logprobs(self, prompts: list[list[Message]], completions: list[tuple]) -> list[list[float]]:
        """Per completion, the log-probability (nats) of each of its tokens; True adds its end-of-turn token."""

    def load(self, adapter: Path | None) -> "Engine":
        """A new engine on the same base student with another adapter; None for the base itself."""
