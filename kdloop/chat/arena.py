"""The blind duel: one prompt, two completions by two versions of the student, sides drawn here and told after the vote.

A vote is an ordinary choice (see feedback/collect.py); standings are Bradley-Terry scores of the versions that met.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from kdloop.chat.turn import Reply, add_message, in_step, stream, worth_answering
from kdloop.raters.bradley_terry import laplace
from kdloop.settings import Settings
from kdloop.student import Engine
from kdloop.student.serving import UNFIT, Serving
from storage import checkpoints, conversations, feedback
from storage.checkpoints import Checkpoint


@dataclass(frozen=True)
class Standing:
    """Log-odds against the base with the 95 % interval of this difference; `n` choices, ties among them."""

    name: str
    score: float
    low: float
    high: float
    n: int


def opponents(db: Path) -> list[Checkpoint]:
    """Whom the champion may meet: itself (two samples), the version before, the base, and the newest candidate, which
    the gate may have refused; what was pruned cannot."""
    champion = checkpoints.serving(db)
    living = [k for k in checkpoints.lineage(db) if not k.pruned_at]
    versions, candidates = ([k for k in living if (k.version is None) is new] for new in (False, True))
    before = [k for k in versions if k.version < champion.version]
    return list({k.id: k for k in (champion, *before[-1:], versions[0], *candidates[-1:])}.values())


def opponent(db: Path, serving: Serving) -> tuple[Engine, Checkpoint]:
    """One of the opponents, loaded; who cannot answer (damaged, or of another student) is passed over."""
    for k in sorted(opponents(db), key=lambda k: secrets.randbits(64)):
        try:
            return serving.load(k)
        except UNFIT:
            continue
    return serving.current()


def duel(
    settings: Settings, serving: Serving, person: str, question: str, stop: Event
) -> Iterator[tuple[Reply, Reply]]:
    """Both completions as they grow, in step: neither side's speed says who it is.

    Raises ValueError for an empty or over-long prompt. Both are stored, in a conversation of their own.
    """
    question = worth_answering(question)
    sides = [serving.current(), opponent(settings.db, serving)]
    secrets.SystemRandom().shuffle(sides)
    turn = add_message(settings, sides[0][0], None, person, question, kind="duel")
    yield from in_step([stream(settings, engine, checkpoint, turn, stop) for engine, checkpoint in sides])


def names(db: Path, left_id: str, right_id: str, person: str) -> tuple[str, str]:
    """Who wrote the two; the caller tells only after the vote."""
    known = {k.id: k.name for k in checkpoints.lineage(db)}
    left, right = (known[conversations.completion(db, id, person).checkpoint_id] for id in (left_id, right_id))
    return left, right


def standings(db: Path) -> list[Standing]:
    """Bradley-Terry scores (Bradley & Terry 1952) of all versions that met, the base at 0; a unit Gaussian prior."""
    games = feedback.duels(db)
    if not games:
        return []
    known = {k.id: k.name for k in checkpoints.lineage(db)}
    versions = sorted({min(known), *(id for a, b, *_ in games for id in (a, b))})  # the base first
    x = np.zeros((len(games), len(versions)))
    for row, (a, b, *_) in zip(x, games, strict=True):
        row[versions.index(a)], row[versions.index(b)] = 1, -1
    won, times = np.array([game[2:] for game in games]).T
    counts = np.concatenate([times * won, times * (1 - won)])
    _, mode, hessian = laplace(np.concatenate([x, -x])[None], np.ones(len(versions)), counts)
    score, covariance, n = mode[0] - mode[0, 0], np.linalg.inv(hessian[0]), times @ np.abs(x)
    variance = np.diag(covariance) + covariance[0, 0] - 2 * covariance[0]  # of a score less the base's
    error = 1.96 * np.sqrt(np.maximum(variance, 0))
    rows = zip(versions, score.tolist(), error.tolist(), n.tolist(), strict=True)
    standing = [Standing(known[id], s, s - e, s + e, int(met)) for id, s, e, met in rows]
    return sorted(standing, key=lambda s: -s.score)
