"""The OpenAI-compatible engine: the student behind a server (vLLM, SGLang, llama.cpp's), for more people than one
process can serve. Several apps can share one server, and one app several servers behind a load balancer.

Prompts are sent as token ids of the student's own template (template.py): the server's template is never used, so
what people type cannot be parsed as control tokens. A checkpoint is a LoRA adapter's name on the server (servers.py),
and its fingerprint shows whether that name has the published weights.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from openai import APIConnectionError, APITimeoutError, BadRequestError, NotFoundError
from transformers import AutoTokenizer

from kdloop.student import EngineUnavailable, NoLogprobs, Sample, Sampling
from kdloop.student.bodies import choices, completion, completion_tokens, join_surrogates
from kdloop.student.servers import Adapter, Server, answering
from kdloop.student.template import HALF, Template
from kdloop.student.thinking import so_far
from storage.conversations import Message

SCORED_TOKENS = 128  # per request for log-probabilities: vLLM's limit of `logprob_token_ids`
STATUS = {"stop": "finished", "length": "cut"}


class OpenAIEngine:
    """See kdloop.student.Engine. `source` is the model directory or Hub name that the server serves, too.

    A seed reproduces a completion but for near ties, as rounding depends on what else is decoded at the time. Where the
    server fails, `stream`, `complete` and `logprobs` raise EngineUnavailable, and a partial completion is dropped.
    """

    name = "openai"

    def __init__(
        self,
        source: str,
        server: Server,
        at_once: int,
        adapter: Path | None = None,
        tokenizer=None,
        thinks: str | None = None,
    ):
        self.source, self.server, self.at_once = source, server, at_once
        self.tokenizer = tokenizer or AutoTokenizer.from_pretrained(source)
        self.template = Template.of(self.tokenizer, thinks)
        self.adapter = adapter and Adapter.of(adapter)
        if self.adapter:
            with answering():
                server.load(self.adapter)

    def load(self, adapter: Path | None) -> "OpenAIEngine":
        """Raises AdapterRefused where the server does not take it."""
        return OpenAIEngine(self.source, self.server, self.at_once, adapter, self.tokenizer)

    def stream(self, prompt: list[Message], sampling: Sampling, seed: int, stop: Event) -> Iterator[str | Sample]:
        """Closing the generator closes the connection, on which the server stops decoding."""
        head, begun = self.template.prompt_ids(prompt), time.monotonic()
        text, thought, tokens, first, status = "", "", None, 0.0, "stopped"
        with answering(), self.ask(head, sampling, seed, stream=True) as chunks:
            for chunk in chunks:
                tokens = completion_tokens(chunk) or tokens
                for piece, reason in choices(chunk):  # the last chunk has none, but the count of tokens
                    first = first or time.monotonic() - begun
                    text += piece
                    status = ended(reason) if reason else status
                    told, (thought, said) = thought, self.template.parts_of_text(join_surrogates(text), False)
                    yield from so_far(thought, said, told)
                if stop.is_set() and status == "stopped":
                    break
        if status == "stopped" and not stop.is_set():
            raise EngineUnavailable("The student's server broke off. Try again in a minute")
        text = join_surrogates(text)
        tokens = self.count(text, status, None if status == "stopped" else tokens)
        thought, said = self.parts(text, status)
        yield Sample(said, status, len(head), tokens, first, time.monotonic() - begun, thought)

    def complete(self, prompts: list[list[Message]], sampling: Sampling, seeds: list[int]) -> list[Sample]:
        heads, begun = [self.template.prompt_ids(p) for p in prompts], time.monotonic()
        bodies = self.concurrently(lambda head, seed: self.ask(head, sampling, seed), heads, seeds)
        seconds = (time.monotonic() - begun) / max(1, len(prompts))
        return [self.sample(body, len(head), seconds) for body, head in zip(bodies, heads, strict=True)]

    def logprobs(self, prompts: list[list[Message]], completions: list[tuple[str, bool]]) -> list[list[float]]:
        """Raises NoLogprobs for a server that does not return those of a given completion."""
        heads = [self.template.prompt_ids(p) for p in prompts]
        return self.concurrently(self.score, heads, [self.template.completion_ids(*c) for c in completions])

    def concurrently(self, one: Callable, *rows: list) -> list:
        """`one` of each row, `at_once` requests at a time."""
        with answering(), ThreadPoolExecutor(self.at_once) as pool:
            return list(pool.map(one, *rows))

    def ask(self, head: list[int], sampling: Sampling, seed: int, stream: bool = False):
        options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        ends = self.template.ends
        return self.create(lambda: self.server.sampled(self.adapter, head, sampling, seed, ends) | options, stream)

    def score(self, head: list[int], tail: list[int]) -> list[float]:
        """Log-probabilities of `tail`, as many tokens per request as the server takes; a token that it leaves out is
        asked for by itself."""
        scores: list[float] = []
        while len(scores) < len(tail):
            context, tokens = head + tail[: len(scores)], tail[len(scores) :][:SCORED_TOKENS]
            n = self.template.whole(tokens) if self.server.ranks else len(tokens)
            found = self.score_some(context, tokens[:n]) if n else []
            scores += found
            if (k := len(found)) < max(n, 1):
                scores.append(self.score_next(context + tokens[:k], tokens[k], f"{k} of {n}"))
        return scores

    def score_some(self, head: list[int], tail: list[int]) -> list[float]:
        """Those of the first tokens of `tail`, up to one that the server leaves out."""
        body = self.create(lambda: self.server.scoring(self.adapter, head, tail, self.template.ends))
        return self.server.scores(body, head, tail)

    def score_next(self, head: list[int], token: int, scored: str) -> float:
        """The log-probability of one token, looked up among the likeliest."""
        for most_likely in self.server.ranks:
            body = self.create(lambda n=most_likely: self.server.ranking(self.adapter, head, self.template.ends, n))
            if (found := self.server.ranked(body, token)) is not None:
                return found
        raise NoLogprobs(f"The server told the log-probabilities of {scored} tokens")

    def create(self, make_body: Callable[[], dict], stream: bool = False):
        """Post a request, twice where the server may have restarted: at another address, or without our adapter."""
        try:
            return self.post(make_body(), stream)
        except (NotFoundError, BadRequestError):
            if self.adapter is None:
                raise
            self.server.load(self.adapter)
        except APIConnectionError as error:
            if isinstance(error, APITimeoutError):
                raise
        return self.post(make_body(), stream)

    def post(self, body: dict, stream: bool):
        """All of `body` as it is: some fields are extensions of the server's."""
        reply = self.server.client.completions.create(
            model=body["model"], prompt=body["prompt"], stream=stream, extra_body=body
        )
        return reply if stream else completion(reply)

    def sample(self, body, prompt_tokens: int, seconds: float) -> Sample:
        (text, reason), *_ = choices(body)
        text, status = join_surrogates(text), ended(reason)
        tokens = self.count(text, status, completion_tokens(body))
        thought, text = self.parts(text, status)
        return Sample(text, status, prompt_tokens, tokens, 0.0, seconds, thought)

    def parts(self, text: str, status: str) -> tuple[str, str]:
        """(thought, text), without half a character where it was cut."""
        ended = status == "finished"
        thought, said = (part.strip() for part in self.template.parts_of_text(text, ended))
        return (thought, said) if ended else (thought.rstrip(HALF).rstrip(), said.rstrip(HALF).rstrip())

    def count(self, text: str, status: str, counted: int | None) -> int:
        """Tokens without the end of the turn, which servers include; by the tokenizer where the server has no count."""
        return counted - (status == "finished") if counted else len(self.template.completion_ids(text, False))


def ended(reason: str | None) -> str:
    """The status of a finish reason. Raises EngineUnavailable for any other: the server gave up, and the text is no
    completion."""
    if not isinstance(reason, str) or reason not in STATUS:
        raise EngineUnavailable(f"The student's server ended a completion by {reason!r}")
    return STATUS[reason]
