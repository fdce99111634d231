"""Paired outcomes of candidate and champion on the same prompts, and the tests on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest

from kdloop.feedback.examples import Example, Split
from kdloop.packs import Task
from kdloop.raters import verifiers
from kdloop.raters.preference_model import PreferenceModel
from kdloop.student import Engine, Sample, Sampling
from storage.conversations import Message, as_prompt, transcript

MAX_HELD_OUT_PAIRS = 64  # the newest: each is two completions that two engines have to score
SIGN_P = 0.025  # one-sided: the false-positive rate of a candidate that is no better
TIE_MARGIN = 0.1  # a convention: p from 0.4 to 0.6 is a tie


@dataclass(frozen=True)
class Outcomes:
    """Paired outcomes of the candidate; a tie is half a win in the win rate."""

    wins: int
    losses: int
    ties: int

    @classmethod
    def of(cls, gains: Sequence[float], margin: float = 0.0) -> "Outcomes":
        """By how much the candidate was better in each pair; what is within the margin is a tie."""
        wins, losses = sum(g > margin for g in gains), sum(g < -margin for g in gains)
        return cls(wins, losses, len(gains) - wins - losses)

    @property
    def n(self) -> int:
        return self.wins + self.losses + self.ties

    @property
    def win_rate(self) -> float:
        return (self.wins + self.ties / 2) / self.n if self.n else 0.5

    @property
    def ci95(self) -> list[float]:
        """95 % interval of the win rate: the adjusted Wald interval of a paired difference (Agresti & Min 2005), half
        an outcome added to each cell. scipy has intervals of one proportion, not of paired ones with ties."""
        n, wins, losses = self.n + 2, self.wins + 0.5, self.losses + 0.5
        difference = (wins - losses) / n
        half = 1.96 * np.sqrt((wins + losses) / n - difference**2) / np.sqrt(n)
        return [round(float(np.clip(0.5 + (difference + side * half) / 2, 0, 1)), 4) for side in (-1, 1)]

    @property
    def p_value(self) -> float:
        """One-sided exact sign test on the decided outcomes."""
        decided = self.wins + self.losses
        return binomtest(self.wins, decided, 0.5, alternative="greater").pvalue if decided else 1.0

    def as_dict(self) -> dict:
        counts = {"wins": self.wins, "losses": self.losses, "ties": self.ties}
        return counts | {"win_rate": round(self.win_rate, 4), "ci95": self.ci95}


def by_checks(tasks: Sequence[Task], new: Engine, old: Engine, sampling: Sampling) -> Outcomes:
    """Per prompt: a win where the new engine alone passes all checks, a loss where the old one alone does."""
    after, before = (correct(engine, tasks, sampling) for engine in (new, old))
    return Outcomes.of([a - b for a, b in zip(after, before, strict=True)])


def correct(engine: Engine, tasks: Sequence[Task], sampling: Sampling) -> list[bool]:
    """Whether the greedy completion of each task passes all its checks: an accuracy should not depend on a seed."""
    samples = engine.complete(
        [as_prompt(t.prompt) for t in tasks], replace(sampling, temperature=0.0), [0] * len(tasks)
    )
    return [verifiers.passed(t, s.text) for t, s in zip(tasks, samples, strict=True)]


def by_rater(rater: PreferenceModel, prompts: list[list[Message]], new: list[Sample], old: list[Sample]) -> Outcomes:
    """Per prompt: the preference model's choice between the two completions; a tie within TIE_MARGIN."""
    sides = ([s.said for s in samples] for samples in (new, old))
    p = rater.probabilities(list(map(transcript, prompts)), *sides)
    wins, losses = int((p > 0.5 + TIE_MARGIN).sum()), int((p < 0.5 - TIE_MARGIN).sum())
    return Outcomes(wins, losses, len(prompts) - wins - losses)


def by_margin(split: Split, candidate: Engine, champion: Engine) -> Outcomes:
    """Per held-out pair: does the candidate prefer the chosen completion more than the champion does?"""
    pairs = held_out_pairs(split)
    gains = [new - old for new, old in zip(margins(candidate, pairs), margins(champion, pairs), strict=True)]
    return Outcomes(sum(g > 0 for g in gains), sum(g < 0 for g in gains), sum(g == 0 for g in gains))


def held_out_pairs(split: Split) -> list[Example]:
    return [e for e in split.held_out if e.is_pair][-MAX_HELD_OUT_PAIRS:]


def margins(engine: Engine, pairs: list[Example]) -> list[float]:
    """log p(chosen) - log p(rejected) of each pair, in nats, summed over tokens."""
    sides = [(e.prompt, k.written) for e in pairs for k in (e.chosen, e.rejected)]
    prompts, completions = zip(*sides, strict=True) if sides else ((), ())
    nats = map(sum, engine.logprobs(list(prompts), list(completions)))
    return [chosen - rejected for chosen, rejected in zip(nats, nats, strict=True)]
