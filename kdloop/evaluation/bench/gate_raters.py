"""Rounds with simulated raters for `bench gate`: votes -> preference model and its judge -> gate -> people's trial.

What people compare are real completions of the student. The candidate is modelled: it says the same as the champion,
tilted towards what the selecting model likes, so that its true win rate is a sum, not an estimate. Everything else is
the app's own code: `fit`, `require_a_judge`, `judged` by the judge or by log-probability margins, the guards on texts,
and a trial's `trail`. Guards that need a network (divergences) are left to bench/gate_candidates.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kdloop.evaluation.bench.gate_pool import SAMPLES, Pool
from kdloop.evaluation.example_raters import concise
from kdloop.feedback.examples import Example, Split
from kdloop.gate.evidence import MOST_WITH_TIES, trail
from kdloop.gate.guards import text_guards, topic_guards
from kdloop.gate.outcomes import MAX_HELD_OUT_PAIRS, TIE_MARGIN, by_rater
from kdloop.gate.spending import Turn
from kdloop.gate.verdict import MIN_HELD_OUT_PAIRS, CannotDecide, Judgement, judged, require_a_judge
from kdloop.raters.features import embed
from kdloop.raters.preference_model import PreferenceModel, fit, proven, read
from storage.conversations import Completion
from storage.split import EARLY, EARLY_EVERY, EVERY
from storage.trials import Vote

VOTES, ROUNDS = 72, 20  # of one round; of a line of rounds, each with half as many new votes
GATE_PROMPTS = 128  # draws of a prompt, as many as a gate asks at most; some prompts come twice
TILT = 3.0  # nats by a standard deviation of the selecting model's score: of four completions, nearly the best
PARTS = (0.45, 0.35, 0.2)  # of the prompts: people vote on; the gate asks; nothing has seen
NUMBERS = frozenset(
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "hundred", "million")
)


@dataclass(frozen=True)
class Group:
    """`n` people who share a taste, and how often each of them says the opposite. `busy`: they give most votes."""

    taste: str
    n: int = 8
    flips: float = 0.0
    busy: bool = False


@dataclass(frozen=True)
class Raters:
    """Who votes, and who decides in the trial: `later`, where people have changed by then, as they have for the second
    half of the votes. `tilt` 0 is a candidate that is its champion's equal, `loses` what it loses while it learns."""

    who: str
    people: tuple[Group, ...]
    later: tuple[Group, ...] = ()
    thumbs: bool = False
    tilt: float = TILT
    loses: str = ""


ROWS = (
    Raters("inside: concise", (Group("concise"),)),
    Raters("inside: concise, 10 % flips", (Group("concise", flips=0.1),)),
    Raters("inside: concise, 20 % flips", (Group("concise", flips=0.2),)),
    Raters("inside: concise, thumbs only", (Group("concise"),), thumbs=True),
    Raters("relevance", (Group("relevance"),)),
    Raters("names a number", (Group("a number"),)),
    Raters("like an LLM judge, both orders", (Group("both orders"),)),
    Raters("outside: a coin", (Group("coin"),)),
    Raters("half outside; the candidate loses that", (Group("style and content"),), loses="content"),
    Raters("two opposed camps", (Group("concise", 4), Group("verbose", 4))),
    Raters("a flooder for the opposite", (Group("concise", 7), Group("verbose", 1, busy=True))),
    Raters("taste changes half-way", (Group("concise"),), later=(Group("verbose"),)),
    Raters("A/A: concise, equal candidates", (Group("concise"),), tilt=0.0),
)


def tastes(pool: Pool) -> dict[str, np.ndarray]:
    """(n,) of each taste: in standard deviations within a prompt, higher is better. A coin likes each text at random,
    and the next person another one."""
    numbers = pool.rated(lambda q, text: any(w.strip(".,!?").isdigit() or w in NUMBERS for w in text.lower().split()))
    vectors, asked = read(pool.asked, [s.said for s in pool.samples])[1], embed(pool.questions)  # kept for the models
    asked = np.concatenate([np.repeat(v[None], len(group), 0) for v, group in zip(asked, pool.groups, strict=True)])
    found = {"concise": pool.rated(concise), "relevance": (asked * vectors).sum(1), "a number": numbers}
    found = {name: pool.within(values) for name, values in found.items()}
    found["content"] = pool.within(np.random.default_rng(22).normal(size=len(vectors)))  # in no feature at all
    longer = pool.within(pool.rated(lambda q, text: np.log1p(len(text.split()))))
    return found | {
        "verbose": -found["concise"],
        "style and content": found["concise"] + 1.5 * found["content"],
        "both orders": found["relevance"] + longer / 2,
        "coin": np.zeros(len(vectors)),
    }


MARGINS = {"both orders": 0.5}  # below it the side that is read first wins in both orders: a tie


def said(taste: str, values: np.ndarray, first: int, second: int, flips: float, rng) -> float:
    """What one of these people says of two completions: 1 the first is better, 0 the second, 0.5 neither."""
    if first == second:
        return 0.5
    gain = rng.choice([-1.0, 1.0]) if taste == "coin" else values[first] - values[second]
    if abs(gain) <= MARGINS.get(taste, 0.0):
        return 0.5
    return float((gain > 0) != (rng.random() < flips))


class Crowd:
    """Draws who says something next; `people` are (name, group)."""

    def __init__(self, groups: Sequence[Group], rng: np.random.Generator):
        self.people = [(f"{g.taste} {i}", g) for g in groups for i in range(g.n)]
        busy = np.array([g.busy for _, g in self.people])
        share = np.where(busy, 1.5 * (~busy).sum() / max(1, busy.sum()), 1.0) if busy.any() else np.ones(len(busy))
        self.share, self.rng = share / share.sum(), rng

    def next(self) -> tuple[str, Group]:
        return self.people[self.rng.choice(len(self.people), p=self.share)]


def voted(raters: Raters, pool: Pool, liked: dict, prompts: np.ndarray, n: int, rng) -> list[Example]:
    """`n` votes that prefer one of two, or thumbs, in their order; every second of the first is held out, as stored
    ones are. Each prompt is one conversation."""
    crowds, places, found = [Crowd(g, rng) for g in (raters.people, raters.later or raters.people)], {}, []
    while len(found) < n:
        at, (name, group) = int(rng.choice(prompts)), crowds[len(found) >= n / 2].next()
        part, values = pool.parts[at], liked[group.taste]
        first, second = part.start + rng.choice(part.stop - part.start, 2, replace=False)
        outcome = said(group.taste, values, first, second, group.flips, rng)
        if outcome == 0.5:
            continue
        place = places.setdefault(at, len(places) + 1)
        held_out = place % (EARLY_EVERY if place <= EARLY else EVERY) == 0
        kept, lost = (completion(pool, i) for i in ((first, second) if outcome else (second, first)))
        if raters.thumbs:
            kept, lost = (kept, None) if rng.random() < 0.5 else (None, lost)
        row = Example(pool.prompts[at], kept, lost, f"c{at}", (str(len(found)),), rater=name, held_out=held_out)
        found.append(row)
    return found


def completion(pool: Pool, i: int) -> Completion:
    return Completion(str(i), str(i), "student", 1, pool.samples[i].text, pool.samples[i].status)


@dataclass(frozen=True)
class Candidate:
    """(n,) probabilities of what candidate and champion say within each prompt, and of each completion the candidate's
    gain of log-probability."""

    new: np.ndarray
    old: np.ndarray
    gain: np.ndarray

    @classmethod
    def of(cls, raters: Raters, pool: Pool, liked: dict, rater: PreferenceModel, old: np.ndarray) -> "Candidate":
        scores = pool.within(rater.scores(pool.asked, [s.said for s in pool.samples]))
        gain = raters.tilt * scores - (raters.tilt * liked[raters.loses] if raters.loses else 0.0)
        new = old * np.exp(gain)
        return cls(np.concatenate([new[part] / new[part].sum() for part in pool.parts]), old, gain)

    def draw(self, pool: Pool, prompts, rng) -> list[tuple[int, int]]:
        """(what the candidate says, what the champion says) to each of these prompts: two different completions."""
        drawn = []
        for part in (pool.parts[at] for at in prompts):
            old = rng.choice(part.stop - part.start, p=self.old[part])
            drawn.append(
                (
                    part.start + int(rng.choice(part.stop - part.start, p=beside(self.new[part])[old])),
                    part.start + int(old),
                )
            )
        return drawn

    def true_win_rate(self, raters: Raters, pool: Pool, liked: dict, prompts) -> float:
        """Over all pairs of completions of these prompts; a tie is half a win. By those who decide, each as much as
        another; who floods is none of them."""
        total, people = 0.0, [g for g in raters.later or raters.people if not g.busy]
        for g in people:
            values, wins = liked[g.taste], []
            for part in (pool.parts[at] for at in prompts):
                difference = values[part][:, None] - values[part][None, :]
                wins_of = np.where(np.abs(difference) <= MARGINS.get(g.taste, 0.0), 0.5, difference > 0)
                wins.append(self.old[part] @ (beside(self.new[part]) * wins_of.T).sum(1))
            total += g.n * np.mean(wins)
        return float(total / sum(g.n for g in people))


def beside(new: np.ndarray) -> np.ndarray:
    """(k, k) probabilities of what a candidate says, by rows where the champion has said the first, the second ...: it
    says something else."""
    others = np.where(np.eye(len(new), dtype=bool), 0.0, np.maximum(new, 1e-12))
    return others / others.sum(1, keepdims=True)


def judgement_of(rater: PreferenceModel, split: Split, pool: Pool, drawn, prompts, candidate: Candidate, turn: Turn):
    """As gate/verdict.py decides: by the judge, or by margins on held-out pairs."""
    if proven(rater) and rater.judge:
        new, old = ([pool.samples[pair[side]] for pair in drawn] for side in (0, 1))
        ask = Judgement("preference model", (), TIE_MARGIN, prompts=len(drawn))
        questions = [pool.prompts[at] for at in prompts]
        return judged(lambda a, b: by_rater(rater.judge, questions[a:b], new[a:b], old[a:b]), turn, ask)
    pairs = [e for e in split.held_out if e.is_pair][-MAX_HELD_OUT_PAIRS:]
    gains = [float(candidate.gain[int(e.chosen.id)] - candidate.gain[int(e.rejected.id)]) for e in pairs]
    found = judged(lambda a, b: gains[a:b], turn, Judgement("margins", (), prompts=len(pairs), once=True))
    return replace(found, better=found.better and len(pairs) >= MIN_HELD_OUT_PAIRS)


def tried(raters: Raters, pool: Pool, liked: dict, prompts, candidate: Candidate, rng) -> dict:
    """A trial on these prompts, to its end."""
    crowd, votes = Crowd(raters.later or raters.people, rng), []
    for at in rng.choice(prompts, 2 * MOST_WITH_TIES):
        ((new, old),), (name, group) = candidate.draw(pool, [at], rng), crowd.next()
        votes.append(Vote(name, said(group.taste, liked[group.taste], new, old, group.flips, rng)))
    found = trail(votes, shared=True)
    return {"outcome": found[-1].decision, "compared": len(found) - 1}


def one_round(
    raters: Raters, pool: Pool, liked: dict, votes: list[Example], parts, old: np.ndarray, turn: Turn, rng
) -> dict:
    """Where one round ends: {"stage", "why", and of a candidate "gate", its win rate at the judge, "true", and the
    modelled "candidate" itself}."""
    _, asked, fresh = parts
    split = Split([e for e in votes if not e.held_out], [e for e in votes if e.held_out])
    rater = fit(split.train, split.held_out)
    try:
        require_a_judge(rater, split, turn)
    except CannotDecide as refusal:
        return {"stage": "before training", "why": str(refusal), "counts": refusal.tested}
    candidate = Candidate.of(raters, pool, liked, rater, old)
    asked = rng.choice(asked, GATE_PROMPTS)
    drawn = candidate.draw(pool, asked, rng)
    judgement = judgement_of(rater, split, pool, drawn, asked, candidate, turn)
    found = {
        "gate": judgement.outcomes.win_rate,
        "true": candidate.true_win_rate(raters, pool, liked, fresh),
        "by": judgement.by,
        "candidate": candidate,
        "counts": True,
    }
    if not judgement.better:
        return found | {"stage": "judge", "why": f"{judgement.outcomes}"}
    new, former = ([pool.samples[pair[side]] for pair in drawn] for side in (0, 1))
    guards = [*text_guards(new, former, [e.chosen for e in split.train if e.chosen])]
    guards += topic_guards([pool.prompts[at] for at in asked], new, former)
    if broken := [g.name for g in guards if not g.ok]:
        return found | {"stage": "guard", "why": ", ".join(broken)}
    trial = tried(raters, pool, liked, fresh, candidate, rng)
    return found | {"stage": "promoted" if trial["outcome"] == "confirmed" else "people", "why": "", "trial": trial}


def parted(pool: Pool, rng) -> list[np.ndarray]:
    """Prompts that people vote on, that the gate asks, that nothing has seen. Those with too few completions to model a
    candidate are voted on."""
    order = rng.permutation(len(pool.questions))
    order = order[np.argsort([len(pool.groups[at]) >= SAMPLES for at in order], kind="stable")]
    return np.split(order, (np.cumsum(PARTS)[:2] * len(order)).astype(int))


def cell(raters: Raters, seed: int, pool: Pool, liked: dict) -> dict:
    """One round."""
    rng = np.random.default_rng([seed, *raters.who.encode()])
    parts = parted(pool, rng)
    votes = voted(raters, pool, liked, parts[0], VOTES, rng)
    old = pool.tilted(np.zeros(len(pool.samples)), 0.0)
    found = one_round(raters, pool, liked, votes, parts, old, Turn(seed=seed), rng)
    return {k: v for k, v in found.items() if k != "candidate"}


def line(raters: Raters, seed: int, pool: Pool, liked: dict) -> dict:
    """ROUNDS in a row, each on more votes; a confirmed candidate is the next champion."""
    rng = np.random.default_rng([seed, *raters.who.encode(), ROUNDS])
    parts, old, gate, found = parted(pool, rng), pool.tilted(np.zeros(len(pool.samples)), 0.0), 1, []
    votes = voted(raters, pool, liked, parts[0], ROUNDS * VOTES // 2, rng)
    for i in range(1, ROUNDS + 1):
        so_far = votes[: i * VOTES // 2]
        ended = one_round(raters, pool, liked, so_far, parts, old, Turn(gate, seed=seed * 100 + i), rng)
        candidate, counts = ended.pop("candidate", None), ended.pop("counts")
        gate = gate + 1 if counts else gate
        if ended["stage"] == "promoted":
            old, gate = candidate.new, 1
        found.append(ended)
    return {"rounds": found}
