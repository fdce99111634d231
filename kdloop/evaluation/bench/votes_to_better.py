"""What votes buy: tastes x noise x kinds of feedback, over seeds, with refusals counted as 0.5.

    python -m kdloop bench votes_to_better [--rows concise ...] [--seeds 501-505] [--page docs/votes.md]

A cell is one `simulate` of one round, by a row and a seed, in a home of its own: rounds, gate and trial as in the app.
What serves afterwards is compared with the base on prompts that nothing else has seen (fresh_prompts.txt), by the taste
itself, without noise. Hours long, and resumable: a cell is appended to a file when it is done. The table is of all
cells in the file; --page writes it between its marks in that page.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import t as student_t

from kdloop.evaluation.bench import tastes
from kdloop.evaluation.bench.cells import arguments, chosen, done, markdown, run, write_page
from kdloop.evaluation.simulate import simulate
from kdloop.evaluation.voting import Rate, Tell, Voter
from kdloop.settings import Settings
from storage import files

MARKS = "<!-- the output of python -m kdloop bench votes_to_better -->\n", "<!-- end of bench votes_to_better -->\n"
FRESH = Path(__file__).with_name("fresh_prompts.txt")
GUARDS = {"KL": "KL(base, candidate) per token", "entropy": "entropy per token, change"}
STAGES = ("before training", "judge", "guard", "people", "serves")


@dataclass(frozen=True)
class Row:
    """One person's `votes` of one round."""

    rate: Rate
    votes: int = 36
    flips: float = 0.0
    kind: str = "choices"
    tell: Tell | None = None

    def __str__(self) -> str:
        name, noise = self.rate.__name__.replace("_", " "), f", {self.flips:.0%} flips" if self.flips else ""
        return f"{name}, {self.votes} {self.kind}{noise}{', learned from what they write next' * bool(self.tell)}"


ROWS = (
    *(Row(rate) for rate in tastes.EIGHT),
    Row(tastes.CONCISE, 18),
    Row(tastes.CONCISE),
    Row(tastes.CONCISE, flips=0.2),
    Row(tastes.CONCISE, 48, kind="thumbs"),
    Row(tastes.CONCISE, 48, kind="mixed"),
    Row(tastes.CONCISE, tell=tastes.asks_for_concise),
    Row(tastes.RELEVANCE, 72),
    Row(tastes.NUMBER, 72),
)


def fresh_prompts() -> list[str]:
    return files.read_text(FRESH).split("\n")[:-1]


def cell(settings: Settings, row: Row, seed: int) -> dict:
    home = settings.home / "votes-to-better" / re.sub(r"\W+", "-", f"{row}-{seed}")
    files.remove(home)  # what a kill has left of it
    voter = Voter(row.rate, flips=row.flips, kind=row.kind, seed=seed, tell=row.tell)
    report = simulate(replace(settings, home=home), voter, row.votes, 1, held_out=fresh_prompts())
    files.remove(home)
    (ended,), final = report["rounds"], report["final"]
    guards = {name: ended["guards"].get(known, {}).get("value") for name, known in GUARDS.items()}
    about = {"stage": stage(ended), "reason": ended["reason"], "seconds": ended["seconds"], "trial": ended["trial"]}
    return about | guards | {"votes": report["votes"], "rate": final["win_rate"], "n": len(fresh_prompts())}


def stage(ended: dict) -> str:
    """Where the round ended: one of STAGES, or that it failed."""
    if ended["status"] == "failed":
        return "failed"
    if ended["trial"]:
        return "people" if ended["trial"]["outcome"] == "rolled back" else "serves"
    if ended["status"] == "promoted":
        return "serves"
    if "before training" in ended["reason"] or not ended["seconds"].get("gate"):
        return "before training"
    return "guard" if "in spite of" in ended["reason"] else "judge"


HEAD = (
    *("taste and votes", "seeds", *(f"refused {s}" if s == STAGES[0] else f"by {s}" for s in STAGES[:-1]), "serves"),
    *("win rate over all runs (95 % t-interval)", "of those that serve", "seconds: elicit, train, gate", "KL"),
)


def table_row(name: str, cells: list[dict]) -> tuple:
    stages, served = Counter(c["stage"] for c in cells), [c["rate"] for c in cells if c["stage"] == "serves"]
    seconds = [np.median([c["seconds"].get(k, 0) for c in cells]) for k in ("elicit", "train", "gate")]
    kl = [c["KL"] for c in cells if c.get("KL") is not None]
    return (
        name,
        len(cells),
        *(stages[s] for s in STAGES),
        over_all([c["rate"] if c["stage"] == "serves" else 0.5 for c in cells]),
        f"{np.mean(served):.2f}" if served else "",
        ", ".join(f"{s:.0f}" for s in seconds),
        f"{np.mean(kl):.2f}" if kl else "",
    )


def over_all(rates: list[float]) -> str:
    """Their mean, with Student's interval of the mean over the seeds."""
    if len(rates) < 2:
        return f"{rates[0]:.2f}"
    half = student_t.ppf(0.975, len(rates) - 1) * np.std(rates, ddof=1) / len(rates) ** 0.5
    return f"{np.mean(rates):.2f} ({np.mean(rates) - half:.2f} to {np.mean(rates) + half:.2f})"


def table(cells: Iterable[dict]) -> str:
    """The rows, and all runs of the eight unseen tastes together."""
    by_row: dict[str, list[dict]] = {}
    for one in cells:
        by_row.setdefault(one["row"], []).append(one)
    eight = [c for rate in tastes.EIGHT for c in by_row.get(str(Row(rate)), [])]
    rows = [*by_row.items(), *([("the eight unseen tastes together", eight)] if eight else [])]
    lines = [markdown(*HEAD), markdown(*["---"] * len(HEAD)), *(markdown(*table_row(*row)) for row in rows)]
    return "".join(lines)


def main(argv: list[str]) -> None:
    parser = arguments("python -m kdloop bench votes_to_better", __doc__, "501-505")
    args, settings = parser.parse_args(argv), Settings.from_environment()
    path = args.cells or settings.home / "bench" / "votes_to_better.jsonl"
    known = {str(row): partial(cell, settings, row) for row in ROWS}
    run(chosen(known, args.rows), args.seeds, path)
    text = table(done(path).values())
    print(text, end="")
    if args.page:
        write_page(args.page, text, MARKS)
