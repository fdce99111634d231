"""What people see of a running round: its status, the steps of its phase, the time left. Rows in the database."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdloop.student.journal import Journal
from storage import rounds

SECONDS = {"eliciting": "elicit", "training": "train", "gating": "gate"}  # status -> its key in the round's `seconds`


class Clock:
    """Writes the round's status and progress; `seconds` holds how long each phase took, by elicit, train and gate, in
    all parts of the round."""

    def __init__(self, db: Path, round_id: int, journal: Journal | None = None):
        self.db, self.round_id, self.status = db, round_id, ""
        self.journal = journal or Journal()
        self.seconds = self.journal.get("seconds", {})

    @contextmanager
    def phase(self, status: str, **values) -> Iterator[None]:
        """The round has this status within the block; `values` are columns of its row. Raises RoundEnded."""
        rounds.advance(self.db, self.round_id, status, **values)
        self.status, began = status, time.monotonic()
        self.step(0, 1)
        try:
            yield
        finally:
            took = self.seconds.get(SECONDS[status], 0) + time.monotonic() - began
            self.seconds[SECONDS[status]] = round(took, 1)
            self.journal.put("seconds", self.seconds)

    def note(self, note: str) -> None:
        """What is being done, where there are no steps to count."""
        rounds.note_progress(self.db, self.round_id, self.status, 1, 1, note=note)

    def step(self, step: int, steps: int, loss: float | None = None) -> None:
        if step <= 1:
            self.first = time.monotonic()  # what came before, loading and reference log-probs, is not the steps' pace
        eta = (time.monotonic() - self.first) / (step - 1) * (steps - step) if step > 1 else None
        rounds.note_progress(self.db, self.round_id, self.status, step, steps, loss=loss, eta_seconds=eta)
