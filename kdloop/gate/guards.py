"""Guards: what a candidate may not lose, however many comparisons it wins. Each one alone blocks a promotion.

Training exploits the blind spots of a preference model (reward hacking): ever shorter completions, one pleasing phrase
for every prompt, echoes of the prompt. The measurements named here are in docs/log.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdloop.gate.outcomes import Outcomes, by_checks
from kdloop.packs import Task
from kdloop.raters.features import embed, repetition, sameness, styles
from kdloop.student import Engine, Sample, Sampling
from kdloop.student.scoring import ENTROPY_CHANGE, MAX_KL, at_temperature_1, divergence
from kdloop.student.transformers import TransformersEngine
from storage.conversations import Message

SPREAD_PROMPTS, SPREAD_SAMPLES, SPREAD_TOKENS = 16, 4, 48  # 3,000 tokens at which a divergence is exact
MAX_ALIKE_RISE = 0.15  # mean cosine; by chance at most 0.085 (docs/trust.md), 0.44 where all are one text
MAX_REPETITION_RISE = 0.05  # of the share of repeated trigrams; refused candidates had 0.055 and 0.071
MAX_SAMENESS_RISE = 0.025  # mean cosine; +0.033 where 18 of 100 began "I'm sorry for your", +0.009 in a good round
MAX_RELEVANCE_FALL = 0.08  # mean cosine; at 0.05, 64 prompts refuse a candidate that lost nothing in 1 of 20 gates
MAX_END_OF_TURN_FALL = 0.15  # of the share of finished completions; 0.10 refused 7 % of equals, a bad one had 0.406
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


@dataclass(frozen=True)
class Spread:
    """Completions at temperature 1, SPREAD_SAMPLES for each of SPREAD_PROMPTS prompts: what a student can say, where
    what it serves is cooled. Equal prompts follow each other; all engines have the same seeds."""

    prompts: list[list[Message]]
    seeds: list[int]

    @classmethod
    def of(cls, prompts: list[list[Message]], seed: int) -> "Spread":
        repeated = [p for p in prompts[:SPREAD_PROMPTS] for _ in range(SPREAD_SAMPLES)]
        return cls(repeated, [seed * 1_000_003 + i for i in range(len(repeated))])

    def sample(self, engine: Engine) -> list[tuple]:
        return [s.written for s in engine.complete(self.prompts, at_temperature_1(SPREAD_TOKENS), self.seeds)]

    def self_similarity(self, completions: list[tuple]) -> float:
        """Mean cosine of completions of one prompt with each other."""
        texts = [text for text, *_ in completions]
        groups = [embed(texts[at : at + SPREAD_SAMPLES]) for at in range(0, len(texts), SPREAD_SAMPLES)]
        return float(np.mean([sameness(group) for group in groups]))


def divergence_guards(
    candidate: TransformersEngine, champion: TransformersEngine, base: TransformersEngine, spread: Spread
) -> list[Guard]:
    """Exact KL divergence of the candidate and the base both ways, each on its own samples; the entropy at the base's
    samples, and how alike samples of one prompt are, both beside the champion's."""
    anchors, own = spread.sample(base), spread.sample(candidate)
    forward = divergence(base, candidate, spread.prompts, anchors)
    reverse = divergence(base, candidate, spread.prompts, own).reverse
    before, sampled = forward.entropy_p, anchors
    if champion is not base:
        before = divergence(champion, base, spread.prompts, anchors).entropy_p
        sampled = spread.sample(champion)
    entropy = forward.entropy_q / before - 1
    alike = spread.self_similarity(own) - spread.self_similarity(sampled)
    low, high = ENTROPY_CHANGE
    return [
        Guard("KL(base, candidate) per token", forward.forward, f"<= {MAX_KL}", forward.forward <= MAX_KL),
        Guard("KL(candidate, base) per token", reverse, f"<= {MAX_KL}", reverse <= MAX_KL),
        Guard("entropy per token, change", entropy, f"{low:+} to {high:+}", low <= entropy <= high),
        Guard("samples of one prompt alike, rise", alike, f"<= {MAX_ALIKE_RISE}", alike <= MAX_ALIKE_RISE),
    ]


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
