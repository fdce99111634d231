"""How often the gate errs: `python -m kdloop bench gate_null`, the tables of docs/trust.md.

Lines of rounds are simulated by the gate's own statistics (`judged`, `judge_of`, `sum_test`) on made-up features, until
the judge has passed a candidate and eight people have confirmed it (bench/trial.py). --guards samples the base twice
instead and counts the alarms of each guard where nothing differs.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit
from scipy.stats import binomtest

from kdloop import packs
from kdloop.evaluation.bench.trial import PEOPLE, Raters, decided
from kdloop.gate.guards import MAX_ALIKE_RISE, SPREAD_PROMPTS, Spread, text_guards, topic_guards
from kdloop.gate.outcomes import TIE_MARGIN
from kdloop.gate.spending import Turn
from kdloop.gate.verdict import Judgement, judged
from kdloop.raters.bradley_terry import laplace
from kdloop.raters.preference_model import sum_test
from kdloop.settings import Settings
from kdloop.student import Sampling
from kdloop.student.base import find_student
from kdloop.student.transformers import TransformersEngine
from storage.conversations import as_prompt
from storage.split import EARLY, EARLY_EVERY, EVERY

DIMENSIONS = 49  # features, standardised and independent
PRIOR = np.full(DIMENSIONS, 0.15**-2.0)  # one of the preference model's scales, for all: to choose one costs the most
VOTES, ROUNDS, PROMPTS = 36, 20, 128
SHIFT = 1.2  # standard deviations of the selecting model's score that a candidate moves, as measured of `concise`


@dataclass(frozen=True)
class Taste:
    """What raters like: `weights` of features, and of what no feature sees (`unseen`, of standard deviation 1), which a
    candidate loses by `loss` standard deviations."""

    weights: np.ndarray
    unseen: float = 0.0
    loss: float = 0.0


def tastes(rng: np.random.Generator) -> dict[str, Callable[[], Taste]]:
    def few(n: int, size: float) -> np.ndarray:
        weights = np.zeros(DIMENSIONS)
        weights[rng.choice(DIMENSIONS, n, replace=False)] = size * rng.choice([-1, 1], n)
        return weights

    return {
        "coin": lambda: Taste(few(1, 0.0)),
        "unseen alone": lambda: Taste(few(1, 0.0), unseen=1.5),
        "style, while unseen content falls": lambda: Taste(few(5, 0.4), unseen=1.5, loss=0.9),
        "five features": lambda: Taste(few(5, 0.6)),
        "one feature, strongly": lambda: Taste(few(1, 3.0)),
    }


@dataclass(frozen=True)
class Line:
    """Of up to ROUNDS rounds: in which the judge passed a candidate first, and people confirmed one (0 for none), and
    the true win rates of these two."""

    judged: int = 0
    judged_rate: float = 0.5
    confirmed: int = 0
    confirmed_rate: float = 0.5


def line(taste: Taste, rng: np.random.Generator, confirm: bool) -> Line:
    """To the first candidate that people confirm. One that they roll back was a gate like others. Without `confirm`, as
    gates were before: one model selects, rewards and judges, and each gate may spend what a first one may, 0.03."""
    n = VOTES * ROUNDS
    x = rng.normal(size=(n, DIMENSIONS)) * 2**0.5
    utility = x @ taste.weights + taste.unseen * 2**0.5 * rng.normal(size=n)
    x *= np.where(rng.random(n) < expit(utility), 1, -1)[:, None]
    place, found = np.arange(1, n + 1), Line()
    held_out = place % np.where(place <= EARLY, EARLY_EVERY, EVERY) == 0 if confirm else np.zeros(n, bool)
    for k in range(1, ROUNDS + 1):
        seen = place <= k * VOTES
        _, mode, hessian = laplace(x[None, seen & ~held_out], PRIOR)
        selects, turn = mode[0], Turn(k if confirm else 1)
        if confirm and sum_test(x[seen & held_out] @ selects) >= turn.error:
            continue
        if confirm:
            _, mode, hessian = laplace(x[None, seen & held_out], PRIOR)
        moved = rng.normal(size=(PROMPTS, DIMENSIONS)) * 2**0.5 + SHIFT * selects / np.linalg.norm(selects)
        variance = np.einsum("ni,ij,nj->n", moved, np.linalg.inv(hessian[0]), moved)
        gains = (expit(moved @ mode[0] / np.sqrt(1 + np.pi * variance / 8)) - 0.5).tolist()
        if judged(lambda a, b, g=gains: g[a:b], turn, Judgement("", (), TIE_MARGIN, prompts=PROMPTS)).better:
            unseen = taste.unseen * (2**0.5 * rng.normal(size=PROMPTS) - taste.loss)
            rate = float(expit(moved @ taste.weights + unseen).mean())
            found = found if found.judged else Line(k, rate)
            if decided(Raters("", (rate,) * PEOPLE), 1, rng)[0][0] == 1:
                return replace(found, confirmed=k, confirmed_rate=rate)
    return found


def simulated(lines: int, seed: int) -> str:
    rows = [
        "| raters | gate | judge passes in round 1 | any within 20 rounds | their true win rate | people confirm one "
        "within 20 rounds | their true win rate |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in tastes(np.random.default_rng(seed)):
        for confirm in (False, True):
            rng = np.random.default_rng(seed)
            taste = tastes(rng)[name]
            found = [line(taste(), rng, confirm) for _ in range(lines)]
            passed, people = (
                [f.judged_rate for f in found if f.judged],
                [f.confirmed_rate for f in found if f.confirmed],
            )
            first, *ever = (share(k, lines) for k in (sum(f.judged == 1 for f in found), len(passed), len(people)))
            true = [f"{np.mean(rates):.2f}" if rates else "" for rates in (passed, people)]
            gate = "cross-fitted" if confirm else "one model, each as a first gate"
            rows.append(f"| {name} | {gate} | {first} | {ever[0]} | {true[0]} | {ever[1]} | {true[1]} |")
            print(rows[-1], flush=True)
    return "\n".join(rows)


def equal(lines: int, seed: int) -> str:
    """Candidates that are the champion's equals: a coin decides two thirds of the prompts."""
    rng, ever = np.random.default_rng(seed), Counter()
    for _ in range(lines):
        for k in range(1, ROUNDS + 1):
            gains = rng.choice([-1.0, 0.0, 1.0], PROMPTS).tolist()
            ask = Judgement("", (), prompts=PROMPTS)
            ever["spent"] += (spent := judged(lambda a, b, g=gains: g[a:b], Turn(k), ask).better)
            if spent:
                break
    return f"Equal candidates, a line of {ROUNDS} gates: some promotion in {share(ever['spent'], lines)}"


def share(k: int, n: int) -> str:
    low, high = binomtest(k, n).proportion_ci(method="wilson")
    return f"{k / n:.3f} ({low:.3f} to {high:.3f}, n = {n})"


def guards(settings: Settings, n: int, gates: int, seed: int) -> str:
    """Alarms where candidate and champion are the base with two seeds: `gates` gates on 64 of `n` prompts each. (The KL
    divergence and the entropy at the same texts are exactly 0 there.)"""
    engine = TransformersEngine(find_student(settings.student, settings.home))
    prompts = [as_prompt(q) for q in packs.gate_pool("general")[:n]]
    sampling, rng, alarms = Sampling(settings.round_max_tokens), np.random.default_rng(seed), Counter()
    sides = [engine.complete(prompts, sampling, [seed + 10_000 * s + i for i in range(n)]) for s in range(2)]
    spreads = [Spread.of(prompts[at : at + SPREAD_PROMPTS], seed + at) for at in range(0, n, SPREAD_PROMPTS)]
    alike = [spread.self_similarity(spread.sample(engine)) for spread in spreads]
    for _ in range(gates):
        asked = rng.choice(n, min(n, 64), replace=False)
        swap = rng.random(len(asked)) < 0.5
        new, old = ([sides[int(s) ^ side][i] for i, s in zip(asked, swap, strict=True)] for side in (0, 1))
        for guard in (*text_guards(new, old, []), *topic_guards([prompts[i] for i in asked], new, old)):
            alarms[guard.name] += not guard.ok
    rows = [f"| {name} | {share(count, gates)} |" for name, count in alarms.items()]
    spread = np.std(alike, ddof=1) * 2**0.5
    rows.append(f"| samples of one prompt alike, rise | {MAX_ALIKE_RISE / spread:.1f} standard deviations |")
    return "\n".join(["| guard | false alarms, A/A |", "|---|---|", *rows])


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m kdloop bench gate_null", description=__doc__)
    parser.add_argument("--lines", type=int, default=400, help="of 20 rounds each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guards", action="store_true", help="the guards' false alarms, with the student itself")
    parser.add_argument("--prompts", type=int, default=192, help="that the student is sampled on for --guards")
    args = parser.parse_args(argv)
    if args.guards:
        print(guards(Settings.from_environment(), args.prompts, 400, args.seed))
    else:
        print(equal(args.lines, args.seed))
        simulated(args.lines, args.seed)
