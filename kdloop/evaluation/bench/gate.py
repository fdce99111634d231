"""How far the gate is to be trusted: bad candidates, many kinds of raters, rounds in a row.

    python -m kdloop bench gate [--rows inside ...] [--seeds 11-15] [--page docs/trust.md]

Hours long, and resumable: each cell, a row with one seed, is appended to a file when it is done, and is not done again.
The tables are of all cells in the file; --page writes them between their marks in that page.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

from kdloop.evaluation.bench import gate_candidates, gate_pool, gate_raters
from kdloop.evaluation.bench.cells import Cell, arguments, chosen, done, markdown, run, write_page
from kdloop.evaluation.bench.gate_null import share
from kdloop.settings import Settings

IN_A_ROW = ("inside: concise", "outside: a coin", "A/A: concise, equal candidates")
STAGES = ("before training", "judge", "guard", "people", "promoted")
MARKS = "<!-- the output of python -m kdloop bench gate -->\n", "<!-- end of bench gate -->\n"


def rows(settings: Settings, pool: gate_pool.Pool) -> dict[str, Cell]:
    """Each row's name -> its cell by seed. What rows share is computed once, when the first one needs it."""
    bench, liked = gate_candidates.Bench(settings.home, settings.student, pool), cache(lambda: gate_raters.tastes(pool))

    def bad(kind: str) -> Cell:
        return lambda seed: gate_candidates.cell(kind, seed, bench)

    def rounds(raters: gate_raters.Raters, of: Callable[..., dict]) -> Cell:
        return lambda seed: of(raters, seed, pool, liked())

    known = {r.who: r for r in gate_raters.ROWS}
    return {
        **{f"bad: {kind}": bad(kind) for kind in gate_candidates.KINDS},
        **{who: rounds(r, gate_raters.cell) for who, r in known.items()},
        **{f"in a row: {who}": rounds(known[who], gate_raters.line) for who in IN_A_ROW},
    }


def tables(cells: Iterable[dict]) -> str:
    by_row: dict[str, list[dict]] = {}
    for cell in cells:
        by_row.setdefault(cell["row"], []).append(cell)
    parts = ("bad: ", bad_row, BAD_HEAD), ("in a row: ", line_row, LINE_HEAD), ("", rater_row, RATER_HEAD)
    found: dict[str, list[str]] = {prefix: [] for prefix, *_ in parts}
    for name, group in by_row.items():
        prefix, row, _ = next(p for p in parts if name.startswith(p[0]))
        found[prefix].append(markdown(name.removeprefix(prefix), *row(group)))
    heads = {prefix: [markdown(*head), markdown(*["---"] * len(head))] for prefix, _, head in parts}
    return "\n".join("".join([*heads[prefix], *lines]) for prefix, lines in found.items() if lines)


BAD_HEAD = (
    *("candidate", "n", "blocked by the judge", "by a guard", "confirmed by people"),
    *("were the judge fooled: blocked by", "passes all guards", "then people", "true win rate"),
)


def bad_row(cells: list[dict]) -> tuple:
    stages, blocked = Counter(c["stage"] for c in cells), Counter(", ".join(c["guards"]) for c in cells)
    trials = [c["trial"] for c in cells if "trial" in c]
    ends = Counter(f"{t['outcome']}" for t in trials)
    longest = max((t["compared"] for t in trials), default=0)
    true = [c["true"] for c in cells if "true" in c]
    return (
        len(cells),
        stages["judge"],
        stages["guard"] + stages["crash"],
        sum(c["stage"] == "people" and c["trial"]["outcome"] == "confirmed" for c in cells),
        "; ".join(f"{names} ({k})" for names, k in blocked.items() if names),
        len(trials),
        ", ".join(f"{end} {k}" for end, k in ends.items()) + (f", after at most {longest}" if trials else ""),
        f"{np.mean(true):.2f}" if true else "",
    )


RATER_HEAD = (
    *("raters", "n", "refused before training", "by the judge", "by a guard", "by people", "promoted (95 % interval)"),
    *("true win rate, all runs", "the candidates' own", "gate minus true"),
)


def rater_row(cells: list[dict]) -> tuple:
    stages, made = Counter(c["stage"] for c in cells), [c for c in cells if "true" in c]
    gained = [c["true"] if c["stage"] == "promoted" else 0.5 for c in cells]
    own, over = ([f(c) for c in made] for f in (lambda c: c["true"], lambda c: c["gate"] - c["true"]))
    return (
        len(cells),
        *(stages[stage] for stage in STAGES[:-1]),
        share(stages["promoted"], len(cells)),
        mean(gained),
        mean(own),
        mean(over),
    )


LINE_HEAD = ("20 rounds in a row", "lines", "rounds refused before training, by the judge, a guard, people", "promoted")
LINE_HEAD = (*LINE_HEAD, "lines with a false promotion (95 % interval)")


def line_row(cells: list[dict]) -> tuple:
    rounds = [r for c in cells for r in c["rounds"]]
    stages = Counter(r["stage"] for r in rounds)
    false = sum(any(r["stage"] == "promoted" and r["true"] <= 0.5 for r in c["rounds"]) for c in cells)
    return len(cells), ", ".join(str(stages[s]) for s in STAGES[:-1]), stages["promoted"], share(false, len(cells))


def mean(values: list[float]) -> str:
    """With its standard error."""
    if len(values) < 2:
        return f"{values[0]:.2f}" if values else ""
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.2f}"


def main(argv: list[str]) -> None:
    parser = arguments("python -m kdloop bench gate", __doc__, "11-15")
    gate_pool.options(parser)
    args, settings = parser.parse_args(argv), Settings.from_environment()
    path = args.cells or settings.home / "bench" / "gate.jsonl"
    if args.rows:
        known = rows(settings, gate_pool.asked_for(args, settings))
        run(chosen(known, args.rows), args.seeds, path)
    text = tables(done(path).values())
    print(text, end="")
    if args.page:
        write_page(args.page, text, MARKS)
