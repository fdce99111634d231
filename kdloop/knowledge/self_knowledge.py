"""Best-of-n: the student answers each prompt several times, and the preference model says which is best and worst.

The survey's self-knowledge, filtered by a reward model (ReST, RAFT). Multiplies a few dozen votes into on-policy pairs;
only a preference model whose skill is proven may do it. Rows carry source `preference_model` and the round's id.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdloop.chat import record
from kdloop.pairs import is_held_out
from kdloop.raters.preference_model import PreferenceModel
from kdloop.student import Engine, Sample, Sampling
from storage import conversations
from storage.checkpoints import Checkpoint
from storage.conversations import as_prompt
from storage.database import new_id
from storage.feedback import add_feedback
from storage.rounds import Round

N = 4
SPREAD = 0.8  # temperature of completions that are compared with each other: two alike say nothing
CHUNK = 16  # prompts a batch: 64 completions
SURE = 0.6  # the rater's probability that best beats worst


def best_of_n(
    db: Path,
    round: Round,
    writers: list[tuple[Engine, Checkpoint]],
    rater: PreferenceModel,
    questions: list[str],
    sampling: Sampling,
    on_step: Callable[[int, int], None],
) -> int:
    """Write one pair a question where the rater is sure enough; returns how many. Each writer gives its share of N."""
    written = 0
    for at in range(0, len(questions), CHUNK):
        asked = questions[at : at + CHUNK]
        drawn = [draw(*w, asked, sampling, N // len(writers), (round.seed, at, i)) for i, w in enumerate(writers)]
        samples = [one for group in zip(*drawn, strict=True) for share in group for one in share]
        for question, best, worst, probability in rank(rater, asked, [d.sample for d in samples]):
            write_pair(db, round, question, samples[best], samples[worst], sampling, probability)
            written += 1
        on_step(min(at + CHUNK, len(questions)), len(questions))
    return written


@dataclass(frozen=True)
class Drawn:
    sample: Sample
    checkpoint: Checkpoint
    seed: int


def draw(engine, checkpoint: Checkpoint, asked: list[str], sampling: Sampling, n: int, key: tuple) -> list[list[Drawn]]:
    """`n` completions a question."""
    first = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:5], "big")
    seeds = [first + i for i in range(len(asked) * n)]
    samples = engine.complete([as_prompt(q) for q in asked for _ in range(n)], sampling, seeds)
    drawn = [Drawn(sample, checkpoint, seed) for sample, seed in zip(samples, seeds, strict=True)]
    return [drawn[i * n :][:n] for i in range(len(asked))]


def rank(rater: PreferenceModel, asked: list[str], samples: list[Sample]) -> list[tuple[str, int, int, float]]:
    """(question, best, worst, probability) where the rater is sure enough; each question has as many samples."""
    n = len(samples) // len(asked)
    sides = [s.said for s in samples]
    scores = rater.scores([q for q in asked for _ in range(n)], sides).reshape(-1, n)
    first = np.arange(len(asked)) * n
    best, worst = first + scores.argmax(1), first + scores.argmin(1)
    p = rater.probabilities(asked, [sides[i] for i in best], [sides[i] for i in worst])
    groups = zip(asked, best.tolist(), worst.tolist(), p.tolist(), strict=True)
    return [(q, b, w, p) for q, b, w, p in groups if p >= SURE and sides[b][0] and sides[w][0]]


def write_pair(
    db: Path, round: Round, question: str, chosen: Drawn, rejected: Drawn, sampling: Sampling, probability: float
) -> None:
    """Record a turn, its two completions and the preference model's choice between them."""
    conversation = conversations.start_conversation(db, f"round {round.id}", question, id=training_id())
    turn = conversations.add_turn(db, conversation, as_prompt(question))
    better, worse = (record(db, turn, d.checkpoint, d.sample, sampling, d.seed) for d in (chosen, rejected))
    add_feedback(
        db,
        turn.id,
        rater=f"preference model of round {round.id}",
        channel="ranking",
        chosen_id=better.id,
        rejected_id=worse.id,
        score=probability,
        source="preference_model",
        round_id=round.id,
    )


def training_id() -> str:
    """A conversation id that the held-out hash leaves in the training part."""
    return next(id for id in iter(new_id, None) if not is_held_out(id))
