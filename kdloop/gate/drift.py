"""Has the judge moved, or the student? Both are read, each round, on the same pairs that people decided: the earliest
held-out ones, whose completions are stored. What is kept are numbers by vote id, beside the verdict.

The judge was fitted on these votes among others, so its agreement is not its skill; that it has changed its mind on a
pair is what counts. The student's preference is that of its likelihoods, length-normalised: log p per token.
"""

from collections.abc import Mapping

import numpy as np

from kdloop.feedback.examples import Split
from kdloop.raters.preference_model import PreferenceModel
from kdloop.student import Engine

MAX_PAIRS = 24  # 48 texts to score: some seconds
MOVED = 0.1  # of the pairs, from which the sentence calls it a move; a convention


def read(rater: PreferenceModel, split: Split, student: Engine) -> dict[str, list[float]]:
    """vote id -> [p of the judge that people's choice is better, p of the model that selects, the student's margin in
    nats per token]."""
    pairs = [e for e in split.held_out if e.is_pair][:MAX_PAIRS]  # the oldest first (storage/feedback.py)
    if not pairs:
        return {}
    asked, prompts = [e.question for e in pairs], [e.prompt for e in pairs]
    chosen, rejected = [e.chosen.said for e in pairs], [e.rejected.said for e in pairs]
    models = (model.probabilities(asked, chosen, rejected) for model in (rater.judge or rater, rater))
    scores = student.logprobs(
        [*prompts, *prompts], [e.chosen.written for e in pairs] + [e.rejected.written for e in pairs]
    )
    means = np.array([np.mean(s) if s else 0.0 for s in scores])
    margins = means[: len(pairs)] - means[len(pairs) :]
    rows = zip(*models, margins, strict=True)
    return {e.rows[0]: [round(float(v), 4) for v in row] for e, row in zip(pairs, rows, strict=True)}


def sentence(now: Mapping[str, list[float]], before: Mapping[str, list[float]]) -> str:
    """What has moved since `before`, on the pairs that both have; "" without any."""
    ids = [id for id in now if id in before]
    if not ids:
        return ""
    old, new = (np.array([of[id] for id in ids]) - [0.5, 0.5, 0.0] for of in (before, now))
    changed, agreed = ((new > 0) != (old > 0)).sum(0), [(side > 0).sum(0) for side in (old, new)]
    moved = changed >= MOVED * len(ids)
    judge, student = ("has moved" if moved[i] else "has not moved" for i in (0, 2))
    return (
        f"On {len(ids)} pairs that people decided first, the judge {judge}: it changed its mind on {changed[0]} and is "
        f"with people in {agreed[1][0]} (before {agreed[0][0]}). The student {student}: its likelihoods are with them "
        f"in {agreed[1][2]} (before {agreed[0][2]})"
    )
