"""Candidate against champion on held-out prompts -> Verdict, by a statistical test.

Both are sampled with the same seeds. A pack's checks judge them, else the preference model if its skill is proven, else
log-probability margins on held-out pairs. In each case: a paired sign test, a minimum n, and guards that block alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kdloop.feedback.examples import Split
from kdloop.gate.guards import Guard, anchor_guard, displacement_guard, regression_guard, text_guards, topic_guards
from kdloop.gate.outcomes import SIGN_P, Outcomes, by_checks, by_margin, by_rater, held_out_pairs
from kdloop.packs import Task
from kdloop.raters.preference_model import PreferenceModel, proven
from kdloop.student import Engine, Sample, Sampling
from storage.conversations import Message

MIN_DECIDED = 12  # where the sign test needs 10 of 12: below that a few lucky prompts would be enough
MIN_HELD_OUT_PAIRS = 20  # where it needs 15 of 20; margins are never ties, so all of them are decided
MAX_ANCHORS = 64  # completions whose NLL is guarded; from the end of the prompts, where the pack's general ones are
MAX_EXAMPLES = 6  # kept with the verdict, for everybody to read


class CannotDecide(Exception):
    "Neither the preference model nor the held-out pairs can tell a better student from a worse one"


@dataclass(frozen=True)
class Verdict:
    """The gate's decision on one candidate, as its round stores it (`as_dict`)."""

    passed: bool
    judged_by: str
    outcomes: Outcomes
    guards: tuple[Guard, ...]
    reason: str
    against_base: Outcomes | None = None  # by the same judge, for the learning curve alone
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
    """Raises CannotDecide, saying how many votes are missing: no candidate is trained that no gate could judge."""
    pairs = sum(e.is_pair for e in split.held_out)
    if not proven(rater) and pairs < MIN_HELD_OUT_PAIRS:
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

    With `tasks` (prompts with checks) these judge, else the preference model or the held-out pairs. A guard asks
    `learned`: prompts with checks of other packs that the champion has learned from.
    """
    seeds = [seed * 1_000_003 + i for i in range(len(prompts))]
    new, old = candidate.complete(prompts, sampling, seeds), champion.complete(prompts, sampling, seeds)
    anchors = old if champion is base else base.complete(prompts, sampling, seeds)
    if tasks:
        judgement = judge_by_checks(tasks, candidate, champion, base, sampling)
    elif proven(rater):
        judgement = judge_by_rater(rater, prompts, new, old, anchors)
    else:
        outcomes = by_margin(split, candidate, champion)
        enough = outcomes.n >= MIN_HELD_OUT_PAIRS
        judgement = Judgement("log-probability margins on held-out pairs", outcomes, enough)
    guards = (
        *text_guards(new, old, [e.chosen for e in split.train if e.chosen]),
        *topic_guards(prompts, new, old),
        anchor_guard(candidate, base, prompts[-MAX_ANCHORS:], anchors[-MAX_ANCHORS:]),
        *displacement_guard(candidate, champion, held_out_pairs(split)),
        *regression_guard(learned, candidate, champion, sampling),
    )
    decided = verdict(judgement.by, judgement.outcomes, judgement.enough, guards)
    return replace(decided, against_base=judgement.against_base, examples=examples(prompts, new, old, split))


@dataclass(frozen=True)
class Judgement:
    """Who judged, the outcomes against the champion and the base, and whether these are `enough` for a test."""

    by: str
    outcomes: Outcomes
    enough: bool
    against_base: Outcomes | None = None


def judge_by_checks(tasks: Sequence[Task], candidate: Engine, champion: Engine, base: Engine, sampling) -> Judgement:
    outcomes = by_checks(tasks, candidate, champion, sampling)
    against_base = outcomes if champion is base else by_checks(tasks, candidate, base, sampling)
    return Judgement(f"checks of {len(tasks)} prompts", outcomes, decided_enough(outcomes), against_base)


def judge_by_rater(rater: PreferenceModel, prompts: list[list[Message]], new: list, old: list, base: list) -> Judgement:
    """By the samples of candidate, champion and base; the last two are one list where the base is the champion."""
    outcomes = by_rater(rater, prompts, new, old)
    against_base = outcomes if old is base else by_rater(rater, prompts, new, base)
    return Judgement(f"preference model ({rater.skill})", outcomes, decided_enough(outcomes), against_base)


def decided_enough(outcomes: Outcomes) -> bool:
    return outcomes.wins + outcomes.losses >= MIN_DECIDED


def examples(prompts: list[list[Message]], new: list[Sample], old: list[Sample], split: Split) -> tuple[dict, ...]:
    """The last few completions side by side, never to a prompt that somebody asked: verdicts are public."""
    public = [i for i, p in enumerate(prompts) if p not in split.held_out_prompts][-MAX_EXAMPLES:]
    return tuple({"prompt": prompts[i][-1]["content"], "before": old[i].text, "after": new[i].text} for i in public)


def verdict(judged_by: str, outcomes: Outcomes, enough: bool, guards: tuple[Guard, ...]) -> Verdict:
    """Passed, or the first reason why not: too few comparisons, not better, guards."""
    score = f"{outcomes.wins} wins, {outcomes.losses} losses, {outcomes.ties} ties"
    broken = [g for g in guards if not g.ok]
    better = outcomes.p_value < SIGN_P and outcomes.ci95[0] > 0.5
    if not enough:
        reason = f"Rejected: too few decided comparisons ({score})"
    elif not better:
        reason = f"Rejected: not shown to be better ({score}, p = {outcomes.p_value:.3g})"
    elif broken:
        limits = "; ".join(f"{g.name} {g.value:.3g}, limit {g.limit}" for g in broken)
        reason = f"Rejected in spite of {score}: {limits}"
    else:
        reason = f"Promoted: {score} on held-out prompts by the {judged_by}, all {len(guards)} guards held"
    return Verdict(bool(enough and better and not broken), judged_by, outcomes, guards, reason)
