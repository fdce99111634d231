"""What a round has computed so far, on the disk: it can end at any moment, and another process goes on with it.

A round is a function of its row, the votes that it read and its seed. So one that goes on runs from the top again, and
reads from its journal what it had computed: completions and log-probabilities one by one, larger steps whole. Only what
is missing is computed, until the time of this part is up. Unlike a cache it also says what was decided: the votes as
they were read when the round began, not as they are now.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Self, TypeVar

import torch

from kdloop.student import Sample, Sampling
from kdloop.student.identity import ADAPTER_WEIGHTS
from kdloop.student.transformers import TransformersEngine
from storage import files
from storage.conversations import Message

ROWS = "computed.jsonl"
GPU_AT_ONCE, CPU_AT_ONCE = 256, 32  # completions between two looks at the clock: some seconds on either

T = TypeVar("T")


class OutOfTime(Exception):
    "This part's time is up; what it computed is in the journal"


class Journal:
    """In `folder`, for `seconds`. Without a folder nothing is kept and time is never up: a round in one go.

    Values are pickled: the folder is in the home directory, and whoever can write there can run code here anyway.
    """

    def __init__(self, folder: Path | None = None, seconds: float = math.inf):
        self.folder, self.deadline = folder, time.monotonic() + seconds
        self.computed: dict[str, object] = {}
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            self.computed = whole_lines(folder / ROWS)

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.deadline

    @property
    def has_end(self) -> bool:
        return math.isfinite(self.deadline)

    def end_soon(self) -> None:
        """Time is up: `check` raises at the next chance."""
        self.deadline = time.monotonic() - 1

    def check(self) -> None:
        """Raises OutOfTime once time is up."""
        if self.is_over:
            raise OutOfTime("The time of this part of the round is up")

    def get(self, name: str, default: T) -> T:
        """Its tensors on the CPU: another part may have another device."""
        file = self.folder and self.folder / f"{name}.pt"
        return torch.load(file, map_location="cpu", weights_only=False) if file and file.exists() else default

    def put(self, name: str, value: object) -> None:
        if self.folder:
            with files.whole(self.folder / f"{name}.pt") as partial:
                torch.save(value, partial)

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """The value of that name, computed unless an earlier part has done so."""
        if kept := self.get(name, ()):
            return kept[0]
        self.check()
        value = compute()
        self.put(name, (value,))
        return value

    def recall(self, keys: list[str], compute: Callable[[list[int]], list], at_once: int) -> list:
        """The value of each key. What is missing is what `compute` returns for these positions in `keys`, `at_once` of
        them at a time. Raises OutOfTime between two times."""
        missing = [i for i, key in enumerate(keys) if key not in self.computed]
        for at in range(0, len(missing), at_once):
            self.check()
            rows = missing[at : at + at_once]
            found = {keys[i]: value for i, value in zip(rows, compute(rows), strict=True)}
            with (self.folder / ROWS).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(pair) + "\n" for pair in found.items())
            self.computed |= found
        return [self.computed[key] for key in keys]


def whole_lines(file: Path) -> dict[str, object]:
    """The pairs of a file whose writer may have been killed: half a line at its end is cut off."""
    if not file.exists():
        return {}
    data = file.read_bytes()
    lines = data[: data.rfind(b"\n") + 1]
    if len(lines) < len(data):
        with file.open("r+b") as cut:
            cut.truncate(len(lines))
    return dict(json.loads(line) for line in lines.decode("utf-8").split("\n") if line)


class JournaledEngine(TransformersEngine):
    """What it computes is read from the journal where it is there. `weights` says which checkpoint it holds, by a hash
    of its adapter."""

    def __init__(self, journal: Journal, *arguments, **options):
        self.journal, self.weights = journal, "base"
        super().__init__(*arguments, **options)

    def load(self, adapter: Path | None) -> Self:
        engine = super().load(adapter)
        engine.weights = digest((adapter / ADAPTER_WEIGHTS).read_bytes()) if adapter else "base"
        return engine

    def load_trained(self, training) -> Self:
        engine = super().load_trained(training)
        trained = (p.detach().float().cpu().numpy().tobytes() for p in training.parameters() if p.requires_grad)
        engine.weights = digest(*trained)
        return engine

    @property
    def chunk(self) -> int:
        return GPU_AT_ONCE if self.on_gpu else CPU_AT_ONCE

    def complete(self, prompts: list[list[Message]], sampling: Sampling, seeds: list[int]) -> list[Sample]:
        complete, how = super().complete, asdict(sampling)
        keys = [self.key("sample", p, how, seed) for p, seed in zip(prompts, seeds, strict=True)]

        def compute(rows: list[int]) -> list[dict]:
            return [asdict(s) for s in complete([prompts[i] for i in rows], sampling, [seeds[i] for i in rows])]

        return [Sample(**found) for found in self.journal.recall(keys, compute, self.chunk)]

    def logprobs(self, prompts: list[list[Message]], completions: list[tuple[str, bool]]) -> list[list[float]]:
        logprobs = super().logprobs
        keys = [self.key("logprobs", p, list(c)) for p, c in zip(prompts, completions, strict=True)]

        def compute(rows: list[int]) -> list[list[float]]:
            return logprobs([prompts[i] for i in rows], [completions[i] for i in rows])

        return self.journal.recall(keys, compute, self.chunk)

    def key(self, *asked: object) -> str:
        return digest(json.dumps([self.weights, *asked]).encode())


def digest(*parts: bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:32]
