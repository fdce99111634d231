"""What a chatting person notices of a promotion amid a reply."""

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Event

from kdloop.bench import Figure, in_turns
from kdloop.bench.data import new_database
from kdloop.methods.lora import trainable_student
from kdloop.settings import Settings
from kdloop.student import Engine, Sampling
from kdloop.student.base import find_student
from kdloop.student.engines import open_engine
from kdloop.student.serving import Serving, fingerprint
from storage import checkpoints, rounds
from storage.conversations import as_prompt


@contextmanager
def home_with_student() -> Iterator[tuple[Settings, Serving]]:
    """A new home that borrows the converted student."""
    mine = Settings.from_environment()
    with tempfile.TemporaryDirectory() as home:
        settings = replace(mine, home=Path(home))
        new_database(home)
        if not mine.student:
            (settings.home / "student").symlink_to(find_student("", mine.home))
        yield settings, Serving(settings.db, lambda: open_engine(settings))


def swap() -> Iterator[Figure]:
    """The longest silence within a reply while another version is loaded beside it, and within one left alone."""
    with home_with_student() as (settings, serving):
        publish_random(settings, serving.base)
        serving.current()
        ended = []
        swapped, still = in_turns(
            lambda _: silence(serving.current()[0], lambda: to_the_other(settings, serving), ended),
            lambda _: silence(serving.current()[0], lambda: None, ended),
        )
        failed = sum(status not in ("finished", "cut") for status in ended)
        name = f"silence at a swap ÷ without ({failed} of {len(ended)} replies failed)"
        yield Figure(name, swapped, still, "ms", swapped / still)


def to_the_other(settings: Settings, serving: Serving) -> None:
    now = checkpoints.serving(settings.db).id
    checkpoints.serve(settings.db, next(k.id for k in checkpoints.lineage(settings.db) if k.id != now))
    assert serving.current()[1].id != now


def silence(engine: Engine, meanwhile: Callable, ended: list[str]) -> float:
    """The longest gap between two tokens, in milliseconds; `meanwhile` runs beside it from the tenth token on."""
    heard, beside = [], ThreadPoolExecutor(1)
    for piece in engine.stream(as_prompt("Tell me a long story about the sea."), Sampling(160), 3, Event()):
        heard.append((time.monotonic(), piece))
        if len(heard) == 10:
            done = beside.submit(meanwhile)
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
