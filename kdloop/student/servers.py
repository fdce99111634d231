"""What OpenAI's API leaves to each server: how it is given a LoRA adapter, and how it scores a given completion.

A server says what it is in `GET /v1/models` (`owned_by`); SERVERS has those that are known. Each writes the body of a
request to /v1/completions: `sampled` to draw a completion, `scoring` to hear the log-probabilities of a given one,
which `scores` reads from the answer: of the first tokens, where the server leaves some out. `ranking` asks for the
likeliest next tokens, so many as `ranks` has, and `ranked` finds one of them. `ends` are the tokens that end the
student's turn.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from json import JSONDecodeError
from pathlib import Path

from openai import APIStatusError, OpenAI, OpenAIError
from openai.types import Completion

from kdloop.student import AdapterRefused, EngineUnavailable, Sampling
from kdloop.student.bodies import unavailable

SEEDS = 2**32 - 1  # llama.cpp takes 32 bits, and the last number means: at random
Ends = tuple[int, ...]


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter directory. Its `name` is a hash of what is in it: on a server that several apps share, a name
    never means other weights."""

    directory: Path
    name: str

    @classmethod
    def of(cls, directory: Path) -> "Adapter":
        digest = hashlib.sha256()
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            digest.update((directory / file).read_bytes())
        return cls(directory, f"kdloop-{digest.hexdigest()[:16]}")


@contextmanager
def answering() -> Iterator[None]:
    """Raises EngineUnavailable for whatever the client raises; for a body or an event that is no JSON, that is Python's
    own errors."""
    try:
        yield
    except (OpenAIError, JSONDecodeError, UnicodeDecodeError) as error:
        raise unavailable(f"{type(error).__name__}: {error}") from error


class VLLM:
    """vLLM, started with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True (its documentation, "LoRA Adapters").

    `base` is the name of the model that it serves. An adapter is loaded from a path that the server sees too.
    """

    loads_at = "load_lora_adapter"  # below /v1
    ranks: tuple[int, ...] = ()  # it leaves no token out

    def __init__(self, client: OpenAI, base: str):
        self.client, self.base = client, base

    def load(self, adapter: Adapter) -> None:
        """Raises AdapterRefused with the server's words."""
        body = {"lora_name": adapter.name, "lora_path": str(adapter.directory.resolve())}
        try:
            self.client.with_options(max_retries=0).post(self.loads_at, body=body, cast_to=str)
        except APIStatusError as error:
            if "already" not in str(error):  # another app loaded it, or this one before it was started again
                raise AdapterRefused(
                    f"The server does not load {adapter.directory}: {error}. It must see this path, and be started as "
                    "docs/scale.md says"
                ) from error

    def model(self, adapter: Adapter | None) -> str:
        return adapter.name if adapter else self.base

    def sampled(self, adapter: Adapter | None, head: list[int], sampling: Sampling, seed: int, ends: Ends) -> dict:
        return {
            "model": self.model(adapter),
            "prompt": head,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "seed": seed % SEEDS,
            "stop_token_ids": list(ends),
        }

    def scoring(self, adapter: Adapter | None, head: list[int], tail: list[int], ends: Ends) -> dict:
        """Each token of the completion is asked for as the next one of all before it, which the prefix cache knows.

        An echoed prompt would say all at once, but vLLM computes it with the wrong adapter (vllm issues 16668, 51594),
        and on a CPU its engine dies of it (seen with 0.32) where other requests are in the batch.
        """
        return {
            "model": self.model(adapter),
            "prompt": [head + tail[:i] for i in range(len(tail))],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": sorted(set(tail)),
            "return_tokens_as_token_ids": True,
        }

    def scores(self, told: Completion, head: list[int], tail: list[int]) -> list[float]:
        """Fewer than the tokens where the server is too old for `logprob_token_ids`."""
        known = {
            (c.index, name): p
            for c in told.choices
            if c.logprobs and c.logprobs.top_logprobs
            for name, p in c.logprobs.top_logprobs[0].items()
        }
        return in_order(known.get((i, f"token_id:{id}")) for i, id in enumerate(tail))


class SGLang(VLLM):
    """SGLang, started with --enable-lora, --max-lora-rank and --lora-target-modules all (its documentation, "LoRA
    Serving")."""

    loads_at = "../load_lora_adapter"  # beside /v1

    def model(self, adapter: Adapter | None) -> str:
        return f"{self.base}:{adapter.name}" if adapter else self.base

    def scoring(self, adapter: Adapter | None, head: list[int], tail: list[int], ends: Ends) -> dict:
        """An echoed prompt comes with log-probabilities; the one token that must be drawn is left out."""
        body = {"model": self.model(adapter), "prompt": head + tail, "max_tokens": 1, "temperature": 0}
        return body | {"logprobs": 1, "echo": True}

    def scores(self, told: Completion, head: list[int], tail: list[int]) -> list[float]:
        logprobs = told.choices[0].logprobs
        each = (logprobs and logprobs.token_logprobs) or []
        return in_order(each[len(head) : len(head) + len(tail)])


class LlamaServer:
    """llama.cpp's server. It takes adapters at its start alone: --lora NAME.gguf, any number of them, and
    --lora-init-without-apply. Each request names every adapter's scale, also where it wants none: one that does not
    goes on with what the cache has read by another's (seen with xllamacpp 2026.10), so other clients must name it, too.
    """

    ranks = 64, 2**20  # of the likeliest next tokens, what a student says is among; all of its vocabulary

    def __init__(self, client: OpenAI, base: str):
        self.client, self.base = client, base

    def load(self, adapter: Adapter) -> None:
        self.wanted(adapter)

    def wanted(self, adapter: Adapter | None) -> dict:
        """Asked before each request: a server that was started again may number its adapters otherwise."""
        known = json.loads(self.client.get("../lora-adapters", cast_to=str))
        if not isinstance(known, list) or not all(isinstance(a, dict) and {"id", "path"} <= a.keys() for a in known):
            raise unavailable(f"instead of its adapters it sent {known}")
        names = {a["id"]: Path(a["path"]).stem for a in known}
        if adapter and adapter.name not in names.values():
            raise AdapterRefused(
                f"llama-server takes adapters at its start only, and has no {adapter.name}. Write it with `python -m "
                f"kdloop adapter`, start the server with --lora {adapter.name}.gguf --lora-init-without-apply, and "
                "then kdloop"
            )
        scales = {id: float(adapter is not None and name == adapter.name) for id, name in names.items()}
        return {"model": self.base, "lora": [{"id": id, "scale": scale} for id, scale in scales.items()]}

    def sampled(self, adapter: Adapter | None, head: list[int], sampling: Sampling, seed: int, ends: Ends) -> dict:
        """The order of samplers is student/draws.py's: top_k, then the temperature, then top_p."""
        return self.wanted(adapter) | {
            "prompt": head,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "samplers": ["top_k", "temperature", "top_p"],
            "seed": seed % SEEDS,
            "cache_prompt": True,
        }

    def scoring(self, adapter: Adapter | None, head: list[int], tail: list[int], ends: Ends) -> dict:
        """A grammar lets nothing but the completion's own tokens be drawn, one by one: log-probabilities are taken
        before it, from what the student alone would say. The end of the turn is what a grammar allows where it is at
        its end; the bias chooses it among the tokens that end a text. Of whole characters alone: after two tokens that
        are parts of one, llama.cpp's grammar fails (an error 500, seen with xllamacpp 2026.10)."""
        spelled = " ".join(f"<[{id}]>" for id in (tail[:-1] if tail[-1] in ends else tail))
        return self.wanted(adapter) | {
            "prompt": head,
            "max_tokens": len(tail),
            "temperature": 0,
            "logprobs": 1,
            "grammar": "root ::= " + (spelled or '""'),
            "logit_bias": [[tail[-1], 100]] if tail[-1] in ends else [],
        }

    def scores(self, told: Completion, head: list[int], tail: list[int]) -> list[float]:
        """Up to the first token that its list lacks: it has those alone after which no character is half there."""
        told_of = zip(tail, tokens_listed(told), strict=False)
        return in_order(t["logprob"] if t["id"] == id else None for id, t in told_of)

    def ranking(self, adapter: Adapter | None, head: list[int], ends: Ends, among: int) -> dict:
        """The next token is made to be an end, after which no character is half there."""
        return self.scoring(adapter, head, list(ends[:1]), ends) | {"logprobs": among}

    def ranked(self, told: Completion, token: int) -> float | None:
        each = [t for listed in tokens_listed(told)[:1] for t in listed["top_logprobs"]]
        return next((t["logprob"] for t in each if t["id"] == token), None)


def tokens_listed(told: Completion) -> list[dict]:
    """llama.cpp's list of tokens, which is that of chats."""
    logprobs = told.choices[0].logprobs
    return (logprobs and logprobs.model_extra.get("content")) or []


def in_order(scores: Iterable[float | None]) -> list[float]:
    """Up to the first that is not there."""
    return list(takewhile(lambda p: p is not None, scores))


Server = VLLM | LlamaServer
SERVERS: dict[str, Callable[[OpenAI, str], Server]] = {"vllm": VLLM, "sglang": SGLang, "llamacpp": LlamaServer}


def open_server(url: str, key: str) -> Server:
    """The server at `url` (".../v1"). Raises EngineUnavailable where none answers, or one that is not in SERVERS."""
    client = OpenAI(base_url=url, api_key=key, timeout=300)
    with answering():
        told = client.get("models", cast_to=object)
    listed = told.get("data") if isinstance(told, dict) else None
    first = listed[0] if isinstance(listed, list) and listed else None
    owner = str(first.get("owned_by", "somebody")) if isinstance(first, dict) and "id" in first else "nobody"
    if owner not in SERVERS:
        raise EngineUnavailable(f"The server at {url} is {owner}'s; there are: {', '.join(SERVERS)}")
    return SERVERS[owner](client, first["id"])
