"""The blind duel: one prompt, two completions by two versions of the student, sides drawn here and told after the vote.

A vote is an ordinary choice (see collect.py); standings are Bradley-Terry scores of the versions that met.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from kdloop.chat import Reply, in_step, stream, worth_answering
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from storage import checkpoints, conversations, feedback
from storage.checkpoints import Checkpoint
from storage.conversations import as_prompt


@dataclass(frozen=True)
class Standing:
    """Log-odds against the base with their 95 % interval; `n` choices, ties among them."""

    name: str
    score: float
    low: float
    high: float
    n: int


def opponents(db: Path) -> list[Checkpoint]:
    """Whom the champion may meet: itself (two samples), the version before, the base; what was pruned cannot."""
    champion = checkpoints.serving(db)
    living = [k for k in checkpoints.lineage(db) if not k.pruned_at and k.version is not None]
    before = [k for k in living if k.version < champion.version]
    return list({k.id: k for k in (champion, *before[-1:], living[0])}.values())


def duel(
    settings: Settings, serving: Serving, person: str, question: str, stop: Event
) -> Iterator[tuple[Reply, Reply]]:
    """Both completions as they grow, in step: neither side's speed says who it is.

    Raises ValueError for an empty or over-long prompt. Both are stored, in a conversation of their own.
    """
    question = worth_answering(question)
    champion, opponent = serving.current(), serving.load(secrets.choice(opponents(settings.db)))
    sides = [champion, opponent]
    secrets.SystemRandom().shuffle(sides)
    turn = conversations.add_turn(
        settings.db, conversations.start_conversation(settings.db, person, question), as_prompt(question)
    )
    yield from in_step([stream(settings, engine, checkpoint, turn, stop) for engine, checkpoint in sides])


def names(db: Path, left_id: str, right_id: str, person: str) -> tuple[str, str]:
    """Who wrote the two; the caller tells only after the vote."""
    known = {k.id: k.name for k in checkpoints.lineage(db)}
    return tuple(known[conversations.completion(db, id, person).checkpoint_id] for id in (left_id, right_id))


def standings(db: Path) -> list[Standing]:
    """Bradley-Terry scores (Bradley & Terry 1952) of all versions that met, the base at 0; a unit Gaussian prior."""
    games = feedback.duels(db)
    versions = sorted({id for a, b, *_ in games for id in (a, b)})
    if len(versions) < 2:
        return []
    known = {k.id: k.name for k in checkpoints.lineage(db)}
    x = np.zeros((len(games), len(versions)))
    for row, (a, b, *_) in zip(x, games, strict=True):
        row[versions.index(a)], row[versions.index(b)] = 1, -1
    won, times = np.array([game[2:] for game in games]).T
    w = np.zeros(len(versions))
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        hessian = (x.T * (times * p * (1 - p))) @ x + np.eye(len(versions))
        w = w + np.linalg.solve(hessian, x.T @ (times * (won - p)) - w)
    error = 1.96 * np.sqrt(np.diag(np.linalg.inv(hessian)))
    n = times @ np.abs(x)
    rows = [
        Standing(known[id], float(w[i] - w[0]), float(w[i] - w[0] - error[i]), float(w[i] - w[0] + error[i]), int(n[i]))
        for i, id in enumerate(versions)
    ]
    return sorted(rows, key=lambda s: -s.score)
