"""Paired outcomes of candidate and champion on the same prompts, and the tests on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import bdtrc

from kdloop.feedback.examples import Example, Split
from kdloop.packs import Task
from kdloop.raters import verifiers
from kdloop.raters.preference_model import PreferenceModel
from kdloop.student import Engine, Sample, Sampling
from storage.conversations import Message, as_prompt, transcript

MAX_HELD_OUT_PAIRS = 64  # the newest: each is two completions that two engines have to score
TIE_MARGIN = 0.1  # a convention: p from 0.4 to 0.6 is a tie


@dataclass(frozen=True)
class Outcomes:
    """Paired outcomes of the candidate; a tie is half a win in the win rate."""

    wins: int
    losses: int
    ties: int

    @classmethod
    def of(cls, gains: Sequence[float | None], margin: float = 0.0) -> "Outcomes":
        """By how much the candidate was better in each pair; what is within the margin is a tie. None or NaN, a
        completion that is missing or has no score, is a loss."""
        values = np.array([np.nan if g is None else g for g in gains], float)
        wins, ties = int((values > margin).sum()), int((np.abs(values) <= margin).sum())
        return cls(wins, len(values) - wins - ties, ties)

    @property
    def n(self) -> int:
        return self.wins + self.losses + self.ties

    @property
    def decided(self) -> int:
        return self.wins + self.losses

    @property
    def win_rate(self) -> float:
        return (self.wins + self.ties / 2) / self.n if self.n else 0.5

    @property
    def ci95(self) -> list[float]:
        """95 % interval of the win rate: the adjusted Wald interval of a paired difference (Agresti & Min 2005), half
        an outcome added to each cell. scipy has intervals of one proportion, not of paired ones with ties. It takes n
        as fixed; a gate looks more than once (docs/trust.md says how often it covers then)."""
        n, wins, losses = self.n + 2, self.wins + 0.5, self.losses + 0.5
        difference = (wins - losses) / n
        half = 1.96 * np.sqrt((wins + losses) / n - difference**2) / np.sqrt(n)
        return [round(float(np.clip(0.5 + (difference + side * half) / 2, 0, 1)), 4) for side in (-1, 1)]

    @property
    def p_value(self) -> float:
        """One-sided exact sign test on the decided outcomes."""
        return float(bdtrc(self.wins - 1, self.decided, 0.5)) if self.wins else 1.0

    def as_dict(self) -> dict:
        counts = {"wins": self.wins, "losses": self.losses, "ties": self.ties}
        return counts | {"win_rate": round(self.win_rate, 4), "ci95": self.ci95}


def by_checks(tasks: Sequence[Task], new: Engine, old: Engine, sampling: Sampling) -> list[float | None]:
    """The gain per prompt: 1 where the new engine alone passes all checks, -1 where the old one alone does, else 0."""
    after, before = (correct(engine, tasks, sampling) for engine in (new, old))
    return [None if a is None else float(a) - float(b or 0) for a, b in zip(after, before, strict=True)]


def correct(engine: Engine, tasks: Sequence[Task], sampling: Sampling) -> list[bool | None]:
    """Whether the greedy completion of each task passes all its checks; None where it is missing. An accuracy should
    not depend on a seed."""
    samples = engine.complete(
        [as_prompt(t.prompt) for t in tasks], replace(sampling, temperature=0.0), [0] * len(tasks)
    )
    return [verifiers.passed(t, s.text) if s.text else None for t, s in zip(tasks, samples, strict=True)]


def by_rater(
    rater: PreferenceModel, prompts: list[list[Message]], new: list[Sample], old: list[Sample]
) -> list[float | None]:
    """The gain per prompt: the rater's p(new is better) - 0.5; None where the new completion is missing."""
    sides = ([s.said for s in samples] for samples in (new, old))
    p = rater.probabilities(list(map(transcript, prompts)), *sides)
    return [float(q) - 0.5 if s.text and np.isfinite(q) else None for q, s in zip(p, new, strict=True)]


def by_margin(pairs: list[Example], new: Engine, old: Engine) -> list[float]:
    """The gain per pair, in nats: by how much more the new engine prefers the chosen completion than the old one does.

    Where the old engine wrote both, its expectation is that of the importance-weighted gain in what people prefer.
    """
    return [after - before for after, before in zip(margins(new, pairs), margins(old, pairs), strict=True)]


def held_out_pairs(split: Split) -> list[Example]:
    return [e for e in split.held_out if e.is_pair][-MAX_HELD_OUT_PAIRS:]


def margins(engine: Engine, pairs: list[Example]) -> list[float]:
    """log p(chosen) - log p(rejected) of each pair, in nats, summed over tokens."""
    sides = [(e.prompt, k.written) for e in pairs for k in (e.chosen, e.rejected)]
    prompts, completions = zip(*sides, strict=True) if sides else ((), ())
    nats = map(sum, engine.logprobs(list(prompts), list(completions)))
    return [chosen - rejected for chosen, rejected in zip(nats, nats, strict=True)]
