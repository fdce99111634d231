"""What a candidate may not lose, however much better it is judged: each guard blocks alone.

Preference models have blind spots, and training finds them: the shortest completion, one pleasing phrase said to
everything, the prompt said again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdloop.feedback.examples import Example
from kdloop.gate.outcomes import SIGN_P, Outcomes, by_checks
from kdloop.packs import Task
from kdloop.raters.features import repetition, styles
from kdloop.student import Engine, Sample, Sampling
from kdloop.student.scoring import mean_nll
from storage.conversations import Message

NLL_RISE = 0.05
DISPLACEMENT = -0.15  # nats a token that the chosen completions may lose
REPETITION_RISE = 0.05
SAMENESS_RISE = 0.025
RELEVANCE_FALL = 0.08  # of one that left nothing, 64 completions show a fall of 0.05 in one of 20 gates
END_OF_TURN_FALL = 0.10
ECHO_RISE = 0.10  # of the completions that only repeat the prompt
LENGTH_FACTOR = 2.5


@dataclass(frozen=True)
class Guard:
    name: str
    value: float
    limit: str
    ok: bool


def text_guards(new: list[Sample], old: list[Sample], chosen: list) -> list[Guard]:
    """Length within what champion and people's choices span, repetition, and turns that end."""
    length, before = mean_words(s.text for s in new), mean_words(s.text for s in old)
    liked = mean_words(k.text for k in chosen) if chosen else before
    low, high = min(before, liked) / LENGTH_FACTOR, max(before, liked) * LENGTH_FACTOR
    repeated = np.mean([repetition(s.text) for s in new]) - np.mean([repetition(s.text) for s in old])
    ended = np.mean([s.status == "finished" for s in new]) - np.mean([s.status == "finished" for s in old])
    return [
        Guard("mean words", length, f"{low:.0f} to {high:.0f}", low <= length <= high),
        Guard("repetition rise", float(repeated), f"<= {REPETITION_RISE}", repeated <= REPETITION_RISE),
        Guard("end-of-turn rate change", float(ended), f">= {-END_OF_TURN_FALL}", ended >= -END_OF_TURN_FALL),
    ]


def topic_guards(prompts: list[list[Message]], new: list[Sample], old: list[Sample]) -> list[Guard]:
    """One pleasing phrase said to everything wins by style and helps nobody."""
    after, before = (styles(prompts, [s.text for s in part]) for part in (new, old))
    same, echoed, away = map(float, after - before)
    return [
        Guard("prompts repeated, rise", echoed, f"<= {ECHO_RISE}", echoed <= ECHO_RISE),
        Guard("sameness rise", same, f"<= {SAMENESS_RISE}", same <= SAMENESS_RISE),
        Guard("relevance change", -away, f">= {-RELEVANCE_FALL}", away <= RELEVANCE_FALL),
    ]


def anchor_guard(candidate: Engine, base: Engine, prompts, anchors: list[Sample]) -> Guard:
    texts = [s.said for s in anchors]
    before, after = (mean_nll(engine, prompts, texts) for engine in (base, candidate))
    rise = after / before - 1
    return Guard("NLL rise on the base's own completions", rise, f"<= {NLL_RISE}", rise <= NLL_RISE)


def displacement_guard(candidate: Engine, champion: Engine, pairs: list[Example]) -> list[Guard]:
    if not pairs:
        return []
    prompts, texts = [e.prompt for e in pairs], [e.chosen.said for e in pairs]
    change = mean_nll(champion, prompts, texts) - mean_nll(candidate, prompts, texts)
    return [Guard("log-probability of chosen per token", change, f">= {DISPLACEMENT}", change >= DISPLACEMENT)]


def mean_words(texts) -> float:
    return float(np.mean([len(t.split()) for t in texts]))


def regression_guard(learned: Sequence[Task], candidate: Engine, champion: Engine, sampling: Sampling) -> list[Guard]:
    """What earlier rounds have learned by checks must not be lost: the same sign test, the other way round."""
    if not learned:
        return []
    outcomes = by_checks(learned, candidate, champion, sampling)
    lost = Outcomes(outcomes.losses, outcomes.wins, outcomes.ties).p_value < SIGN_P
    change = (outcomes.wins - outcomes.losses) / outcomes.n
    return [Guard("checks passed that were learned, change", change, "not below 0 beyond chance", not lost)]
