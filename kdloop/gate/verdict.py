"""Candidate against champion on held-out prompts -> Verdict, by a statistical test.

Both are sampled with the same seeds. A pack's checks judge them, else a preference model of held-out votes, which has
taught the candidate nothing, else log-probability margins on held-out pairs. In each case: a paired sign test whose
error is spent over gates and looks (spending.py), a least gain, and guards that block alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kdloop.feedback.examples import Split
from kdloop.gate.guards import Guard, Spread, divergence_guards, regression_guard, text_guards, topic_guards
from kdloop.gate.outcomes import TIE_MARGIN, Outcomes, by_checks, by_margin, by_rater, held_out_pairs
from kdloop.gate.spending import LEAST_GAIN_BY_CHECKS, LEAST_WIN_RATE, MIN_DECIDED, Turn, settled
from kdloop.packs import Task
from kdloop.raters.preference_model import MIN_JUDGE_VOTES, PreferenceModel, proven
from kdloop.student import Engine, Sample, Sampling
from storage.conversations import Message

MIN_HELD_OUT_PAIRS = 20  # where a sign test needs 15 of 20; margins are never ties, so all of them are decided
LEAST_DECIDED = 0.1  # of the pairs that people saw: with fewer, 128 prompts have hardly MIN_DECIDED that count
MAX_EXAMPLES = 6  # kept with the verdict, for everybody to read


class CannotDecide(Exception):
    """Neither the preference model nor the held-out pairs can tell a better student from a worse one. `tested`: votes
    were put to a test for it, so that it counts as one of the gates since the last promotion."""

    def __init__(self, message: str, tested: bool = False):
        super().__init__(message)
        self.tested = tested


@dataclass(frozen=True)
class Verdict:
    """The gate's decision on one candidate, as its round stores it (`as_dict`). `gains` are by prompt, in the order of
    the draw by `turn.seed`; with them the decision can be made once more (`decided_again`)."""

    passed: bool
    judgement: "Judgement"
    guards: tuple[Guard, ...]
    reason: str
    turn: Turn
    against_base: Outcomes | None = None  # by the same judge, for the learning curve alone
    examples: tuple[dict, ...] = ()  # {"prompt", "before", "after"}
    drift: dict = field(default_factory=dict)  # drift.py: {"pairs", "said"}

    @property
    def limits(self) -> str:
        """What the broken guards have measured, and their limits."""
        return "; ".join(f"{g.name} {g.value:.3g}, limit {g.limit}" for g in self.guards if not g.ok)

    def as_dict(self) -> dict:
        guards = {g.name: {"value": round(g.value, 4), "limit": g.limit, "ok": bool(g.ok)} for g in self.guards}
        judged = self.judgement
        return {
            "passed": self.passed,
            "judged_by": judged.by,
            "n": judged.outcomes.n,
            "guards": guards,
            "reason": self.reason,
            "against_base": self.against_base and self.against_base.as_dict(),
            "examples": list(self.examples),
            "gate": self.turn.as_dict(),
            "gains": [None if g is None else round(g, 6) for g in judged.gains],
            "drift": self.drift,
            "judging": {"margin": judged.margin, "least": judged.least, "prompts": judged.prompts, "once": judged.once},
            **judged.outcomes.as_dict(),
        }


@dataclass(frozen=True)
class Judgement:
    """Who judged, the gain on each prompt, and whether these show the candidate to be better. What is within the margin
    is a tie; `least` is the win rate that is worth a promotion, and `prompts` how many there were to ask."""

    by: str
    gains: tuple[float | None, ...]
    margin: float = 0.0
    least: float = LEAST_WIN_RATE
    prompts: int = 0
    once: bool = False
    better: bool = False

    @property
    def outcomes(self) -> Outcomes:
        return Outcomes.of(self.gains, self.margin)


def judged(
    gains: Callable[[int, int], list],
    turn: Turn,
    judgement: Judgement,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> Judgement:
    """With the gains of as many prompts as it takes; `gains(start, end)` asks about a part of them."""
    found: list[float | None] = []
    better: bool | None = None
    for look in turn.looks(judgement.prompts, judgement.once):
        on_step(len(found), judgement.prompts)
        found += gains(len(found), look.n)
        better = settled(Outcomes.of(found, judgement.margin), look, judgement.least)
        if better is not None:
            break
    return replace(judgement, gains=tuple(found), better=bool(better))


def decided_again(verdict: dict) -> bool:
    """The decision of a stored verdict, from the gains and guards that are stored with it."""
    turn, gains, judging = Turn(**verdict["gate"]), verdict["gains"], verdict["judging"]
    again = judged(lambda start, end: gains[start:end], turn, Judgement(verdict["judged_by"], (), **judging))
    return again.better and all(g["ok"] for g in verdict["guards"].values())


def require_a_judge(rater: PreferenceModel | None, split: Split, turn: Turn) -> None:
    """Raises CannotDecide, saying what is missing: no candidate is trained that no gate could judge.

    The judge's votes have to confirm what the other votes like, within what gate number k may spend, and of the pairs
    that people have seen it has to decide enough.
    """
    pairs = sum(e.is_pair for e in split.held_out)
    if proven(rater) and rater.judge:
        require_agreement(rater, turn)
        require_decisions(rater.judge, split)
    elif pairs < MIN_HELD_OUT_PAIRS:
        skill = "no preference model" if rater is None else f"the preference model is not above chance ({rater.skill})"
        if proven(rater):
            skill = f"{len(split.held_out)} of {MIN_JUDGE_VOTES} held-out votes"
        raise CannotDecide(
            f"Nothing can judge a candidate yet: {skill}, and {pairs} of {MIN_HELD_OUT_PAIRS} held-out pairs. "
            "Votes that agree with each other, or more of them, will help"
        )


def require_agreement(rater: PreferenceModel, turn: Turn) -> None:
    skill = rater.judge.skill
    if not (skill.accuracy > 0.5 and skill.p_value < turn.error):
        raise CannotDecide(
            f"The judge's votes do not confirm what the other votes like: {skill}, p = {skill.p_value:.2g}, where "
            f"{turn} may spend {turn.error:.2g}. More votes will help",
            tested=True,
        )


def require_decisions(judge: PreferenceModel, split: Split) -> None:
    """On pairs of the training part, which the judge has not seen."""
    seen = [e for e in split.train if e.is_pair and e.source == "human"]
    if not seen:
        return
    sides = ([getattr(e, side).said for e in seen] for side in ("chosen", "rejected"))
    p = judge.probabilities([e.question for e in seen], *sides)
    decided = int((np.abs(p - 0.5) > TIE_MARGIN).sum())
    if decided < LEAST_DECIDED * len(seen):
        raise CannotDecide(
            f"The judge would decide too little: of {len(seen)} pairs that people decided it calls "
            f"{len(seen) - decided} a tie, and would so at the gate. What people like is not in what it sees of a text"
        )


def decide(
    candidate: Engine,
    champion: Engine,
    base: Engine,
    split: Split,
    prompts: list[list[Message]],
    rater: PreferenceModel | None,
    sampling: Sampling,
    turn: Turn,
    tasks: Sequence[Task] = (),
    learned: Sequence[Task] = (),
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> Verdict:
    """`prompts` are held out from training, and no more of them are asked than it takes; `base` is the untrained
    student. `on_step` takes (prompts compared so far, of at most).

    With `tasks` (prompts with checks) these judge, else the preference model's judge or the held-out pairs. A guard
    asks `learned`: prompts with checks of other packs that the champion has learned from.
    """
    drawn = Drawn((candidate, champion, base), prompts, sampling, turn.seed)
    pairs, against_base = held_out_pairs(split), None
    if tasks:
        ask = Judgement(f"checks of {len(tasks)} prompts", (), 0.0, LEAST_GAIN_BY_CHECKS, len(tasks))
        judgement = judged(lambda a, b: by_checks(tasks[a:b], candidate, champion, sampling), turn, ask, on_step)
        same = champion is base
        asked = tasks[: judgement.outcomes.n]
        against_base = judgement.outcomes if same else Outcomes.of(by_checks(asked, candidate, base, sampling))
    elif proven(rater) and rater.judge:
        votes = f"preference model of {rater.judge.skill.n} held-out votes"
        ask = Judgement(votes, (), TIE_MARGIN, LEAST_WIN_RATE, len(prompts))
        judgement = judged(lambda a, b: by_rater(rater.judge, prompts[a:b], *drawn.part(a, b)[:2]), turn, ask, on_step)
        new, _, first = drawn.part(0, judgement.outcomes.n)
        against_base = Outcomes.of(by_rater(rater.judge, prompts[: len(new)], new, first), TIE_MARGIN)
    else:
        ask = Judgement("log-probability margins on held-out pairs", (), prompts=len(pairs), once=True)
        judgement = judged(lambda a, b: by_margin(pairs, candidate, champion), turn, ask, on_step)
        judgement = replace(judgement, better=judgement.better and len(pairs) >= MIN_HELD_OUT_PAIRS)
    if judgement.better or not drawn.n:
        drawn.part(0, len(prompts) // 2)
    guards = guards_of(drawn, split, learned, judgement.better)
    found = verdict(judgement, guards, turn)
    return replace(found, against_base=against_base, examples=examples(drawn, split))


class Drawn:
    """Completions of (candidate, champion, base) on the gate's prompts, drawn in parts, each prompt with one seed."""

    def __init__(self, engines: tuple[Engine, Engine, Engine], prompts: list[list[Message]], sampling, seed: int):
        self.engines, self.prompts, self.sampling, self.seed = engines, prompts, sampling, seed
        self.seeds = [seed * 1_000_003 + i for i in range(len(prompts))]
        self.samples: dict[int, list[Sample]] = {id(engine): [] for engine in engines}

    @property
    def n(self) -> int:
        return len(self.samples[id(self.engines[0])])

    def part(self, start: int, end: int) -> list[list[Sample]]:
        """Each engine's completions of these prompts, sampled where they are not yet."""
        asked = slice(self.n, end)
        if self.n < end:
            for engine in {id(e): e for e in self.engines}.values():
                more = engine.complete(self.prompts[asked], self.sampling, self.seeds[asked])
                self.samples[id(engine)] += more
        return [self.samples[id(engine)][start:end] for engine in self.engines]


def guards_of(drawn: Drawn, split: Split, learned: Sequence[Task], better: bool) -> tuple[Guard, ...]:
    """On all that was sampled; divergences, which cost as much as the comparison, where the candidate is `better`."""
    candidate, champion, _ = drawn.engines
    prompts = drawn.prompts[: drawn.n]
    new, old, _ = drawn.part(0, drawn.n)
    diverged = divergence_guards(*drawn.engines, Spread.of(prompts, drawn.seed)) if better else ()
    return (
        *text_guards(new, old, [e.chosen for e in split.train if e.chosen]),
        *topic_guards(prompts, new, old),
        *diverged,
        *regression_guard(learned, candidate, champion, drawn.sampling),
    )


def examples(drawn: Drawn, split: Split) -> tuple[dict, ...]:
    """The last few completions side by side, never to a prompt that somebody asked: verdicts are public."""
    new, old, _ = drawn.part(0, drawn.n)
    public = [i for i in range(drawn.n) if drawn.prompts[i] not in split.held_out_prompts][-MAX_EXAMPLES:]
    shown = ((drawn.prompts[i][-1]["content"], old[i].text, new[i].text) for i in public)
    return tuple({"prompt": prompt, "before": before, "after": after} for prompt, before, after in shown)


def verdict(judgement: Judgement, guards: tuple[Guard, ...], turn: Turn) -> Verdict:
    """Passed, or the first reason why not: too few comparisons, not better, guards."""
    outcomes, broken = judgement.outcomes, [g for g in guards if not g.ok]
    score = f"{outcomes.wins} wins, {outcomes.losses} losses, {outcomes.ties} ties"
    missing = sum(g is None for g in judgement.gains)
    score += f", {missing} of the losses without a completion" if missing else ""
    if not judgement.better and outcomes.decided < MIN_DECIDED:
        reason = f"Rejected: too few decided comparisons ({score}; {turn})"
    elif not judgement.better:
        p = f"p = {outcomes.p_value:.3g}, win rate {outcomes.win_rate:.2f} of at least {judgement.least:g}"
        reason = f"Rejected: not shown to be better ({score}; {p}; {turn})"
    elif broken:
        reason = f"Rejected in spite of {score}: "
    else:
        reason = f"Promoted: {score} on held-out prompts by the {judgement.by}, {turn}, all {len(guards)} guards held"
    found = Verdict(judgement.better and not broken, judgement, guards, reason, turn)
    return replace(found, reason=reason + found.limits) if judgement.better and broken else found
