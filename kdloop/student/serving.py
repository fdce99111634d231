"""The champion in memory, swapped without losing a reply: an engine is immutable, so a reply in flight is finished by
the one that it began with, and the next reply takes the new one.

After each swap a fingerprint (log-probabilities of a fixed text, recorded when the checkpoint was published) shows that
the new weights are served; on a mismatch, or where files are damaged, the old engine keeps serving.
"""

from collections.abc import Callable
from copy import copy
from pathlib import Path
from threading import Lock

from kdloop.student import AdapterRefused, Engine, NoLogprobs
from kdloop.student.identity import identity
from kdloop.student.template import Template
from storage import checkpoints, log
from storage.checkpoints import BrokenCheckpoint, Checkpoint
from storage.conversations import as_prompt

PROBE = as_prompt("What should I do on a rainy Sunday?")
PROBE_COMPLETION = ("Read a book, bake bread, or call a friend you have not seen for a while.", True)
# Mean absolute difference in nats per token (docs/log.md). Rounds publish by the transformers engine; on the same
# checkpoint it differs by 0.04 to 0.06 in bf16 instead of fp32 (another machine, or replies beside rounds), llama.cpp,
# which rounds activations to 8 bits, by 0.08 to 0.09; two checkpoints differ by 0.35 to 0.68.
TOLERANCE = {"transformers": 0.1, "llamacpp": 0.2, "openai": 0.2}


class WrongWeights(Exception):
    "The loaded engine's fingerprint is not that of the published checkpoint"


UNFIT = (BrokenCheckpoint, WrongWeights, AdapterRefused, NoLogprobs)  # errors of a checkpoint that cannot be served


def fingerprint(engine: Engine) -> list[float]:
    """The log-probability of each token of PROBE_COMPLETION, in nats; by the template's own default, so that a
    checkpoint is known again where thoughts were switched since."""
    engine = copy(engine)
    engine.template = Template(engine.tokenizer)
    return [round(p, 4) for p in engine.logprobs([PROBE], [PROBE_COMPLETION])[0]]


def distance(one: list[float], other: list[float]) -> float:
    """Mean absolute difference of two fingerprints of the same tokens, in nats."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


class Serving:
    """`base` is the untrained student's engine; every other checkpoint is loaded from it."""

    def __init__(self, db: Path, base: Callable[[], Engine]):
        self.db = db
        self.lock = Lock()
        self.base = base()
        self.student = identity(self.base.source) if Path(self.base.source).is_dir() else None
        self.now: tuple[Engine, Checkpoint] | None = None
        self.next_to_it: tuple[Engine, Checkpoint] | None = None  # of a trial: asked for at each comparison
        self.loading = Lock()
        self.unfit: set[int] = set()  # checkpoints that could not be loaded: not tried again at each reply

    def know_student(self) -> None:
        """Record which base student this home is used with, and print a warning where it was another one before."""
        if self.student and checkpoints.know_student(self.db, self.student):
            text = (
                "this home was used with another student, or with other weights of it. Versions that were trained on "
                "that one do not answer; people's votes stay"
            )
            log.event("another student", text, "warning")

    def current(self) -> tuple[Engine, Checkpoint]:
        """The engine and the checkpoint for the next reply. Loads them when the database names another checkpoint;
        other threads get the previous ones until then."""
        serving = checkpoints.serving(self.db)
        now = self.now
        if now and (now[1].id == serving.id or serving.id in self.unfit):
            return now
        if not self.lock.acquire(blocking=now is None):
            return now
        try:
            if not self.now or self.now[1].id != serving.id:
                self.now = self.follow(serving)
            return self.now
        finally:
            self.lock.release()

    def follow(self, serving: Checkpoint) -> tuple[Engine, Checkpoint]:
        """The checkpoint that the database names; where it cannot be served, the previous one, or the base."""
        try:
            return self.load(serving)
        except UNFIT as error:
            self.unfit.add(serving.id)
            fallback = self.now or (self.base, checkpoints.base(self.db))
            text = f"{fallback[1].name} answers instead of {serving.name}: {error}"
            log.event("fallback", text, "error", version=fallback[1].name, instead_of=serving.name)
            return fallback

    def beside(self, checkpoint: Checkpoint) -> tuple[Engine, Checkpoint]:
        """The engine of another checkpoint, kept for who asks for it next. Raises one of UNFIT, at once where that was
        found before."""
        if checkpoint.id in self.unfit:
            raise BrokenCheckpoint(f"{checkpoint.name} could not be loaded")
        with self.loading:
            if not self.next_to_it or self.next_to_it[1].id != checkpoint.id:
                self.next_to_it = None  # first: both at once may be more than the memory holds
                try:
                    self.next_to_it = self.load(checkpoint)
                except UNFIT:
                    self.unfit.add(checkpoint.id)
                    raise
            return self.next_to_it

    def load(self, checkpoint: Checkpoint) -> tuple[Engine, Checkpoint]:
        """Raises one of UNFIT where it cannot be served, or is of another base student."""
        adapter = checkpoints.adapter_dir(self.db, checkpoint, self.student)
        if adapter is None:
            return self.base, checkpoint
        engine = self.base.load(adapter)
        check(engine, checkpoint)
        return engine, checkpoint


def check(engine: Engine, checkpoint: Checkpoint) -> None:
    """Raises WrongWeights when the engine's fingerprint is not the published one."""
    published, found = checkpoint.metrics.get("fingerprint", []), fingerprint(engine)
    if len(published) != len(found):
        raise WrongWeights(f"{checkpoint.name} was published with other tokens: it is not of this student")
    apart = distance(published, found)
    if not apart <= TOLERANCE[engine.name]:  # also where it is NaN
        raise WrongWeights(f"{checkpoint.name} was loaded, but its log-probabilities are off by {apart:.3f} nats")
