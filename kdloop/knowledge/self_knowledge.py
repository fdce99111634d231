"""Best-of-n: the student answers each prompt several times, and the preference model says which is best and worst.

The survey's self-knowledge, filtered by a reward model (ReST, RAFT). Multiplies a few dozen votes into on-policy pairs;
only a preference model whose skill is proven may do it. Rows carry source `preference_model` and the round's id.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kdloop.chat import record
from kdloop.pairs import is_held_out
from kdloop.raters.preference_model import PreferenceModel
from kdloop.student import Engine, Sample, Sampling
from storage import conversations
from storage.checkpoints import Checkpoint
from storage.database import new_id
from storage.feedback import add_feedback
from storage.rounds import Round

N = 4
CHUNK = 16  # prompts a batch: 64 completions
SURE = 0.6  # the rater's probability that best beats worst


def best_of_n(
    db: Path,
    round: Round,
    engine: Engine,
    checkpoint: Checkpoint,
    rater: PreferenceModel,
    questions: list[str],
    sampling: Sampling,
    on_step: Callable[[int, int], None],
) -> int:
    """Write one pair a question where the rater is sure enough; returns how many."""
    written = 0
    for at in range(0, len(questions), CHUNK):
        asked = [q for q in questions[at : at + CHUNK] for _ in range(N)]
        seeds = [(round.seed * 1000 + at) * 1000 + i for i in range(len(asked))]
        samples = engine.complete([[{"role": "user", "content": q}] for q in asked], sampling, seeds)
        for question, best, worst, probability in rank(rater, asked, samples):
            chosen, rejected = ((samples[i], seeds[i]) for i in (best, worst))
            write_pair(db, round, checkpoint, question, chosen, rejected, sampling, probability)
            written += 1
        on_step(min(at + CHUNK, len(questions)), len(questions))
    return written


def rank(rater: PreferenceModel, asked: list[str], samples: list[Sample]) -> list[tuple[str, int, int, float]]:
    """(question, best, worst, probability) of each group of N samples where the rater is sure enough."""
    sides = [(s.text, s.status == "finished") for s in samples]
    scores = rater.scores(asked, sides).reshape(-1, N)
    first = np.arange(len(scores)) * N
    best, worst = first + scores.argmax(1), first + scores.argmin(1)
    p = rater.probabilities(asked[::N], [sides[i] for i in best], [sides[i] for i in worst])
    groups = zip(asked[::N], best.tolist(), worst.tolist(), p.tolist(), strict=True)
    return [(q, b, w, p) for q, b, w, p in groups if p >= SURE and sides[b][0] and sides[w][0]]


def write_pair(
    db: Path,
    round: Round,
    checkpoint: Checkpoint,
    question: str,
    chosen: tuple[Sample, int],
    rejected: tuple[Sample, int],
    sampling: Sampling,
    probability: float,
) -> None:
    """Record a turn, its two completions (sample, seed) and the preference model's choice between them."""
    conversation = conversations.start_conversation(db, f"round {round.id}", question, id=training_id())
    turn = conversations.add_turn(db, conversation, [{"role": "user", "content": question}])
    better, worse = (record(db, turn, checkpoint, sample, sampling, seed) for sample, seed in (chosen, rejected))
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
