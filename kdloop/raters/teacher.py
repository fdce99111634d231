"""Teachers: OpenAI-compatible endpoints through the official client, and local model directories; several, by weight.

The one place for retries, timeouts, concurrency and cost. Requests are cached by a hash of all that is sent, and no
request is made that could exceed a teacher's budget (budget.py). A failed call is an Answer without text: neither an
error message nor a model's thought ever becomes a completion. A model's answer is paid for and cached, with or without
text; a gateway's error in its place (completions.py) is retried, and not cached.
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

BYTES_PER_TOKEN = 2  # of UTF-8; English has about 4: an overestimate of tokens never exceeds a budget
MIN_BACKOFF, MAX_BACKOFF = 0.5, 8.0  # seconds before a retry, doubling: the openai client's own values


@dataclass(frozen=True)
class Answer:
    """`status` is finished, cut, or failed, with an `error` and no text. `cached` answers cost nothing.

    `thought` is a reasoning model's: stored with the text, never shown or trained on.
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


def by_teacher(answer: Answer, restricted: int = 0, **how) -> Draft:
    """The answer as a completion to store; `how` describes how it was prompted. `restricted` is 1 if the prompt was
    written under terms that forbid training on it.

    Raises ValueError for a failed call: an error's text must never become a completion.
    """
    if not answer.ok:
        raise ValueError(f"{answer.teacher.name} gave no completion: {answer.error}")
    columns = {
        "name": answer.teacher.name,
        "licence": answer.teacher.licence,
        "restricted": max(answer.teacher.restricted, restricted),
        "sampling": answer.sampling | ({"thought": answer.thought} if answer.thought else {}) | how,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "seconds": answer.seconds,
    }
    return Draft(answer.text, answer.status, "teacher", columns)


def load(path: str, db: Path) -> "Teachers | None":
    """The teachers of a TOML file; None for "". Raises ValueError with what is wrong with the file."""
    if not path:
        return None
    if not Path(path).is_file():
        raise ValueError(f"KDLOOP_TEACHERS={path!r} is no file: give a TOML file with [[teacher]] tables")
    return Teachers(db, read(Path(path)))


class Teachers:
    """All teachers of one file, with their common cache and accounts. Raises ValueError for names that are not
    distinct, and as `teachers_file.check`."""

    def __init__(self, db: Path, teachers: list[Teacher]):
        if len({t.name for t in teachers}) < len(teachers) or not teachers:
            raise ValueError("Teachers need distinct names, and there must be one")
        for t in teachers:
            check(t)
        self.db, self.all = db, teachers
        self.lock = Lock()

    def named(self, name: str) -> Teacher:
        """Raises ValueError for an unknown name."""
        found = [t for t in self.all if t.name == name]
        if not found:
            raise ValueError(f"No teacher {name!r}; there are {', '.join(t.name for t in self.all)}")
        return found[0]

    def pick(self, seed: int) -> Teacher:
        """One teacher, drawn by weight."""
        return random.Random(seed).choices(self.all, [t.weight for t in self.all])[0]

    def ask(
        self, prompts: list[list[Message]], sampling: Sampling, seeds: list[int], of: Teacher | None = None, **extra
    ) -> list[Answer]:
        """One answer per prompt, from the teacher `of`, or from one drawn by weight for each prompt. `extra` are
        further fields of the request (response_format, logprobs...). Failures are answers, too: nothing is raised."""
        chosen = [of or self.pick(seed) for seed in seeds]
        answers: dict[int, Answer] = {}
        for teacher in dict.fromkeys(chosen):
            rows = [i for i, t in enumerate(chosen) if t == teacher]
            requests = [(texts_of(prompts[i]), seeds[i]) for i in rows]
            answers |= zip(rows, self.ask_one(teacher, requests, sampling, extra), strict=True)
        return [answers[i] for i in range(len(prompts))]

    def ask_one(self, teacher: Teacher, requests: list[tuple], sampling: Sampling, extra: dict) -> list[Answer]:
        """One answer per (prompt, seed); equal requests are sent once."""
        keys = [json.dumps(one) for one in requests]
        distinct = dict(zip(keys, requests, strict=True))
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
        hash, how = request_hash(teacher.url, request), asdict(sampling) | {"seed": seed}
        if call := store.find_call(self.db, hash):
            return self.from_call(teacher, call, how)
        answer, left = self.attempt(teacher, hash, request, how, max(0, teacher.retries))
        pause = MIN_BACKOFF
        while left:
            time.sleep(pause)
            answer, left = self.attempt(teacher, hash, request, how, left - 1)
            pause = min(2 * pause, MAX_BACKOFF)
        return answer

    def attempt(self, teacher: Teacher, hash: str, request: dict, how: dict, retries: int) -> tuple[Answer, int]:
        """(answer, retries left). The client itself retries connection errors and error statuses, the caller retries
        bodies without a completion; both draw on the same `retries`."""
        from openai import OpenAIError

        max_tokens = sum(map(tokens_of, (m["content"] for m in request["messages"]))), request["max_tokens"]
        if not reserve(self.db, teacher.name, teacher.budget, teacher.cost(*max_tokens)):
            return Answer(teacher, error=f"the budget of {teacher.budget:g} is used up"), 0
        client, start = self.clients[teacher.name].with_options(max_retries=retries), time.monotonic()
        try:
            raw = client.chat.completions.with_raw_response.create(**request)
            found = completions.read(raw.http_response.content, teacher.thinks)
            answer = as_answer(teacher, found, how, time.monotonic() - start, max_tokens)
            if not found.transient:
                store.record_call(self.db, as_call(hash, request, answer))
            elif answer.prompt_tokens or answer.completion_tokens:  # billed: booked, under an id that no look-up finds
                store.record_call(self.db, as_call(new_id(), {}, answer))
            return answer, max(0, retries - raw.retries_taken) if found.retry else 0
        except OpenAIError as error:  # timeouts, refused and broken connections, statuses, encodings
            return Answer(teacher, error=completions.clean(f"{type(error).__name__}: {error}")[:500]), 0
        finally:
            reserve(self.db, teacher.name, teacher.budget, -teacher.cost(*max_tokens))

    def ask_directory(self, teacher: Teacher, pairs: list[tuple], sampling: Sampling) -> list[Answer]:
        requests = [asdict(sampling) | {"messages": prompt, "seed": seed} for prompt, seed in pairs]
        hashes = [request_hash(weights_key(teacher.directory), r) for r in requests]
        calls = {h: store.find_call(self.db, h) for h in hashes}
        new = [i for i, h in enumerate(hashes) if calls[h] is None]
        if new:
            prompts, seeds = zip(*(pairs[i] for i in new), strict=True)
            engine = self.engine(teacher)
            for i, s in zip(new, engine.complete(list(prompts), sampling, list(seeds)), strict=True):
                found = completions.local(s)
                text, tokens = thoughts.join(found.thought, found.text), (s.prompt_tokens, s.completion_tokens)
                call = store.Call(
                    hashes[i], teacher.name, requests[i], text, found.status, None, *tokens, 0.0, s.seconds
                )
                calls[hashes[i]] = call
                store.record_call(self.db, call)
        how = [asdict(sampling) | {"seed": seed} for _, seed in pairs]
        return [self.from_call(teacher, calls[h], k) for h, k in zip(hashes, how, strict=True)]

    def engine(self, teacher: Teacher):
        """The engine of a local teacher, loaded at its first use."""
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


def texts_of(prompt: list[Message]) -> list[Message]:
    """The prompt without the student's thoughts."""
    return [{"role": m["role"], "content": m["content"]} for m in prompt]


def weights_key(directory: str) -> str:
    """A cache key that changes with the weights in the directory; for a name on the Hub, the name."""
    return identity(directory) if Path(directory).is_dir() else directory


def request_hash(where: str, request: dict) -> str:
    return hashlib.sha256(json.dumps([where, request], sort_keys=True).encode()).hexdigest()


def tokens_of(text: str) -> int:
    """An upper bound of the tokens of ordinary text, by any tokenizer."""
    return len(text.encode(errors="replace")) // BYTES_PER_TOKEN


def as_answer(teacher: Teacher, found: Completion, how: dict, seconds: float, max_tokens: tuple[int, int]) -> Answer:
    """Token counts that the body lacks are estimated: from the text's length if it is finished, else as the maximum;
    none for a transient error."""
    reported = found.prompt_tokens, found.completion_tokens
    written = min(max_tokens[1], tokens_of(found.thought + found.text) + 1)
    completion_tokens = written if found.status == "finished" else max_tokens[1]
    estimate = (0, 0) if found.transient else (max_tokens[0], completion_tokens)
    tokens = [e if n is None else n for n, e in zip(reported, estimate, strict=True)]
    values = {"error": found.error, "logprobs": found.logprobs, "thought": found.thought}
    return Answer(teacher, found.text, found.status, how, *tokens, seconds=seconds, **values)


def as_call(hash: str, request: dict, a: Answer) -> store.Call:
    """An answer as a row of the cache. One without text is stored as `cut`: `from_call` finds it as a failure, and it
    is not paid for twice. The thought is stored before the text."""
    cost, tokens = a.teacher.cost(a.prompt_tokens, a.completion_tokens), (a.prompt_tokens, a.completion_tokens)
    text, status = thoughts.join(a.thought, a.text), a.status if a.ok else "cut"
    return store.Call(hash, a.teacher.name, request, text, status, a.logprobs, *tokens, cost, a.seconds)
