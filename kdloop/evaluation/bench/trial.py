"""How often a trial errs, and how long it takes: simulated raters through the rule of kdloop/gate/evidence.py.

    python -m kdloop bench trial [--n 2000] [--seed 1] > the table of docs/trust.md, in seconds

Every trial is looked at after each comparison, and ends there if it can.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from kdloop.gate.evidence import CONFIRM, KINDS, MOST, MOST_WITH_TIES, ROLL_BACK, counted, log_e_value

STEPS = 4 * MOST  # comparisons that are simulated: with ties, or somebody left out, a trial may take more than MOST
PEOPLE = 8
HEAD = ("raters", "page", "confirmed (95 % interval)", "rolled back", "not decided", "median comparisons to confirm")


@dataclass(frozen=True)
class Raters:
    """`likes` holds, for each person, how often they prefer the challenger where they prefer one; `share` of the
    comparisons is the first person's, the others take turns at random."""

    who: str
    likes: tuple[float, ...]
    shared: bool = True
    ties: float = 0.0
    share: float | None = None


HALF = PEOPLE // 2
RATERS = (
    Raters("a coin (0.50)", (0.5,), shared=False),
    Raters("worse (0.45)", (0.45,), shared=False),
    Raters("worse (0.36)", (0.36,), shared=False),
    Raters("a little better (0.60)", (0.6,), shared=False),
    Raters("better (0.72)", (0.72,), shared=False),
    Raters("better (0.72), a third ties", (0.72,), shared=False, ties=1 / 3),
    Raters("eight people, coins", (0.5,) * PEOPLE),
    Raters("eight people, worse (0.36)", (0.36,) * PEOPLE),
    Raters("eight people, better (0.72)", (0.72,) * PEOPLE),
    Raters("two people, better (0.72)", (0.72,) * 2),
    Raters("forty people, better (0.72)", (0.72,) * 40),
    Raters("two camps, four 0.90 and four 0.10", (0.9,) * HALF + (0.1,) * HALF),
    Raters("two camps, three 0.90 and five 0.10", (0.9,) * (HALF - 1) + (0.1,) * (HALF + 1)),
    Raters("half of all votes by one who always says challenger, seven coins", (1.0, *(0.5,) * 7), share=0.5),
    Raters("the same beside seven worse (0.36)", (1.0, *(0.36,) * 7), share=0.5),
    Raters("half of all votes by one who always says champion, seven better (0.72)", (0.0, *(0.72,) * 7), share=0.5),
)


def decided(raters: Raters, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(1 confirmed, -1 rolled back, 0 neither; after how many comparisons) of `n` trials, each (n,)."""
    likes = np.array(raters.likes)
    first = len(likes) if raters.share is None else 1 / raters.share
    chances = np.full(len(likes), (1 - 1 / first) / max(1, len(likes) - 1))
    chances[0] = 1 / first
    who = rng.choice(len(likes), size=(n, STEPS), p=chances / chances.sum())
    kinds = np.where(rng.random((n, STEPS)) < raters.ties, 2, np.where(rng.random((n, STEPS)) < likes[who], 0, 1))
    counts, ends, at = np.zeros((n, len(likes), len(KINDS))), np.zeros(n, int), np.full(n, STEPS)
    for step in range(STEPS):
        open = np.flatnonzero(ends == 0)
        counts[open, who[open, step], kinds[open, step]] += 1
        kept = counted(counts[open], raters.shared)
        wins, losses = kept[:, 0], kept[:, 1]
        over = (wins + losses >= MOST) | (kept.sum(1) >= MOST_WITH_TIES)
        back = (log_e_value(losses, wins) >= np.log(ROLL_BACK)) | over
        ends[open] = np.where(log_e_value(wins, losses) >= np.log(CONFIRM), 1, np.where(back, -1, 0))
        at[open] = step + 1
    return ends, at


def row(raters: Raters, n: int, seed: int) -> tuple[str, ...]:
    ends, at = decided(raters, n, np.random.default_rng([seed, *raters.who.encode()]))
    confirmed = int((ends == 1).sum())
    interval = binomtest(confirmed, n).proportion_ci(method="exact")
    median = np.median(np.where(ends == 1, at, STEPS + 1))
    return (
        raters.who,
        "shared" if raters.shared else "the owner's own",
        f"{confirmed / n:.3f} ({interval.low:.3f} to {interval.high:.3f})",
        f"{(ends == -1).mean():.3f}",
        f"{(ends == 0).mean():.3f}",
        f"{median:.0f}" if median <= STEPS else "half are not",
    )


def table(n: int, seed: int) -> str:
    rows = [HEAD, ("---",) * len(HEAD), *(row(raters, n, seed) for raters in RATERS)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m kdloop bench trial", description=__doc__)
    parser.add_argument("--n", type=int, default=2000, help="trials of each kind")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    print(f"n = {args.n} trials a row, seed {args.seed}, `python -m kdloop bench trial`:\n")
    print(table(args.n, args.seed), end="")
