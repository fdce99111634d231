"""Blind duels: one prompt, two completions by two versions of the student, on random sides, named after the vote.

A vote is an ordinary choice (feedback/collect.py); the standings are Bradley-Terry scores of the versions that met.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from kdloop.chat import contest
from kdloop.chat.turn import Place, Reply, add_message, clean_message, in_step, stream
from kdloop.raters.bradley_terry import laplace
from kdloop.settings import Settings
from kdloop.student import Engine
from kdloop.student.serving import UNFIT, Serving
from storage import checkpoints, conversations, feedback
from storage.checkpoints import Checkpoint

TRIAL_SHARE = 0.8  # of duels, while a trial runs, between its challenger and its champion


@dataclass(frozen=True)
class Standing:
    """`score` is log-odds against the base, with its 95 % interval (`low`, `high`); `n` choices, ties included."""

    name: str
    score: float
    low: float
    high: float
    n: int


def opponents(db: Path) -> list[Checkpoint]:
    """The champion's possible opponents: itself (two samples), the previous version, the base, and the newest
    candidate, even if the gate has refused it; no pruned checkpoints."""
    champion = checkpoints.serving(db)
    available = [k for k in checkpoints.lineage(db) if not k.pruned_at]
    versions, candidates = ([k for k in available if (k.version is None) is new] for new in (False, True))
    before = [k for k in versions if k.version < champion.version]
    return list({k.id: k for k in (champion, *before[-1:], versions[0], *candidates[-1:])}.values())


def opponent(db: Path, serving: Serving) -> tuple[Engine, Checkpoint]:
    """A random opponent, loaded; checkpoints that cannot answer (damaged, or of another student) are skipped."""
    for k in sorted(opponents(db), key=lambda k: secrets.randbits(64)):
        try:
            return serving.load(k)
        except UNFIT:
            continue
    return serving.current()


def duel(
    settings: Settings, serving: Serving, person: str, question: str, stop: Event
) -> Iterator[tuple[Reply, Reply]]:
    """Stream both completions in step, so that no side's speed gives it away; both are stored, in a new conversation.

    Raises ValueError for an empty or over-long prompt.
    """
    question = clean_message(question)
    sides = contest.on_trial(settings.db, serving) if secrets.randbelow(100) < 100 * TRIAL_SHARE else None
    if not sides:
        sides = [serving.current(), opponent(settings.db, serving)]
        secrets.SystemRandom().shuffle(sides)
    turn = add_message(settings, sides[0][0], Place(), person, question, kind="duel")
    grown = in_step([stream(settings, engine, checkpoint, turn, stop) for engine, checkpoint in sides])
    yield from contest.recorded(settings.db, grown)


def names(db: Path, left_id: str, right_id: str, person: str) -> tuple[str, str]:
    """The versions that wrote the two completions: for the page to show after the vote."""
    version_names = {k.id: k.name for k in checkpoints.lineage(db)}
    left, right = (conversations.completion(db, id, person).checkpoint_id for id in (left_id, right_id))
    return version_names[left], version_names[right]


def standings(db: Path) -> list[Standing]:
    """Bradley-Terry scores (Bradley & Terry 1952) of all versions that met, best first, under a standard normal
    prior."""
    games = feedback.duels(db)
    if not games:
        return []
    names_by_id = {k.id: k.name for k in checkpoints.lineage(db)}
    versions = sorted({min(names_by_id), *(id for a, b, *_ in games for id in (a, b))})  # the base first
    x = np.zeros((len(games), len(versions)))
    for row, (a, b, *_) in zip(x, games, strict=True):
        row[versions.index(a)], row[versions.index(b)] = 1, -1
    won, times = np.array([game[2:] for game in games]).T
    counts = np.concatenate([times * won, times * (1 - won)])
    _, mode, hessian = laplace(np.concatenate([x, -x])[None], np.ones(len(versions)), counts)
    score, covariance, n = mode[0] - mode[0, 0], np.linalg.inv(hessian[0]), times @ np.abs(x)
    variance = np.diag(covariance) + covariance[0, 0] - 2 * covariance[0]  # of the difference to the base's score
    error = 1.96 * np.sqrt(np.maximum(variance, 0))
    rows = zip(versions, score.tolist(), error.tolist(), n.tolist(), strict=True)
    standing = [Standing(names_by_id[id], s, s - e, s + e, int(met)) for id, s, e, met in rows]
    return sorted(standing, key=lambda s: -s.score)
