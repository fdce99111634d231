"""Who answers where two completions are shown without names: while a trial runs, its challenger and its champion, on
random sides; else the champion twice.

The pair is recorded as the trial's before anybody can vote on it, so that what counts as blind is what was shown blind.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path

from kdloop.student import Engine
from kdloop.student.serving import UNFIT, Serving
from storage import checkpoints, trials
from storage.checkpoints import Checkpoint

MORE_OFTEN = 3  # times: comparisons in the chat while a trial runs

Sides = list[tuple[Engine, Checkpoint]]


def sides(db: Path, serving: Serving) -> Sides:
    """Two engines with their checkpoints."""
    return on_trial(db, serving) or [serving.current()] * 2


def on_trial(db: Path, serving: Serving) -> Sides | None:
    """The running trial's two in random order; None without one, where one of them cannot be loaded, or for who has
    chosen another version to be answered by."""
    if not (trial := trials.running(db)):
        return None
    answering = serving.current()
    ids = {trial.challenger, trial.champion} - {answering[1].id}
    if len(ids) != 1 or answering[1].id != checkpoints.serving(db).id:  # also where that is not loaded: Serving.follow
        return None
    try:
        both = [answering, serving.beside(checkpoints.get_checkpoint(db, ids.pop()))]
    except UNFIT:
        return None
    secrets.SystemRandom().shuffle(both)
    return both


def recorded(db: Path, pairs: Iterator[tuple]) -> Iterator[tuple]:
    """Pairs of replies as they grow; where the running trial's two write them, they are recorded as a pair of it."""
    for i, replies in enumerate(pairs):
        if i == 0:
            record(db, {r.checkpoint.id: r.completion_id for r in replies})
        yield replies


def record(db: Path, completions: dict[int, str]) -> None:
    """`completions` are of one turn, by the checkpoint that wrote each."""
    trial = trials.running(db)
    if trial and completions.keys() == {trial.challenger, trial.champion}:
        trials.offer(db, trial.id, completions[trial.challenger], completions[trial.champion])


def compares_every(db: Path, every: int) -> int:
    """Every how many-th message of a person gets two completions; 0 stays never."""
    return max(2, every // MORE_OFTEN) if every > 2 and trials.running(db) else every
