"""What people notice of a round: its load on replies and votes, and the swap after a promotion."""

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
from kdloop.evaluation.bench.data import MAX_WAIT, new_database, p
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

MAX_SILENCE = 100.0  # ms without a token at a swap: shorter ones are not noticed in a stream
REPLIES, PAUSE = 20, 2.0  # of a chat; seconds after each reply
WRITERS, VOTES = 50, 20  # concurrent writers, votes of each
SYNTHETIC_VOTES = 2000  # that the concurrent round trains on: enough to outlast the chat
ROUND = Recipe("bench", method="dpo", examples=SYNTHETIC_VOTES, passes=3 * SYNTHETIC_VOTES)


@contextmanager
def home_with_student() -> Iterator[Settings]:
    """A temporary home with a link to the converted student."""
    mine = Settings.from_environment()
    with tempfile.TemporaryDirectory() as home:
        settings = replace(mine, home=Path(home))
        new_database(home)
        if not mine.student:
            (settings.home / "student").symlink_to(find_student("", mine.home))
        yield settings


def open_serving(settings: Settings) -> Serving:
    return Serving(settings.db, lambda: open_engine(settings))


def swap() -> Iterator[Figure]:
    """The longest gap between tokens of a reply while another version is loaded, and without that."""
    with home_with_student() as settings:
        serving = open_serving(settings)
        publish_random(settings, serving.base)
        base, trained = (k.id for k in checkpoints.lineage(settings.db))
        statuses = []
        with_swap, without = in_turns(
            lambda _: longest_gap(serve(serving, base), lambda: serve(serving, trained), statuses),
            lambda _: longest_gap(serve(serving, base), lambda: None, statuses),
        )
        failed = sum(status not in ("finished", "cut") for status in statuses)
        name = f"silence at a swap ({failed} of {len(statuses)} replies failed)"
        yield Figure(f"{name} ÷ without", with_swap, without, "ms", with_swap / without)
        yield within(name, with_swap, MAX_SILENCE, "ms")


def during_a_round() -> Iterator[Figure]:
    """First tokens and speed of one person's replies while a round trains, which is paused for each of them, and
    before it began."""
    with home_with_student() as settings:
        supervisor = Supervisor(settings, open_serving(settings))
        idle = chat(supervisor)
        with training(supervisor):
            training_replies = chat(supervisor)
    before, during = (p([s.first_token_seconds for s in replies], 95) for replies in (idle, training_replies))
    name = f"first token during a round ÷ idle, p95 of {REPLIES}"
    yield Figure(name, 1000 * during, 1000 * before, "ms", during / before, "<= 1.5", REPLIES)
    before, during = (statistics.median(map(speed, replies)) for replies in (idle, training_replies))
    yield Figure("decode during a round ÷ idle", during, before, "tok/s", during / before, ">= 0.8", REPLIES)


def votes() -> Iterator[Figure]:
    """p99 of votes by 50 people without pauses while a round trains, against one person before it; none may be lost."""
    with home_with_student() as settings:
        db = settings.db
        alone = vote_times(db, 1)
        with training(Supervisor(settings)):
            together = vote_times(db, WRITERS)
        cast, counted = len(together), feedback.count_votes(db)[0] - SYNTHETIC_VOTES
        lost = len(alone) + cast - counted
    name = f"vote p99, {WRITERS} writers and a round ({lost} of {cast} lost)"
    yield Figure(f"{name} ÷ 1", p(together, 99), p(alone, 99), "ms", p(together, 99) / p(alone, 99), n=cast)
    yield within(name, p(together, 99), MAX_WAIT, "ms", cast)


@contextmanager
def training(supervisor: Supervisor) -> Iterator[None]:
    """Within this context a round trains on synthetic votes. Raises RuntimeError if it ends before the context does."""
    db = supervisor.settings.db
    fill(db, feedback.count_votes(db)[0] + SYNTHETIC_VOTES, [1])
    round = supervisor.start(started_by="bench", recipe=ROUND.as_dict())
    supervisor.run_in_background()
    try:
        while rounds.get_round(db, round.id).status in ("queued", "eliciting"):
            time.sleep(1)
        yield
        if (current := rounds.get_round(db, round.id)).status != "training":
            raise RuntimeError(f"The round ended during the measurement, {current.status}: {current.error}")
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
            start = time.monotonic()
            collect.thumb(db, person, id, True)
            out.append(1000 * (time.monotonic() - start))
        return out

    with ThreadPoolExecutor(writers) as pool:
        return [t for times in pool.map(write, [f"writer {writers} {i}" for i in range(writers)]) for t in times]


def chat(supervisor: Supervisor) -> list[Sample]:
    """Replies to one person, as the page streams them, with a pause after each; the first one is a warm-up."""
    replies = []
    for i in range(REPLIES + 1):
        with supervisor.yielding():
            *_, last = supervisor.serving.current()[0].stream(prompts(1, i)[0], Sampling(96), i, Event())
        replies.append(last)
        time.sleep(PAUSE)
    return replies[1:]


def speed(reply: Sample) -> float:
    """Tokens per second after the first one."""
    return reply.completion_tokens / (reply.seconds - reply.first_token_seconds)


def serve(serving: Serving, checkpoint: int) -> Engine:
    """Switch to a checkpoint; the base is in memory already, others are loaded."""
    checkpoints.serve(serving.db, checkpoint)
    engine, current = serving.current()
    assert current.id == checkpoint
    return engine


def longest_gap(engine: Engine, task: Callable, statuses: list[str]) -> float:
    """Milliseconds of the longest gap between two tokens; `task` runs in a thread from the tenth token on, and the
    reply's status is appended to `statuses`."""
    pieces, done, thread = [], None, ThreadPoolExecutor(1)
    for piece in engine.stream(as_prompt("Tell me a long story about the sea."), Sampling(160), 3, Event()):
        pieces.append((time.monotonic(), piece))
        if len(pieces) == 10:
            done = thread.submit(task)
    assert done, f"the reply ended after {len(pieces)} pieces"
    done.result()  # raises the task's error
    statuses.append(pieces[-1][1].status)
    return 1000 * max(after[0] - before[0] for before, after in pairwise(pieces))


def publish_random(settings: Settings, base: Engine) -> None:
    """Publish and promote an adapter with random weights."""
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
