"""Candidate against champion on held-out prompts -> Verdict. A statistical test, not a comparison of two numbers.

Both are sampled with the same seeds and judged by the preference model, where its skill is proven; else the margins of
log-probability on held-out pairs decide. Either way: a paired sign test, a minimum n, and guards that block alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kdloop.feedback.examples import Split
from kdloop.gate.guards import Guard, anchor_guard, displacement_guard, regression_guard, text_guards, topic_guards
from kdloop.gate.outcomes import SIGN_P, Outcomes, by_checks, by_margin, by_rater, held_out_pairs
from kdloop.packs import Task
from kdloop.raters.preference_model import PreferenceModel
from kdloop.student import Engine, Sampling
from storage.conversations import Message

MIN_DECIDED = 12
MIN_HELD_OUT_PAIRS = 20
ANCHORS = 64  # completions whose NLL is guarded; the pack's prompts come last, so general ones
EXAMPLES = 6  # kept with the verdict, for all to read


class CannotDecide(Exception):
    "Neither the preference model nor the held-out pairs can tell a better student from a worse one"


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
