"""What OpenAI's API leaves to each server: how it loads a LoRA adapter, and how it scores a given completion.

A server names its kind in `GET /v1/models` (`owned_by`); SERVERS has those that are supported. Each makes the bodies of
requests to /v1/completions: `sampled` for a sampled completion, `scoring` for the log-probabilities of a given one,
which `scores` reads from the reply, up to a token that the server leaves out. `ranking` asks for the likeliest next
tokens, as many as `ranks` has, and `ranked` finds one of them. `ends` are the tokens that end the student's turn.
"""

import hashlib
import json
import sys
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
from kdloop.student.identity import ADAPTER_CONFIG, ADAPTER_WEIGHTS

SEEDS = 2**32 - 1  # llama.cpp takes 32 bits, and its last number means a random seed
Ends = tuple[int, ...]


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter directory. Its `name` is a hash of its files: on a server that several apps share, a name always
    means the same weights."""

    directory: Path
    name: str

    @classmethod
    def of(cls, directory: Path) -> "Adapter":
        digest = hashlib.sha256()
        for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            digest.update((directory / file).read_bytes())
        return cls(directory, f"kdloop-{digest.hexdigest()[:16]}")


@contextmanager
def answering() -> Iterator[None]:
    """Raises EngineUnavailable for the client's errors, which for invalid JSON are Python's own."""
    try:
        yield
    except (OpenAIError, JSONDecodeError, UnicodeDecodeError) as error:
        raise unavailable(f"{type(error).__name__}: {error}") from error


class VLLM:
    """vLLM, started with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True (its documentation, "LoRA Adapters").

    `base` is the name of the model that it serves. An adapter is loaded from a path that the server can read, too.
    """

    loads_at, unloads_at = "load_lora_adapter", "unload_lora_adapter"  # below /v1
    ranks: tuple[int, ...] = ()  # not needed: it leaves no token out
    takes_adapters = True  # also while it runs

    def __init__(self, client: OpenAI, base: str):
        self.client, self.base = client, base
        self.loaded: set[str] = set()  # names of adapters that it got from this object, and from no other client before

    def load(self, adapter: Adapter) -> None:
        """Raises AdapterRefused with the server's words."""
        body = {"lora_name": adapter.name, "lora_path": str(adapter.directory.resolve())}
        try:
            self.client.with_options(max_retries=0).post(self.loads_at, body=body, cast_to=str)
            self.loaded.add(adapter.name)
        except APIStatusError as error:
            if "already" not in str(error):  # another app loaded it, or this one before it was started again
                raise AdapterRefused(
                    f"The server does not load {adapter.directory}: {error}. It must see this path, and be started as "
                    "docs/scale.md says"
                ) from error

    def unload(self) -> None:
        """Take from the server what it was given here. An app that uses such an adapter gives it again (OpenAIEngine).
        Where the server does not answer, a line on stderr: nothing depends on it."""
        for name in sorted(self.loaded):
            try:
                self.client.with_options(max_retries=0).post(self.unloads_at, body={"lora_name": name}, cast_to=str)
            except OpenAIError as error:
                print(f"kdloop: the server keeps the adapter {name}: {error}", file=sys.stderr, flush=True)
        self.loaded.clear()

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
        """One prompt per token of the completion, which is all before that token: the prefix cache has most of it.

        An echoed prompt would need one, but vLLM computes it with the wrong adapter (vllm issues 16668, 51594), and its
        engine on a CPU ended (seen with 0.32).
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

    def scores(self, body: Completion, head: list[int], tail: list[int]) -> list[float]:
        """Fewer than the tokens where the server is too old for `logprob_token_ids`."""
        logprobs = {
            (c.index, name): p
            for c in body.choices
            if c.logprobs and c.logprobs.top_logprobs
            for name, p in c.logprobs.top_logprobs[0].items()
        }
        return up_to_none(logprobs.get((i, f"token_id:{id}")) for i, id in enumerate(tail))


class SGLang(VLLM):
    """SGLang, started with --enable-lora, --max-lora-rank and --lora-target-modules all (its documentation, "LoRA
    Serving")."""

    loads_at, unloads_at = "../load_lora_adapter", "../unload_lora_adapter"  # beside /v1

    def model(self, adapter: Adapter | None) -> str:
        return f"{self.base}:{adapter.name}" if adapter else self.base

    def scoring(self, adapter: Adapter | None, head: list[int], tail: list[int], ends: Ends) -> dict:
        """The echoed prompt comes with log-probabilities; the one token that has to be sampled is ignored."""
        body = {"model": self.model(adapter), "prompt": head + tail, "max_tokens": 1, "temperature": 0}
        return body | {"logprobs": 1, "echo": True}

    def scores(self, body: Completion, head: list[int], tail: list[int]) -> list[float]:
        logprobs = body.choices[0].logprobs
        each = (logprobs and logprobs.token_logprobs) or []
        return up_to_none(each[len(head) : len(head) + len(tail)])


class LlamaServer:
    """llama.cpp's server. It takes adapters at its start alone: --lora NAME.gguf, any number of them, and
    --lora-init-without-apply. Each request sets every adapter's scale, also where it uses none: one that does not was
    decoded on a cached prompt that another adapter had read (findings/llamacpp_lora_shares_cache.sh), so other clients
    have to set it, too.
    """

    takes_adapters = False
    ranks = 64, 2**20  # the likeliest next tokens, which hold most that a student writes; then all of its vocabulary

    def __init__(self, client: OpenAI, base: str):
        self.client, self.base = client, base

    def load(self, adapter: Adapter) -> None:
        self.selecting(adapter)

    def selecting(self, adapter: Adapter | None) -> dict:
        """The fields of a body that select the adapter. The list is fetched before each request: a restarted server may
        number its adapters differently. Raises AdapterRefused where it does not have this one."""
        listed = json.loads(self.client.get("../lora-adapters", cast_to=str))
        if not isinstance(listed, list) or not all(isinstance(a, dict) and {"id", "path"} <= a.keys() for a in listed):
            raise unavailable(f"instead of its adapters it sent {listed}")
        names = {a["id"]: Path(a["path"]).stem for a in listed}
        if adapter and adapter.name not in names.values():
            raise AdapterRefused(
                f"llama-server takes adapters at its start only, and has no {adapter.name}. Write it with `python -m "
                f"kdloop adapter`, start the server with --lora {adapter.name}.gguf --lora-init-without-apply, and "
                "then kdloop"
            )
        scales = {id: float(adapter is not None and name == adapter.name) for id, name in names.items()}
        return {"model": self.base, "lora": [{"id": id, "scale": scale} for id, scale in scales.items()]}

    def sampled(self, adapter: Adapter | None, head: list[int], sampling: Sampling, seed: int, ends: Ends) -> dict:
        """The order of samplers is that of student/draws.py: top_k, then the temperature, then top_p."""
        return self.selecting(adapter) | {
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
        """A grammar allows the completion's own tokens alone, one by one; log-probabilities are computed before it is
        applied. At its end the grammar allows the tokens that end a text, of which the bias selects the one wanted. Of
        whole characters alone: where tokens were parts of a character, llama.cpp replied with an error 500 (xllamacpp
        2026.10)."""
        spelled = " ".join(f"<[{id}]>" for id in (tail[:-1] if tail[-1] in ends else tail))
        return self.selecting(adapter) | {
            "prompt": head,
            "max_tokens": len(tail),
            "temperature": 0,
            "logprobs": 1,
            "grammar": "root ::= " + (spelled or '""'),
            "logit_bias": [[tail[-1], 100]] if tail[-1] in ends else [],
        }

    def scores(self, body: Completion, head: list[int], tail: list[int]) -> list[float]:
        """Up to the first token that its list lacks: it has those alone after which all characters are complete."""
        pairs = zip(tail, listed_tokens(body), strict=False)
        return up_to_none(t["logprob"] if t["id"] == id else None for id, t in pairs)

    def ranking(self, adapter: Adapter | None, head: list[int], ends: Ends, among: int) -> dict:
        """The log-probabilities come with an end-of-turn token as the next one, after which all characters are
        complete."""
        return self.scoring(adapter, head, list(ends[:1]), ends) | {"logprobs": among}

    def ranked(self, body: Completion, token: int) -> float | None:
        each = [t for listed in listed_tokens(body)[:1] for t in listed["top_logprobs"]]
        return next((t["logprob"] for t in each if t["id"] == token), None)


def listed_tokens(body: Completion) -> list[dict]:
    """llama.cpp's list of tokens, which has the format of chat completions."""
    logprobs = body.choices[0].logprobs
    return (logprobs and logprobs.model_extra.get("content")) or []


def up_to_none(scores: Iterable[float | None]) -> list[float]:
    """The scores before the first None."""
    return list(takewhile(lambda p: p is not None, scores))


Server = VLLM | LlamaServer
SERVERS: dict[str, Callable[[OpenAI, str], Server]] = {"vllm": VLLM, "sglang": SGLang, "llamacpp": LlamaServer}


def open_server(url: str, key: str) -> Server:
    """The server at `url` (".../v1"). Raises EngineUnavailable where none answers, or one that is not in SERVERS."""
    client = OpenAI(base_url=url, api_key=key, timeout=300)
    with answering():
        body = client.get("models", cast_to=object)
    listed = body.get("data") if isinstance(body, dict) else None
    first = listed[0] if isinstance(listed, list) and listed else None
    owner = str(first.get("owned_by", "somebody")) if isinstance(first, dict) and "id" in first else "nobody"
    if owner not in SERVERS:
        raise EngineUnavailable(f"The server at {url} is {owner}'s; there are: {', '.join(SERVERS)}")
    return SERVERS[owner](client, first["id"])
