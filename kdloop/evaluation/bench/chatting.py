"""What people notice of a round: that it computes beside their replies and votes, and that a promotion ends it."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Event

from kdloop.evaluation.bench import Figure, in_turns, within
from kdloop.evaluation.bench.data import WAIT, new_database, p
from kdloop.evaluation.bench.decode import prompts
from kdloop.feedback import collect
from kdloop.methods.lora import trainable_student
from kdloop.recipes import Recipe
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student import Engine, Sample, Sampling
from kdloop.student.base import find_student
from kdloop.student.engines import open_engine
from kdloop.student.serving import Serving, fingerprint
from storage import checkpoints, conversations, feedback, rounds
from storage.conversations import as_prompt
from storage.synthetic import fill

SILENCE = 100.0  # ms that a swap may cost
REPLIES, PAUSE = 20, 2.0  # of a chat, seconds after each
WRITERS, VOTES = 50, 20  # so many writers, so many votes each
MADE_UP = 2000  # votes that the round beside them learns from: it must outlast them
ROUND = Recipe("bench", method="dpo", examples=MADE_UP, passes=3 * MADE_UP)


@contextmanager
def home_with_student() -> Iterator[Settings]:
    """A new home that borrows the converted student."""
    mine = Settings.from_environment()
    with tempfile.TemporaryDirectory() as home:
        settings = replace(mine, home=Path(home))
        new_database(home)
        if not mine.student:
            (settings.home / "student").symlink_to(find_student("", mine.home))
        yield settings


def served(settings: Settings) -> Serving:
    return Serving(settings.db, lambda: open_engine(settings))


def swap() -> Iterator[Figure]:
    """The longest silence within a reply while another version is loaded beside it, and within one left alone."""
    with home_with_student() as settings:
        serving = served(settings)
        publish_random(settings, serving.base)
        base, trained = (k.id for k in checkpoints.lineage(settings.db))
        ended = []
        swapped, still = in_turns(
            lambda _: silence(now(serving, base), lambda: now(serving, trained), ended),
            lambda _: silence(now(serving, base), lambda: None, ended),
        )
        failed = sum(status not in ("finished", "cut") for status in ended)
        name = f"silence at a swap ({failed} of {len(ended)} replies failed)"
        yield Figure(f"{name} ÷ without", swapped, still, "ms", swapped / still)
        yield within(name, swapped, SILENCE, "ms")


def during_a_round() -> Iterator[Figure]:
    """First tokens and speed of one person's replies while a round trains, which stands still for each of them, and
    before it began."""
    with home_with_student() as settings:
        supervisor = Supervisor(settings, served(settings))
        idle = chat(supervisor)
        with training(supervisor):
            beside = chat(supervisor)
    before, during = (p([s.first_token_seconds for s in replies], 95) for replies in (idle, beside))
    name = f"first token during a round ÷ idle, p95 of {REPLIES}"
    yield Figure(name, 1000 * during, 1000 * before, "ms", during / before, "<= 1.5", REPLIES)
    before, during = (statistics.median(map(speed, replies)) for replies in (idle, beside))
    yield Figure("decode during a round ÷ idle", during, before, "tok/s", during / before, ">= 0.8", REPLIES)


def votes() -> Iterator[Figure]:
    """The slowest of a hundred votes while a round trains, 50 people voting without a pause, against one person alone
    before; none may be lost."""
    with home_with_student() as settings:
        db = settings.db
        alone = vote_times(db, 1)
        with training(Supervisor(settings)):
            together = vote_times(db, WRITERS)
        cast, counted = len(together), feedback.count_votes(db)[0] - MADE_UP
        lost = len(alone) + cast - counted
    name = f"vote p99, {WRITERS} writers and a round ({lost} of {cast} lost)"
    yield Figure(f"{name} ÷ 1", p(together, 99), p(alone, 99), "ms", p(together, 99) / p(alone, 99), n=cast)
    yield within(name, p(together, 99), WAIT, "ms", cast)


@contextmanager
def training(supervisor: Supervisor) -> Iterator[None]:
    """A round that trains meanwhile, on made-up votes."""
    db = supervisor.settings.db
    fill(db, feedback.count_votes(db)[0] + MADE_UP, [1])
    round = supervisor.start(started_by="bench", recipe=ROUND.as_dict())
    supervisor.run_in_background()
    try:
        while rounds.get_round(db, round.id).status in ("queued", "eliciting"):
            time.sleep(1)
        yield
        if (known := rounds.get_round(db, round.id)).status != "training":
            raise RuntimeError(f"The round {known.status} meanwhile: {known.error}")
    finally:
        supervisor.stop()


def vote_times(db: Path, writers: int) -> list[float]:
    """Milliseconds of each vote."""
    base = checkpoints.serving(db).id

    def write(person: str) -> list[float]:
        out = []
        for i in range(VOTES):
            turn = conversations.add_turn(db, conversations.start_conversation(db, person, "?"), as_prompt(f"{i}?"))
            id = conversations.add_completion(db, turn.id, "student", text="!", checkpoint_id=base)
            begun = time.monotonic()
            collect.thumb(db, person, id, True)
            out.append(1000 * (time.monotonic() - begun))
        return out

    with ThreadPoolExecutor(writers) as pool:
        return [t for times in pool.map(write, [f"writer {writers} {i}" for i in range(writers)]) for t in times]


def chat(supervisor: Supervisor) -> list[Sample]:
    """Replies to one person, as the page streams them, with a pause after each; the first one warms up."""
    replies = []
    for i in range(REPLIES + 1):
        with supervisor.yielding():
            *_, last = supervisor.serving.current()[0].stream(prompts(1, i)[0], Sampling(96), i, Event())
        replies.append(last)
        time.sleep(PAUSE)
    return replies[1:]


def speed(reply: Sample) -> float:
    return reply.completion_tokens / (reply.seconds - reply.first_token_seconds)


def now(serving: Serving, checkpoint: int) -> Engine:
    """Serve it; the base is in memory already, any other one is loaded."""
    checkpoints.serve(serving.db, checkpoint)
    engine, served = serving.current()
    assert served.id == checkpoint
    return engine


def silence(engine: Engine, meanwhile: Callable, ended: list[str]) -> float:
    """The longest gap between two tokens, in milliseconds; `meanwhile` runs beside it from the tenth token on."""
    heard, beside, done = [], ThreadPoolExecutor(1), None
    for piece in engine.stream(as_prompt("Tell me a long story about the sea."), Sampling(160), 3, Event()):
        heard.append((time.monotonic(), piece))
        if len(heard) == 10:
            done = beside.submit(meanwhile)
    assert done, f"the reply ended after {len(heard)} pieces"
    done.result()  # raises what went wrong there
    ended.append(heard[-1][1].status)
    return 1000 * max(after[0] - before[0] for before, after in pairwise(heard))


def publish_random(settings: Settings, base: Engine) -> None:
    """A checkpoint that differs: an adapter with random weights."""
    import torch

    model = trainable_student(base.source, None, torch.float32, seed=1)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.02)
    round, metrics = rounds.start_round(settings.db, requested="auto", seed=1, started_by="bench", owner="bench"), {}

    def save(directory: Path) -> None:
        model.save_pretrained(directory)
        metrics["fingerprint"] = fingerprint(base.load(directory))

    candidate = checkpoints.publish(settings.db, round.id, save, parent_id=1, method="dpo", seed=1, metrics=metrics)
    rounds.release_lease(settings.db, "bench")
    checkpoints.promote(settings.db, candidate.id, round.id)
