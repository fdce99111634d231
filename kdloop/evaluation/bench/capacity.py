"""Capacity planning: how many people one replica serves, by a queueing model, and a simulated crowd to test the model.

`python -m kdloop bench capacity --people 500 [--speeds 1=28 8=160 16=210] [--price 0.6]` prints a plan; without
--speeds, speeds are measured here with the engine of KDLOOP_ENGINE. The figure `people` compares the model with a
crowd.
"""

import argparse
import random
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import ceil
from threading import Event

import numpy as np

from kdloop.evaluation.bench import Figure, in_turns
from kdloop.evaluation.bench.decode import engine, prompts
from kdloop.settings import Settings
from kdloop.student import Engine, Sample, Sampling
from kdloop.student.engines import open_engine

Speeds = dict[int, float]  # concurrent replies -> tokens per second of all of them together, prompts included
LEVELS = (1, 2, 4, 8)
CROWD, SECONDS, PAUSE = 12, 20.0, 3.0  # of the figure: people, seconds that they chat, mean seconds between messages


@dataclass(frozen=True)
class Load:
    """`people` on the page: each asks, gets a reply of `tokens` tokens, and asks again after `pause` seconds on
    average."""

    people: int
    pause: float = 40.0
    tokens: float = 120.0


@dataclass(frozen=True)
class Expected:
    """Averages over time: tokens per second, replies in progress or queued, and seconds from a message to the end of
    its reply."""

    tokens_per_second: float
    at_once: float
    reply_seconds: float


def expected(load: Load, speeds: Speeds) -> Expected:
    """One replica under a load: the machine-repairman model (a closed queue with a finite source, Gross et al.,
    Fundamentals of Queueing Theory, section 2.7), in which n replies at once end at the rate speeds(n) / tokens.

    Pauses are exponential; how reply lengths are distributed does not matter, as replies share the machine.
    """
    n = np.arange(1, load.people + 1)
    ends = np.interp(n, *zip(*sorted(speeds.items()), strict=True)) / load.tokens  # per second
    asks = (load.people - n + 1) / load.pause
    logs = np.concatenate([[0.0], np.cumsum(np.log(asks / ends))])
    shares = np.exp(logs - logs.max())
    shares /= shares.sum()  # of the time with 0, 1, 2, ... replies in progress
    replies, at_once = float(shares[1:] @ ends), float(shares[1:] @ n)
    return Expected(replies * load.tokens, at_once, at_once / replies)


def replicas(load: Load, speeds: Speeds, reply_seconds: float) -> int:
    """The fewest replicas, with people evenly distributed, whose mean reply takes at most `reply_seconds`.

    Raises ValueError if even a single person's reply takes longer.
    """
    alone = expected(replace(load, people=1), speeds).reply_seconds
    if alone > reply_seconds:
        raise ValueError(f"A reply of {load.tokens:g} tokens takes {alone:.1f} s even alone: allow more, or take a GPU")
    fits = (k for k in range(1, load.people + 1) if share(load, speeds, k).reply_seconds <= reply_seconds)
    return next(fits)


def share(load: Load, speeds: Speeds, k: int) -> Expected:
    """The averages of one of k replicas."""
    return expected(replace(load, people=ceil(load.people / k)), speeds)


def measured(student: Engine, tokens: int, n: int = 3) -> Speeds:
    """Medians of n turns at each level of concurrency, up to the engine's batch size."""
    levels = [k for k in (*LEVELS, 16, 32, 64) if k <= student.at_once] or [1]
    return {k: statistics.median(burst(student, k, tokens, turn) for turn in range(n)) for k in levels}


def burst(student: Engine, batch: int, tokens: int, turn: int) -> float:
    start = time.monotonic()
    with ThreadPoolExecutor(batch) as pool:
        samples = list(pool.map(lambda p: reply(student, p, tokens), prompts(batch, turn)))
    return sum(s.completion_tokens for s in samples) / (time.monotonic() - start)


def reply(student: Engine, prompt, tokens: int) -> Sample:
    *_, last = student.stream(prompt, Sampling(tokens), 1, Event())
    return last


def people() -> Iterator[Figure]:
    """A crowd that chats with the llama.cpp engine, against the model's prediction from speeds measured just before."""
    student, found = engine(), []
    speeds = measured(student, tokens=48)
    load = Load(CROWD, PAUSE, 48)
    rate, _ = in_turns(lambda i: found.append(crowd(student, load, i)) or found[-1][0], lambda _: 0.0)
    seconds, tokens = (statistics.median(values) for values in list(zip(*found[1:], strict=True))[1:])
    model = expected(replace(load, tokens=tokens), speeds)  # some replies end early
    name = f"{CROWD} people who pause {PAUSE:g} s: {{}}, measured ÷ model"
    yield Figure(name.format("tokens"), rate, model.tokens_per_second, "tok/s", rate / model.tokens_per_second)
    yield Figure(name.format("a reply"), seconds, model.reply_seconds, "s", seconds / model.reply_seconds)


def crowd(student: Engine, load: Load, turn: int) -> tuple[float, float, float]:
    """(tokens per second, mean seconds of a reply, mean tokens of a reply) of people who chat for SECONDS."""
    start = time.monotonic()

    def person(number: int) -> list[tuple[int, float]]:
        draw, replies = random.Random(1000 * turn + number), []
        while True:
            time.sleep(draw.expovariate(1 / load.pause))
            sent = time.monotonic()
            if sent - start > SECONDS:
                return replies
            answer = reply(student, prompts(1, draw.randrange(10_000))[0], int(load.tokens))
            replies.append((answer.completion_tokens, time.monotonic() - sent))

    with ThreadPoolExecutor(load.people) as pool:
        everybody = [r for replies in pool.map(person, range(load.people)) for r in replies]
    tokens, seconds = zip(*everybody, strict=True)
    return sum(tokens) / SECONDS, statistics.mean(seconds), statistics.mean(tokens)


def plan(load: Load, speeds: Speeds, reply_seconds: float, price: float) -> str:
    k = replicas(load, speeds, reply_seconds)
    each = share(load, speeds, k)
    replies = k * each.tokens_per_second / load.tokens
    levels = ", ".join(f"{n}: {speed:.0f}" for n, speed in sorted(speeds.items()))
    lines = [
        f"tokens per second by replies at once: {levels}",
        f"{load.people} people who pause {load.pause:g} s, {load.tokens:g} tokens per reply: {k} replicas",
        f"each: {each.tokens_per_second:.0f} tok/s, {each.at_once:.1f} replies at once of {each.reply_seconds:.1f} s",
    ]
    if price:
        lines.append(f"{k * price:.2f} per hour, {1000 * k * price / 3600 / replies:.3f} for 1000 replies")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m kdloop bench capacity", description=__doc__.split("\n")[0])
    parser.add_argument("--people", type=int, required=True)
    parser.add_argument("--pause", type=float, default=Load.pause, help="seconds between a reply and the next question")
    parser.add_argument("--tokens", type=float, default=Load.tokens, help="per reply")
    parser.add_argument("--seconds", type=float, default=10.0, help="that a reply may take on average")
    parser.add_argument("--speeds", nargs="+", metavar="N=TOKENS", help="tokens per second at N replies at once")
    parser.add_argument("--price", type=float, default=0.0, help="of a replica per hour")
    args = parser.parse_args(argv)
    if args.speeds:
        speeds = {int(n): float(speed) for n, speed in (one.split("=") for one in args.speeds)}
    else:
        speeds = measured(open_engine(Settings.from_environment()), int(args.tokens))
    print(plan(Load(args.people, args.pause, args.tokens), speeds, args.seconds, args.price))
