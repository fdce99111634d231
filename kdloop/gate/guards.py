"""Guards: what a candidate may not lose, however many comparisons it wins. Each one alone blocks a promotion.

Training exploits the blind spots of a preference model (reward hacking): ever shorter completions, one pleasing phrase
for every prompt, echoes of the prompt. The measurements named here are in docs/log.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdloop.feedback.examples import Example
from kdloop.gate.outcomes import Outcomes, by_checks
from kdloop.packs import Task
from kdloop.raters.features import repetition, styles
from kdloop.student import Engine, Sample, Sampling
from kdloop.student.scoring import mean_nll
from storage.conversations import Message

MAX_NLL_RISE = 0.05  # relative; promoted candidates had -7 to +2.5 %, a refused one +5.2 %
MAX_DISPLACEMENT = 0.15  # nats per token that chosen completions may lose; a convention: no measurement set it
MAX_REPETITION_RISE = 0.05  # of the share of repeated trigrams; refused candidates had 0.055 and 0.071
MAX_SAMENESS_RISE = 0.025  # mean cosine; +0.033 where 18 of 100 began "I'm sorry for your", +0.009 in a good round
MAX_RELEVANCE_FALL = 0.08  # mean cosine; at 0.05, 64 prompts refuse a candidate that lost nothing in 1 of 20 gates
MAX_END_OF_TURN_FALL = 0.10  # of the share of finished completions; refused candidates had 0.125 and 0.406
MAX_ECHO_RISE = 0.10  # of the share of echoes; one at 0.14 was refused, promoted ones had up to 0.09
MAX_FALSE_ALARM = 0.025  # one-sided, of the sign test on what earlier rounds have learned
LENGTH_FACTOR = 2.5  # beyond the span of the champion's and the chosen completions' mean words


@dataclass(frozen=True)
class Guard:
    """One measurement with its limit, in words."""

    name: str
    value: float
    limit: str
    ok: bool


def text_guards(new: list[Sample], old: list[Sample], chosen: list) -> list[Guard]:
    """Mean length within LENGTH_FACTOR of the champion's and people's choices, repetition, and end-of-turn rate."""
    length, before = mean_words(s.text for s in new), mean_words(s.text for s in old)
    liked = mean_words(k.text for k in chosen) if chosen else before
    low, high = min(before, liked) / LENGTH_FACTOR, max(before, liked) * LENGTH_FACTOR
    repeated = np.mean([repetition(s.text) for s in new]) - np.mean([repetition(s.text) for s in old])
    ended = np.mean([s.status == "finished" for s in new]) - np.mean([s.status == "finished" for s in old])
    return [
        Guard("mean words", length, f"{low:.0f} to {high:.0f}", low <= length <= high),
        Guard("repetition rise", float(repeated), f"<= {MAX_REPETITION_RISE}", repeated <= MAX_REPETITION_RISE),
        Guard("end-of-turn rate change", float(ended), f">= {-MAX_END_OF_TURN_FALL}", ended >= -MAX_END_OF_TURN_FALL),
    ]


def topic_guards(prompts: list[list[Message]], new: list[Sample], old: list[Sample]) -> list[Guard]:
    """Echoes, sameness and relevance (raters/features.py): against one pleasing phrase for every prompt."""
    after, before = (styles(prompts, [s.text for s in part]) for part in (new, old))
    sameness, echo, distance = map(float, after - before)
    return [
        Guard("prompts repeated, rise", echo, f"<= {MAX_ECHO_RISE}", echo <= MAX_ECHO_RISE),
        Guard("sameness rise", sameness, f"<= {MAX_SAMENESS_RISE}", sameness <= MAX_SAMENESS_RISE),
        Guard("relevance change", -distance, f">= {-MAX_RELEVANCE_FALL}", distance <= MAX_RELEVANCE_FALL),
    ]


def anchor_guard(candidate: Engine, base: Engine, prompts, anchors: list[Sample]) -> Guard:
    """Relative rise of the NLL of the base's own completions: what the student could say before."""
    texts = [s.said for s in anchors]
    before, after = (mean_nll(engine, prompts, texts) for engine in (base, candidate))
    rise = after / before - 1
    return Guard("NLL rise on the base's own completions", rise, f"<= {MAX_NLL_RISE}", rise <= MAX_NLL_RISE)


def displacement_guard(candidate: Engine, champion: Engine, pairs: list[Example]) -> list[Guard]:
    """Change of the log-probability of held-out chosen completions, nats per token; none without pairs (likelihood
    displacement, Razin et al. 2024)."""
    if not pairs:
        return []
    prompts, texts = [e.prompt for e in pairs], [e.chosen.said for e in pairs]
    change, limit = mean_nll(champion, prompts, texts) - mean_nll(candidate, prompts, texts), -MAX_DISPLACEMENT
    return [Guard("log-probability of chosen per token", change, f">= {limit}", change >= limit)]


def mean_words(texts) -> float:
    return float(np.mean([len(t.split()) for t in texts]))


def regression_guard(learned: Sequence[Task], candidate: Engine, champion: Engine, sampling: Sampling) -> list[Guard]:
    """A sign test with sides flipped, on prompts of packs that earlier rounds have learned by checks."""
    if not learned:
        return []
    outcomes = Outcomes.of(by_checks(learned, candidate, champion, sampling))
    lost = Outcomes(outcomes.losses, outcomes.wins, outcomes.ties).p_value < MAX_FALSE_ALARM
    change = (outcomes.wins - outcomes.losses) / outcomes.n
    return [Guard("checks passed that were learned, change", change, "not below 0 beyond chance", not lost)]
