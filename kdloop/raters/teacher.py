"""Teachers: any OpenAI-compatible endpoint through the official client, or a local model directory; several, with
weights.

The one place for retries, timeouts, concurrency and money: each request is looked up by the hash of all that is sent
before it is made, and none is made that could exceed a teacher's budget (budget.py). A call that fails is an Answer
without text: an error's words never become a completion, nor does a model's thought. What a model answered is paid for
and kept, text or none; what a gateway said in its place (completions.py) is asked again, and not kept.
"""

import hashlib
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from threading import Lock

from kdloop.raters import completions, thoughts
from kdloop.raters.budget import reserve
from kdloop.raters.completions import Completion
from kdloop.raters.teachers_file import Teacher, check, key, read
from kdloop.student import Sampling
from kdloop.student.identity import identity
from storage import teachers as store
from storage.conversations import Draft, Message
from storage.database import new_id

BYTES_A_TOKEN = 2  # of UTF-8; few, so that a budget is never exceeded
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds before a body that is no completion is asked for again; they double


@dataclass(frozen=True)
class Answer:
    """`status`: finished, cut, or failed; a failed one has an `error` and no text. `cached` ones cost nothing.

    `thought` is what a reasoning model thought first: to be kept with the text, and never to be shown or learned.
    """

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
    thought: str = field(default="", repr=False)

    @property
    def ok(self) -> bool:
        return self.status != "failed"


def by_teacher(answer: Answer, bound: int = 0, **how) -> Draft:
    """`bound` is 1 where what it answers was written under terms that forbid to train on it.

    Raises ValueError for a failed call: an error's text must never become a completion.
    """
    if not answer.ok:
        raise ValueError(f"{answer.teacher.name} gave no completion: {answer.error}")
    columns = {
        "name": answer.teacher.name,
        "licence": answer.teacher.licence,
        "restricted": max(answer.teacher.restricted, bound),
        "sampling": answer.sampling | ({"thought": answer.thought} if answer.thought else {}) | how,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "seconds": answer.seconds,
    }
    return Draft(answer.text, answer.status, "teacher", columns)


def load(path: str, db: Path) -> "Teachers | None":
    """The teachers of a TOML file; None for "". Raises ValueError saying what is wrong with the file."""
    if not path:
        return None
    if not Path(path).is_file():
        raise ValueError(f"KDLOOP_TEACHERS={path!r} is no file: give a TOML file with [[teacher]] tables")
    return Teachers(db, read(Path(path)))


class Teachers:
    """Every teacher of one file, with the cache and the accounts that they share."""

    def __init__(self, db: Path, teachers: list[Teacher]):
        if len({t.name for t in teachers}) < len(teachers) or not teachers:
            raise ValueError("Teachers need distinct names, and there must be one")
        for t in teachers:
            check(t)
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
        """Equal requests are made once."""
        keys = [json.dumps(one) for one in asked]
        distinct = dict(zip(keys, asked, strict=True))
        if teacher.directory:
            answers = self.ask_directory(teacher, list(distinct.values()), sampling)
        else:
            with ThreadPoolExecutor(max(1, teacher.concurrency)) as pool:
                ask = partial(self.ask_endpoint, teacher, sampling=sampling, extra=extra)
                answers = list(pool.map(ask, *zip(*distinct.values(), strict=True)))
        found = dict(zip(distinct, answers, strict=True))
        return [found[key] for key in keys]

    def ask_endpoint(self, teacher: Teacher, prompt, seed: int, sampling: Sampling, extra: dict) -> Answer:
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
        answer, left = self.attempt(teacher, hash, request, how, max(0, teacher.retries))
        pause = FIRST_PAUSE
        while left:
            time.sleep(pause)
            answer, left = self.attempt(teacher, hash, request, how, left - 1)
            pause = min(2 * pause, LONGEST_PAUSE)
        return answer

    def attempt(self, teacher: Teacher, hash: str, request: dict, how: dict, retries: int) -> tuple[Answer, int]:
        """(what came back, how many times it may be asked for again). The client itself retries connections and
        statuses, the caller bodies with status 200; both draw on the same `retries`."""
        from openai import OpenAIError

        most = sum(map(tokens_of, (m["content"] for m in request["messages"]))), request["max_tokens"]
        if not reserve(self.db, teacher.name, teacher.budget, teacher.cost(*most)):
            return Answer(teacher, error=f"the budget of {teacher.budget:g} is used up"), 0
        client, begun = self.clients[teacher.name].with_options(max_retries=retries), time.monotonic()
        try:
            raw = client.chat.completions.with_raw_response.create(**request)
            found = completions.read(raw.http_response.content, teacher.thinks)
            answer = answered(teacher, found, how, time.monotonic() - begun, most)
            if not found.passing:
                store.record_call(self.db, as_call(hash, request, answer))
            elif answer.prompt_tokens or answer.completion_tokens:  # told, so it is on the bill; nobody finds it again
                store.record_call(self.db, as_call(new_id(), {}, answer))
            return answer, max(0, retries - raw.retries_taken) if found.retry else 0
        except OpenAIError as error:  # timeouts, refused and broken connections, statuses, encodings
            return Answer(teacher, error=completions.clean(f"{type(error).__name__}: {error}")[:500]), 0
        finally:
            reserve(self.db, teacher.name, teacher.budget, -teacher.cost(*most))

    def ask_directory(self, teacher: Teacher, asked: list[tuple], sampling: Sampling) -> list[Answer]:
        requests = [asdict(sampling) | {"messages": prompt, "seed": seed} for prompt, seed in asked]
        hashes = [digest(weights_of(teacher.directory), r) for r in requests]
        known = {h: store.find_call(self.db, h) for h in hashes}
        new = [i for i, h in enumerate(hashes) if known[h] is None]
        if new:
            prompts, seeds = zip(*(asked[i] for i in new), strict=True)
            engine = self.engine(teacher)
            for i, s in zip(new, engine.complete(list(prompts), sampling, list(seeds)), strict=True):
                found = completions.local(s, engine.tokenizer, asked[i][0])
                text, tokens = thoughts.joined(found.thought, found.text), (s.prompt_tokens, s.completion_tokens)
                call = store.Call(
                    hashes[i], teacher.name, requests[i], text, found.status, None, *tokens, 0.0, s.seconds
                )
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
        thought, text = thoughts.split(call.text)
        if not text:
            return Answer(teacher, error="no completion (an empty one, or a thought alone)", thought=thought)
        tokens = call.prompt_tokens, call.completion_tokens
        kept = {"cached": True, "logprobs": call.logprobs, "thought": thought}
        return Answer(teacher, text, call.status, how, *tokens, call.seconds, **kept)


def weights_of(directory: str) -> str:
    """What other weights in the same directory have otherwise; the name itself where it is one of the Hub."""
    return identity(directory) if Path(directory).is_dir() else directory


def digest(where: str, request: dict) -> str:
    return hashlib.sha256(json.dumps([where, request], sort_keys=True).encode()).hexdigest()


def tokens_of(text: str) -> int:
    """Hardly less than any tokenizer makes of it."""
    return len(text.encode(errors="replace")) // BYTES_A_TOKEN


def answered(teacher: Teacher, found: Completion, how: dict, seconds: float, most: tuple[int, int]) -> Answer:
    """Tokens that the body does not count are estimated: of a text from its length, of one that was cut or kept back
    the most that can be; an error that passes has none."""
    told = found.prompt_tokens, found.completion_tokens
    of_text = min(most[1], tokens_of(found.thought + found.text) + 1) if found.status == "finished" else most[1]
    guess = (0, 0) if found.passing else (most[0], of_text)
    tokens = [g if t is None else t for t, g in zip(told, guess, strict=True)]
    values = {"error": found.error, "logprobs": found.logprobs, "thought": found.thought}
    return Answer(teacher, found.text, found.status, how, *tokens, seconds=seconds, **values)


def as_call(hash: str, request: dict, a: Answer) -> store.Call:
    """One without text is as cut as can be: it is found again as a failure, and not paid for twice. The thought is kept
    before the text."""
    cost, tokens = a.teacher.cost(a.prompt_tokens, a.completion_tokens), (a.prompt_tokens, a.completion_tokens)
    text, status = thoughts.joined(a.thought, a.text), a.status if a.ok else "cut"
    return store.Call(hash, a.teacher.name, request, text, status, a.logprobs, *tokens, cost, a.seconds)
