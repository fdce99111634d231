"""Teachers: any OpenAI-compatible endpoint through the official client, or a local model directory; several, with
weights.

The one place for retries, timeouts, concurrency and money: each request is looked up by the hash of all that is sent
before it is made, and none is made that could exceed a teacher's budget (budget.py). A call that fails is an Answer
without text: an error's words never become a completion. What a server answered is paid for and kept, text or none.
"""

import hashlib
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from threading import Lock

from kdloop.packs import tomllib
from kdloop.raters.budget import reserve
from kdloop.student import Sampling
from kdloop.student.identity import identity
from storage import teachers as store
from storage.conversations import Message

TERMS = ("allowed", "forbidden")
CHARACTERS_A_TOKEN = 2  # few, so that a budget is never exceeded


@dataclass(frozen=True)
class Teacher:
    """One [[teacher]] of the teachers' file. `url` or `directory`; prices per million tokens; budget 0 is no limit.

    `terms` is what the provider's terms say about training other models on its completions; where they forbid it,
    `confirmed` is the owner's word to have the right all the same.
    """

    name: str
    model: str = ""
    url: str = ""
    directory: str = ""
    key_file: str = ""
    weight: float = 1.0
    licence: str = ""
    terms: str = ""
    confirmed: bool = False
    price_in: float = 0.0
    price_out: float = 0.0
    budget: float = 0.0
    timeout: float = 60.0
    retries: int = 3
    concurrency: int = 4

    @property
    def restricted(self) -> int:
        return int(self.terms == "forbidden")

    @property
    def may_teach(self) -> bool:
        return self.terms == "allowed" or self.confirmed

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        return (prompt_tokens * self.price_in + completion_tokens * self.price_out) / 1e6


@dataclass(frozen=True)
class Answer:
    """`status`: finished, cut, or failed; a failed one has an `error` and no text. `cached` ones cost nothing."""

    teacher: Teacher
    text: str = ""
    status: str = "failed"
    sampling: dict = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cached: bool = False
    error: str = ""
    logprobs: list | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        return self.status != "failed"


def load(path: str, db: Path) -> "Teachers | None":
    """The teachers of a TOML file; None for "". Raises ValueError saying what is wrong with the file."""
    if not path:
        return None
    if not Path(path).is_file():
        raise ValueError(f"KDLOOP_TEACHERS={path!r} is no file: give a TOML file with [[teacher]] tables")
    known = {f.name for f in fields(Teacher)}
    read = tomllib.loads(Path(path).read_text(encoding="utf-8")).get("teacher", [])
    if unknown := {k for t in read for k in t} - known:
        raise ValueError(f"{path}: unknown {', '.join(sorted(unknown))}; a teacher has {', '.join(sorted(known))}")
    return Teachers(db, [Teacher(**t) for t in read])


class Teachers:
    """Every teacher of one file, with the cache and the accounts that they share."""

    def __init__(self, db: Path, teachers: list[Teacher]):
        if len({t.name for t in teachers}) < len(teachers) or not teachers:
            raise ValueError("Teachers need distinct names, and there must be one")
        for t in teachers:
            if bool(t.url) == bool(t.directory):
                raise ValueError(f"Teacher {t.name!r} needs either a url or a directory")
            if t.terms not in TERMS:
                raise ValueError(f"Teacher {t.name!r}: read its provider's terms and say terms = {' or '.join(TERMS)}")
        self.db, self.all = db, teachers
        self.lock = Lock()

    def named(self, name: str) -> Teacher:
        found = [t for t in self.all if t.name == name]
        if not found:
            raise ValueError(f"No teacher {name!r}; there are {', '.join(t.name for t in self.all)}")
        return found[0]

    def pick(self, seed: int) -> Teacher:
        """One teacher, by weight."""
        return random.Random(seed).choices(self.all, [t.weight for t in self.all])[0]

    def ask(
        self, prompts: list[list[Message]], sampling: Sampling, seeds: list[int], of: Teacher | None = None, **extra
    ) -> list[Answer]:
        """One answer a prompt, from `of`, or each from a teacher drawn by weight. `extra` goes into the request as it
        is (response_format, logprobs...)."""
        chosen = [of or self.pick(seed) for seed in seeds]
        answers: dict[int, Answer] = {}
        for teacher in dict.fromkeys(chosen):
            rows = [i for i, t in enumerate(chosen) if t == teacher]
            asked = [(prompts[i], seeds[i]) for i in rows]
            answers |= zip(rows, self.ask_one(teacher, asked, sampling, extra), strict=True)
        return [answers[i] for i in range(len(prompts))]

    def ask_one(self, teacher: Teacher, asked: list[tuple], sampling: Sampling, extra: dict) -> list[Answer]:
        if teacher.directory:
            return self.ask_directory(teacher, asked, sampling)
        with ThreadPoolExecutor(teacher.concurrency) as pool:
            return list(pool.map(lambda one: self.ask_endpoint(teacher, *one, sampling, extra), asked))

    def ask_endpoint(self, teacher: Teacher, prompt, seed: int, sampling: Sampling, extra: dict) -> Answer:
        from openai import OpenAIError

        request = {
            "model": teacher.model,
            "messages": prompt,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed,
            **extra,
        }
        hash, how = digest(teacher.url, request), asdict(sampling) | {"seed": seed}
        if call := store.find_call(self.db, hash):
            return self.from_call(teacher, call, how)
        most = sum(len(m["content"]) for m in prompt) // CHARACTERS_A_TOKEN, sampling.max_tokens
        if not reserve(self.db, teacher.name, teacher.budget, teacher.cost(*most)):
            return Answer(teacher, error=f"the budget of {teacher.budget:g} is used up")
        begun = time.monotonic()
        try:
            reply = self.clients[teacher.name].chat.completions.create(**request)
            answer = read(teacher, reply, how, time.monotonic() - begun, most)
            store.record_call(self.db, as_call(hash, request, answer))
            return answer
        except OpenAIError as error:  # timeouts, refused connections, statuses, bodies that are not JSON
            return Answer(teacher, error=f"{type(error).__name__}: {error}"[:500])
        finally:
            reserve(self.db, teacher.name, teacher.budget, -teacher.cost(*most))

    def ask_directory(self, teacher: Teacher, asked: list[tuple], sampling: Sampling) -> list[Answer]:
        requests = [asdict(sampling) | {"messages": prompt, "seed": seed} for prompt, seed in asked]
        hashes = [digest(weights_of(teacher.directory), r) for r in requests]
        known = {h: store.find_call(self.db, h) for h in hashes}
        new = [i for i, h in enumerate(hashes) if known[h] is None]
        if new:
            prompts, seeds = zip(*(asked[i] for i in new), strict=True)
            samples = self.engine(teacher).complete(list(prompts), sampling, list(seeds))
            for i, s in zip(new, samples, strict=True):
                tokens = s.prompt_tokens, s.completion_tokens
                call = store.Call(hashes[i], teacher.name, requests[i], s.text, s.status, None, *tokens, 0.0, s.seconds)
                known[hashes[i]] = call
                store.record_call(self.db, call)
        how = [asdict(sampling) | {"seed": seed} for _, seed in asked]
        return [self.from_call(teacher, known[h], k) for h, k in zip(hashes, how, strict=True)]

    def engine(self, teacher: Teacher):
        """The engine of a local teacher; loaded once."""
        from kdloop.student.transformers import TransformersEngine

        with self.lock:
            if teacher.name not in self.engines:
                self.engines[teacher.name] = TransformersEngine(teacher.directory)
            return self.engines[teacher.name]

    @cached_property
    def engines(self) -> dict:
        return {}

    @cached_property
    def clients(self) -> dict:
        from openai import OpenAI

        remote = [t for t in self.all if t.url]
        return {
            t.name: OpenAI(base_url=t.url, api_key=key(t), timeout=t.timeout, max_retries=t.retries) for t in remote
        }

    @staticmethod
    def from_call(teacher: Teacher, call: store.Call, how: dict) -> Answer:
        if not call.text:
            return Answer(teacher, error="an empty completion")
        tokens = call.prompt_tokens, call.completion_tokens
        return Answer(teacher, call.text, call.status, how, *tokens, call.seconds, True, logprobs=call.logprobs)


def key(teacher: Teacher) -> str:
    return Path(teacher.key_file).read_text().strip() if teacher.key_file else "none"


def weights_of(directory: str) -> str:
    """What other weights in the same directory have otherwise; the name itself where it is one of the Hub."""
    return identity(directory) if Path(directory).is_dir() else directory


def digest(where: str, request: dict) -> str:
    return hashlib.sha256(json.dumps([where, request], sort_keys=True).encode()).hexdigest()


def read(teacher: Teacher, reply, how: dict, seconds: float, most: tuple[int, int]) -> Answer:
    """What came back, if it is a completion: filtered and empty ones, and bodies without choices or usage, are
    failures. `most` are the tokens that count where the body does not say."""
    choice = reply.choices[0] if reply.choices and reply.usage else None
    text = (choice.message.content or "").strip() if choice else ""
    tokens = (reply.usage.prompt_tokens, reply.usage.completion_tokens) if reply.usage else most
    if not text or choice.finish_reason not in ("stop", "length"):
        why = choice.finish_reason if choice else "a body without choices or usage"
        return Answer(teacher, "", "failed", how, *tokens, seconds, error=f"no completion ({why})")
    logprobs = [t.model_dump() for t in choice.logprobs.content] if choice.logprobs else None
    status = "finished" if choice.finish_reason == "stop" else "cut"
    return Answer(teacher, text, status, how, *tokens, seconds, logprobs=logprobs)


def as_call(hash: str, request: dict, a: Answer) -> store.Call:
    """One without text is as cut as can be: it is found again as a failure, and not paid for twice."""
    cost, tokens = a.teacher.cost(a.prompt_tokens, a.completion_tokens), (a.prompt_tokens, a.completion_tokens)
    status = a.status if a.ok else "cut"
    return store.Call(hash, a.teacher.name, request, a.text, status, a.logprobs, *tokens, cost, a.seconds)
