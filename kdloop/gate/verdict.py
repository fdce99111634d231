"""Candidate against champion on held-out prompts -> Verdict. A statistical test, not a comparison of two numbers.

Both are sampled with the same seeds and judged by the preference model, where its skill is proven; else the margins of
log-probability on held-out pairs decide. Either way: a paired sign test, a minimum n, and guards that block alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest

from kdloop.guards import Guard, anchor_guard, displacement_guard, text_guards, topic_guards
from kdloop.packs import Task
from kdloop.pairs import Example, Split
from kdloop.raters import verifiers
from kdloop.raters.preference_model import PreferenceModel
from kdloop.student import Engine, Sample, Sampling
from storage.conversations import Message, as_prompt, transcript

SIGN_P = 0.025  # a candidate that is no better passes so rarely
MIN_DECIDED = 12
MIN_HELD_OUT_PAIRS = 20
MAX_HELD_OUT_PAIRS = 64  # the newest: each costs two completions scored by two engines
CLEAR = 0.1  # |p - 1/2| below this is a tie
ANCHORS = 64  # completions whose NLL is guarded; the pack's prompts come last, so general ones
EXAMPLES = 6  # kept with the verdict, for all to read


class CannotDecide(Exception):
    "Neither the preference model nor the held-out pairs can tell a better student from a worse one"


@dataclass(frozen=True)
class Outcomes:
    """Paired outcomes, the candidate's view; ties count half in the win rate."""

    wins: int
    losses: int
    ties: int

    @property
    def n(self) -> int:
        return self.wins + self.losses + self.ties

    @property
    def win_rate(self) -> float:
        return (self.wins + self.ties / 2) / self.n if self.n else 0.5

    @property
    def ci95(self) -> list[float]:
        """Adjusted Wald interval of a paired difference (Agresti & Min 2005): half an outcome added to each cell."""
        n, wins, losses = self.n + 2, self.wins + 0.5, self.losses + 0.5
        difference = (wins - losses) / n
        half = 1.96 * np.sqrt((wins + losses) / n - difference**2) / np.sqrt(n)
        return [round(float(np.clip(0.5 + (difference + side * half) / 2, 0, 1)), 4) for side in (-1, 1)]

    @property
    def p_value(self) -> float:
        decided = self.wins + self.losses
        return binomtest(self.wins, decided, 0.5, alternative="greater").pvalue if decided else 1.0

    def as_dict(self) -> dict:
        counts = {"wins": self.wins, "losses": self.losses, "ties": self.ties}
        return counts | {"win_rate": round(self.win_rate, 4), "ci95": self.ci95}


@dataclass(frozen=True)
class Verdict:
    passed: bool
    judged_by: str
    outcomes: Outcomes
    guards: tuple[Guard, ...]
    reason: str
    against_base: Outcomes | None = None  # by the same rater, for the learning curve; decides nothing
    examples: tuple[dict, ...] = ()  # {"prompt", "before", "after"}

    def as_dict(self) -> dict:
        guards = {g.name: {"value": round(g.value, 4), "limit": g.limit, "ok": bool(g.ok)} for g in self.guards}
        return {
            "passed": self.passed,
            "judged_by": self.judged_by,
            "n": self.outcomes.n,
            "guards": guards,
            "reason": self.reason,
            "against_base": self.against_base and self.against_base.as_dict(),
            "examples": list(self.examples),
            **self.outcomes.as_dict(),
        }


def require_a_judge(rater: PreferenceModel | None, split: Split) -> None:
    """Raises CannotDecide, saying how many votes are missing: no use training what no gate could pass."""
    pairs = sum(e.is_pair for e in split.held_out)
    if not (rater and rater.skill.proven) and pairs < MIN_HELD_OUT_PAIRS:
        skill = f"the preference model is not above chance ({rater.skill})" if rater else "no preference model"
        raise CannotDecide(
            f"Nothing can judge a candidate yet: {skill}, and {pairs} of {MIN_HELD_OUT_PAIRS} held-out pairs. "
            "Votes that agree with each other, or more of them, will help"
        )


def decide(
    candidate: Engine,
    champion: Engine,
    base: Engine,
    split: Split,
    prompts: list[list[Message]],
    rater: PreferenceModel | None,
    sampling: Sampling,
    seed: int,
    tasks: Sequence[Task] = (),
    learned: Sequence[Task] = (),
) -> Verdict:
    """`prompts` are held out from training; `base` is the untrained student, whose own completions anchor the NLL.

    Where there are `tasks`, prompts with checks, these judge; else the preference model or the held-out pairs do.
    `learned` are prompts with checks of packs that the champion has learned from: a guard asks them.
    """
    seeds = [seed * 1_000_003 + i for i in range(len(prompts))]
    new, old = candidate.complete(prompts, sampling, seeds), champion.complete(prompts, sampling, seeds)
    anchors = old if champion is base else base.complete(prompts, sampling, seeds)
    against_base = None
    if tasks:
        judged_by = f"checks of {len(tasks)} prompts"
        outcomes = by_checks(tasks, candidate, champion, sampling)
        enough = outcomes.wins + outcomes.losses >= MIN_DECIDED
        against_base = outcomes if champion is base else by_checks(tasks, candidate, base, sampling)
    elif rater and rater.skill.proven:
        judged_by, outcomes = f"preference model ({rater.skill})", by_rater(rater, prompts, new, old)
        enough = outcomes.wins + outcomes.losses >= MIN_DECIDED
        against_base = outcomes if champion is base else by_rater(rater, prompts, new, anchors)
    else:
        judged_by, outcomes = "log-probability margins on held-out pairs", by_margin(split, candidate, champion)
        enough = outcomes.n >= MIN_HELD_OUT_PAIRS
    guards = (
        *text_guards(new, old, [e.chosen for e in split.train if e.chosen]),
        *topic_guards(prompts, new, old),
        anchor_guard(candidate, base, prompts[-ANCHORS:], anchors[-ANCHORS:]),
        *displacement_guard(candidate, champion, held_out_pairs(split)),
        *regression_guard(learned, candidate, champion, sampling),
    )
    shown = [i for i, p in enumerate(prompts) if p not in split.held_out_prompts][-EXAMPLES:]  # not what people asked
    examples = [{"prompt": prompts[i][-1]["content"], "before": old[i].text, "after": new[i].text} for i in shown]
    decided = verdict(judged_by, outcomes, enough, guards)
    return replace(decided, against_base=against_base, examples=tuple(examples))


def verdict(judged_by: str, outcomes: Outcomes, enough: bool, guards: tuple[Guard, ...]) -> Verdict:
    score = f"{outcomes.wins} wins, {outcomes.losses} losses, {outcomes.ties} ties"
    broken = [g for g in guards if not g.ok]
    better = outcomes.p_value < SIGN_P and outcomes.ci95[0] > 0.5
    if not enough:
        reason = f"Rejected: too few decided comparisons ({score})"
    elif not better:
        reason = f"Rejected: not shown to be better ({score}, p = {outcomes.p_value:.3g})"
    elif broken:
        said = "; ".join(f"{g.name} {g.value:.3g}, limit {g.limit}" for g in broken)
        reason = f"Rejected in spite of {score}: {said}"
    else:
        reason = f"Promoted: {score} on held-out prompts by the {judged_by}, all {len(guards)} guards held"
    return Verdict(bool(enough and better and not broken), judged_by, outcomes, guards, reason)


def by_checks(tasks: Sequence[Task], new: Engine, old: Engine, sampling: Sampling) -> Outcomes:
    """Per prompt: does only one of the two pass its checks?"""
    after, before = (correct(engine, tasks, sampling) for engine in (new, old))
    wins, losses = (sum(a and not b for a, b in zip(*pair, strict=True)) for pair in ((after, before), (before, after)))
    return Outcomes(wins, losses, len(tasks) - wins - losses)


def regression_guard(learned: Sequence[Task], candidate: Engine, champion: Engine, sampling: Sampling) -> list[Guard]:
    """What earlier rounds have learned by checks must not be lost: the same sign test, the other way round."""
    if not learned:
        return []
    outcomes = by_checks(learned, candidate, champion, sampling)
    lost = Outcomes(outcomes.losses, outcomes.wins, outcomes.ties).p_value < SIGN_P
    change = (outcomes.wins - outcomes.losses) / outcomes.n
    return [Guard("checks passed that were learned, change", change, "not below 0 beyond chance", not lost)]


def correct(engine: Engine, tasks: Sequence[Task], sampling: Sampling) -> list[bool]:
    """Greedy: which completion passes all checks of its prompt. An accuracy should not depend on a draw."""
    samples = engine.complete(
        [as_prompt(t.prompt) for t in tasks], replace(sampling, temperature=0.0), [0] * len(tasks)
    )
    return [verifiers.passed(t, s.text) for t, s in zip(tasks, samples, strict=True)]


def by_rater(rater: PreferenceModel, prompts: list[list[Message]], new: list[Sample], old: list[Sample]) -> Outcomes:
    sides = ([s.said for s in samples] for samples in (new, old))
    p = rater.probabilities(list(map(transcript, prompts)), *sides)
    wins, losses = int((p > 0.5 + CLEAR).sum()), int((p < 0.5 - CLEAR).sum())
    return Outcomes(wins, losses, len(prompts) - wins - losses)


def by_margin(split: Split, candidate: Engine, champion: Engine) -> Outcomes:
    """Per held-out pair: does the candidate prefer the chosen completion more than the champion does?"""
    pairs = held_out_pairs(split)
    gains = [new - old for new, old in zip(margins(candidate, pairs), margins(champion, pairs), strict=True)]
    return Outcomes(sum(g > 0 for g in gains), sum(g < 0 for g in gains), sum(g == 0 for g in gains))


def held_out_pairs(split: Split) -> list[Example]:
    return [e for e in split.held_out if e.is_pair][-MAX_HELD_OUT_PAIRS:]


def margins(engine: Engine, pairs: list[Example]) -> list[float]:
    """By how many nats each chosen completion is likelier than the rejected one."""
    sides = [(e.prompt, k.said) for e in pairs for k in e.completions]
    nats = [sum(scores) for scores in engine.logprobs([p for p, _ in sides], [said for _, said in sides])]
    return [chosen - rejected for chosen, rejected in zip(nats[::2], nats[1::2], strict=True)]
