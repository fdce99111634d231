"""The OpenAI-compatible engine: the student behind a server (vLLM, SGLang, llama.cpp's), for more people than one
machine's process answers. Several apps can share one server, and one app a row of servers behind a balancer.

Prompts are token ids by the student's own template (template.py): the server's template is never asked, so what people
type cannot be read as its control tokens. A checkpoint is a LoRA adapter's name on the server (servers.py), and its
fingerprint says whether that name answers as was published.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from openai import APIConnectionError, APITimeoutError, BadRequestError, NotFoundError
from transformers import AutoTokenizer

from kdloop.student import EngineUnavailable, NoLogprobs, Sample, Sampling
from kdloop.student.bodies import choices, completion, joined, tokens_counted
from kdloop.student.servers import Adapter, Server, answering
from kdloop.student.template import Template
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
        self.template = Template.of(self.tokenizer)
        self.adapter = adapter and Adapter.of(adapter)
        if self.adapter:
            with answering():
                server.load(self.adapter)

    def load(self, adapter: Path | None) -> "OpenAIEngine":
        """Raises AdapterRefused where the server does not take it."""
        return OpenAIEngine(self.source, self.server, self.at_once, adapter, self.tokenizer)

    def stream(self, prompt: list[Message], sampling: Sampling, seed: int, stop: Event) -> Iterator[str | Sample]:
        """Leaving closes the connection, by which the server knows that nobody listens any more."""
        head, begun = self.template.prompt_ids(prompt), time.monotonic()
        text, tokens, first, status = "", None, 0.0, "stopped"
        with answering(), self.ask(head, sampling, seed, stream=True) as chunks:
            for chunk in chunks:
                tokens = tokens_counted(chunk) or tokens
                for piece, reason in choices(chunk):  # none in the last chunk, which counts the tokens
                    first = first or time.monotonic() - begun
                    text += piece
                    status = ended(reason) if reason else status
                    yield joined(text)
                if stop.is_set() and status == "stopped":
                    break
        if status == "stopped" and not stop.is_set():
            raise EngineUnavailable("The student's server broke off. Try again in a minute")
        text = joined(text)
        tokens = self.count(text, status, None if status == "stopped" else tokens)
        yield Sample(text.strip(), status, len(head), tokens, first, time.monotonic() - begun)

    def complete(self, prompts: list[list[Message]], sampling: Sampling, seeds: list[int]) -> list[Sample]:
        heads, begun = [self.template.prompt_ids(p) for p in prompts], time.monotonic()
        told = self.together(lambda head, seed: self.ask(head, sampling, seed), heads, seeds)
        seconds = (time.monotonic() - begun) / max(1, len(prompts))
        return [self.sample(t, len(head), seconds) for t, head in zip(told, heads, strict=True)]

    def logprobs(self, prompts: list[list[Message]], completions: list[tuple[str, bool]]) -> list[list[float]]:
        """Raises NoLogprobs for a server that does not score what it is given."""
        heads = [self.template.prompt_ids(p) for p in prompts]
        return self.together(self.score, heads, [self.template.completion_ids(*said) for said in completions])

    def together(self, one: Callable, *rows: list) -> list:
        with answering(), ThreadPoolExecutor(self.at_once) as pool:
            return list(pool.map(one, *rows))

    def ask(self, head: list[int], sampling: Sampling, seed: int, stream: bool = False):
        how = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        ends = self.template.ends
        return self.create(lambda: self.server.sampled(self.adapter, head, sampling, seed, ends) | how, stream)

    def score(self, head: list[int], tail: list[int]) -> list[float]:
        """As many tokens a request as the server takes; one, where it leaves one out."""
        scores: list[float] = []
        while len(scores) < len(tail):
            before, now = head + tail[: len(scores)], tail[len(scores) :][:SCORED]
            n = self.template.whole(now) if self.server.ranks else len(now)
            found = self.score_some(before, now[:n]) if n else []
            scores += found
            if len(found) < max(n, 1):
                scores.append(self.score_next(before + now[: len(found)], now[len(found)], f"{len(found)} of {n}"))
        return scores

    def score_some(self, head: list[int], tail: list[int]) -> list[float]:
        told = self.create(lambda: self.server.scoring(self.adapter, head, tail, self.template.ends))
        return self.server.scores(told, head, tail)

    def score_next(self, head: list[int], token: int, told: str) -> float:
        """Of one token, found among the likeliest."""
        for among in self.server.ranks:
            asked = self.create(lambda n=among: self.server.ranking(self.adapter, head, self.template.ends, n))
            if (found := self.server.ranked(asked, token)) is not None:
                return found
        raise NoLogprobs(f"The server told the log-probabilities of {told} tokens")

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
        told = self.server.client.completions.create(
            model=body["model"], prompt=body["prompt"], stream=stream, extra_body=body
        )
        return told if stream else completion(told)

    def sample(self, told, prompt_tokens: int, seconds: float) -> Sample:
        (text, reason), *_ = choices(told)
        text, status = joined(text), ended(reason)
        tokens = self.count(text, status, tokens_counted(told))
        return Sample(text.strip(), status, prompt_tokens, tokens, 0.0, seconds)

    def count(self, text: str, status: str, told: int | None) -> int:
        """Tokens without the end of the turn, which servers count; by the tokenizer where the server did not say."""
        return told - (status == "finished") if told else len(self.template.completion_ids(text, False))


def ended(reason: str | None) -> str:
    """Raises EngineUnavailable for a completion that the server gave up: its text is no completion."""
    if not isinstance(reason, str) or reason not in STATUS:
        raise EngineUnavailable(f"The student's server ended a completion by {reason!r}")
    return STATUS[reason]
