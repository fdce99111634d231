"""The OpenAI-compatible engine: the student behind a server (vLLM, SGLang, llama.cpp's), for more people than one
machine's process answers. Several apps can share one server, and one app a row of servers behind a balancer.

Prompts are token ids by the student's own template (prompts.py): the server's template is never asked. A checkpoint is
a LoRA adapter's name on the server (servers.py), and its fingerprint says whether that name answers as was published.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from openai import APIConnectionError, APITimeoutError, BadRequestError, NotFoundError
from transformers import AutoTokenizer

from kdloop.student import EngineUnavailable, NoLogprobs, Sample, Sampling
from kdloop.student.prompts import completion_ids, prompt_ids
from kdloop.student.servers import Adapter, Server, answering
from storage.conversations import Message

SCORED = 128  # tokens whose log-probabilities one request asks for: vLLM names no more at once
STATUS = {"stop": "finished", "length": "cut"}


class OpenAIEngine:
    """See kdloop.student.Engine. `source` is the model directory or Hub name that the server serves, too.

    A seed repeats a completion but for near-ties: what else is decoded at the time changes the rounding. Where the
    server fails, `stream`, `complete` and `logprobs` raise EngineUnavailable, and what it had said is dropped.
    """

    name = "openai"

    def __init__(self, source: str, server: Server, at_once: int, adapter: Path | None = None, tokenizer=None):
        self.source, self.server, self.at_once = source, server, at_once
        self.tokenizer = tokenizer or AutoTokenizer.from_pretrained(source)
        self.adapter = adapter and Adapter.of(adapter)
        if self.adapter:
            with answering():
                server.load(self.adapter)

    def load(self, adapter: Path | None) -> "OpenAIEngine":
        """Raises AdapterRefused where the server does not take it."""
        return OpenAIEngine(self.source, self.server, self.at_once, adapter, self.tokenizer)

    def stream(self, prompt: list[Message], sampling: Sampling, seed: int, stop: Event) -> Iterator[str | Sample]:
        """Leaving closes the connection, by which the server knows that nobody listens any more."""
        head, begun = prompt_ids(self.tokenizer, prompt), time.monotonic()
        text, tokens, first, status = "", None, 0.0, "stopped"
        with answering(), self.ask(head, sampling, seed, stream=True) as chunks:
            for chunk in chunks:
                tokens = chunk.usage.completion_tokens if chunk.usage else tokens
                for choice in chunk.choices:  # none in the last chunk, which counts the tokens
                    first = first or time.monotonic() - begun
                    text += choice.text
                    status = ended(choice.finish_reason) if choice.finish_reason else status
                    yield text
                if stop.is_set() and status == "stopped":
                    break
        if status == "stopped" and not stop.is_set():
            raise EngineUnavailable("The student's server broke off. Try again in a minute")
        if status == "stopped":
            tokens = len(completion_ids(self.tokenizer, text, False))
        yield Sample(text.strip(), status, len(head), tokens - (status == "finished"), first, time.monotonic() - begun)

    def complete(self, prompts: list[list[Message]], sampling: Sampling, seeds: list[int]) -> list[Sample]:
        heads, begun = [prompt_ids(self.tokenizer, p) for p in prompts], time.monotonic()
        told = self.together(lambda head, seed: self.ask(head, sampling, seed), heads, seeds)
        seconds = (time.monotonic() - begun) / max(1, len(prompts))
        return [sample(t, len(head), seconds) for t, head in zip(told, heads, strict=True)]

    def logprobs(self, prompts: list[list[Message]], completions: list[tuple[str, bool]]) -> list[list[float]]:
        """Raises NoLogprobs for a server that does not score what it is given."""
        heads = [prompt_ids(self.tokenizer, p) for p in prompts]
        return self.together(self.score, heads, [completion_ids(self.tokenizer, *said) for said in completions])

    def together(self, one: Callable, *rows: list) -> list:
        with answering(), ThreadPoolExecutor(self.at_once) as pool:
            return list(pool.map(one, *rows))

    def ask(self, head: list[int], sampling: Sampling, seed: int, stream: bool = False):
        how = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        end = self.tokenizer.eos_token_id
        return self.create(lambda: self.server.sampled(self.adapter, head, sampling, seed, end) | how, stream)

    def score(self, head: list[int], tail: list[int]) -> list[float]:
        if not tail:
            return []
        now, later = tail[:SCORED], tail[SCORED:]
        told = self.create(lambda: self.server.scoring(self.adapter, head, now, self.tokenizer.eos_token_id))
        scores = self.server.scores(told, head, now)
        if len(scores) != len(now):
            raise NoLogprobs(f"The server told {len(scores)} log-probabilities of {len(now)} tokens")
        return scores + self.score(head + now, later)

    def create(self, written: Callable[[], dict], stream: bool = False):
        """Twice where the server may have been started again: at another address, or without our adapter."""
        try:
            return self.post(written(), stream)
        except (NotFoundError, BadRequestError):
            if self.adapter is None:
                raise
            self.server.load(self.adapter)
        except APIConnectionError as error:
            if isinstance(error, APITimeoutError):
                raise
        return self.post(written(), stream)

    def post(self, body: dict, stream: bool):
        """The body as it is: some of its fields are the server's own."""
        return self.server.client.completions.create(
            model=body["model"], prompt=body["prompt"], stream=stream, extra_body=body
        )


def ended(reason: str) -> str:
    """Raises EngineUnavailable for a completion that the server gave up: its text is no completion."""
    if reason not in STATUS:
        raise EngineUnavailable(f"The student's server ended a completion by {reason!r}")
    return STATUS[reason]


def sample(told, prompt_tokens: int, seconds: float) -> Sample:
    (choice,) = told.choices
    status = ended(choice.finish_reason)
    tokens = told.usage.completion_tokens - (status == "finished")
    return Sample(choice.text.strip(), status, prompt_tokens, tokens, 0.0, seconds)
