"""How often camps are found (raters/camps.py), by simulated raters on real completions of the student.

    python -m kdloop bench camps [--seeds 1-40] [--prompts N]

A cell is a row with one seed: eight people's first 72, 144 and 288 votes. What is done is kept in a file, as bench gate
does it, whose pool of completions this is.
"""

from functools import cache

import numpy as np

from kdloop.evaluation.bench import gate_pool
from kdloop.evaluation.bench.cells import arguments, chosen, done, markdown, run, write_page
from kdloop.evaluation.bench.gate_null import share
from kdloop.evaluation.bench.gate_raters import Group, Raters, tastes, voted
from kdloop.raters import camps
from kdloop.settings import Settings

VOTES = (72, 144, 288)
ROWS = (
    Raters("one taste (concise)", (Group("concise"),)),
    Raters("one taste, 20 % flips", (Group("concise", flips=0.2),)),
    Raters("coins", (Group("coin"),)),
    Raters("one coin beside seven of one taste", (Group("concise", 7), Group("coin", 1))),
    Raters("three tastes", (Group("concise", 3), Group("relevance", 3), Group("a number", 2))),
    Raters("two camps", (Group("concise", 4), Group("verbose", 4))),
    Raters("two camps, 20 % flips", (Group("concise", 4, 0.2), Group("verbose", 4, 0.2))),
    Raters("two camps and a coin", (Group("concise", 4), Group("verbose", 3), Group("coin", 1))),
)
HEAD = ("eight people", *(f"camps found in {n} votes (95 % interval)" for n in VOTES), "people in the wrong camp")
MARKS = "<!-- the output of python -m kdloop bench camps -->\n", "<!-- end of bench camps -->\n"


def cell(raters: Raters, seed: int, pool: gate_pool.Pool, liked: dict) -> dict:
    """By the number of votes: the tastes of those in each camp, or None."""
    rng = np.random.default_rng([seed, *raters.who.encode()])
    votes = voted(raters, pool, liked, np.arange(len(pool.questions)), max(VOTES), rng)
    found = {n: camps.find(votes[:n]) for n in VOTES}
    return {str(n): c and [[p.rpartition(" ")[0] for p in camp.people] for camp in c.both] for n, c in found.items()}


def table(cells: list[dict]) -> str:
    lines = [markdown(*HEAD), markdown(*["---"] * len(HEAD))]
    for name in dict.fromkeys(c["row"] for c in cells):
        every = [[c[str(n)] for c in cells if c["row"] == name] for n in VOTES]
        sides = [side for found in every for camps_of in found for side in camps_of or ()]
        misplaced = sum(len(side) - max(map(side.count, side)) for side in sides)
        shares = (share(sum(map(bool, found)), len(found)) for found in every)
        lines.append(markdown(name, *shares, f"{misplaced} of {sum(map(len, sides))}" if sides else ""))
    return "".join(lines)


def main(argv: list[str]) -> None:
    parser = arguments("python -m kdloop bench camps", __doc__, "1-40")
    gate_pool.options(parser)
    args, settings = parser.parse_args(argv), Settings.from_environment()
    path = args.cells or settings.home / "bench" / "camps.jsonl"
    pool = gate_pool.asked_for(args, settings)
    liked = cache(lambda: tastes(pool))
    known = {r.who: (lambda seed, r=r: cell(r, seed, pool, liked())) for r in ROWS}
    run(chosen(known, args.rows), args.seeds, path)
    text = table(list(done(path).values()))
    print(text, end="")
    if args.page:
        write_page(args.page, text, MARKS)
