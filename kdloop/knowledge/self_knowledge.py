"""Best-of-n: the student answers each prompt several times, and the preference model says which is best and worst.

The survey's self-knowledge, filtered by a reward model (ReST, RAFT). Multiplies a few dozen votes into on-policy pairs;
only a preference model whose skill is proven may do it. Rows carry source `preference_model` and the round's id.
"""

from collections.abc import Callable
from pathlib import Path

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
SURE = 0.7  # the rater's probability that best beats worst


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
        asked = questions[at : at + CHUNK]
        prompts = [[{"role": "user", "content": q}] for q in asked for _ in range(N)]
        seeds = [(round.seed * 1000 + at) * 1000 + i for i in range(len(prompts))]
        samples = engine.complete(prompts, sampling, seeds)
        for i, question in enumerate(asked):
            group = list(zip(samples[i * N :][:N], seeds[i * N :][:N], strict=True))
            written += write_pair(db, round, checkpoint, rater, question, group, sampling)
        on_step(min(at + CHUNK, len(questions)), len(questions))
    return written


def write_pair(
    db: Path,
    round: Round,
    checkpoint: Checkpoint,
    rater: PreferenceModel,
    question: str,
    group: list[tuple[Sample, int]],
    sampling: Sampling,
) -> bool:
    texts = [(s.text, s.status == "finished") for s, _ in group]
    scores = rater.scores([question] * len(group), texts)
    best, worst = int(scores.argmax()), int(scores.argmin())
    probability = rater.probability(question, texts[best], texts[worst])
    if probability < SURE or not texts[best][0] or not texts[worst][0]:
        return False
    conversation = conversations.start_conversation(db, f"round {round.id}", question, id=training_id())
    turn = conversations.add_turn(db, conversation, [{"role": "user", "content": question}])
    chosen, rejected = (record(db, turn, checkpoint, group[i][0], sampling, group[i][1]) for i in (best, worst))
    add_feedback(
        db,
        turn.id,
        rater=f"preference model of round {round.id}",
        channel="ranking",
        chosen_id=chosen.id,
        rejected_id=rejected.id,
        score=probability,
        source="preference_model",
        round_id=round.id,
    )
    return True


def training_id() -> str:
    """A conversation id that the held-out hash leaves in the training part."""
    return next(id for id in iter(new_id, None) if not is_held_out(id))
