"""docs/methods.md from METHODS: `python -m kdloop.methods.page > docs/methods.md`. A test holds the file to it."""

import json
from pathlib import Path

from kdloop.methods import FAMILIES, METHODS
from kdloop.methods.lora import Method

COSTS = Path(__file__).parents[2] / "docs" / "costs.json"  # of `python -m kdloop bench cost`

HEAD = """# Methods

Written by `python -m kdloop.methods.page > docs/methods.md` from the entries in `kdloop/methods/`.

A round takes one with `--method NAME` or `KDLOOP_METHOD=NAME`; `auto` chooses by the feedback's kind, amount and
agreement, and says why. Common to all: a LoRA adapter of rank 16 on every linear layer, AdamW at 3e-4, the size of the
step (`trust_region.py`), the gate.

In the losses, r(y) = log pi(y) / ref(y), with the policy pi being trained and the reference ref it started from; s is
the logistic function; |y| a completion's tokens; NLL(y) = -log pi(y) / |y|; p is the teacher's next-token distribution
and q the student's.

A rater's weight (the Admin tab): where the entry says so, a row's loss counts by it; for all other methods a round
draws its rows in proportion to it. The preference model's votes count by it too.

## Cost

`python -m kdloop bench cost --json docs/costs.json` measures every method beside `sft` in the same run. Here:
{measured}.
What a method samples, loads and scores is in it; the teacher of the white-box methods is as large as the student, a
reward is free. The ratio is what carries to other machines.

| method | times `sft` | seconds per 100 examples |
|---|---|---|
"""


def conditions(student: str, examples: int, repeats: int, tokens: int, cpu: str, cores: int) -> str:
    runs = "one run each" if repeats == 1 else f"medians of {repeats} runs"
    what = f"{examples} examples with completions of up to {tokens} tokens"
    return f"{student}, one pass over {what}, {runs}, on {cores} cores of {cpu}"


def entry(name: str, m: Method) -> str:
    return f"""### `{name}`

{m.when}

    {m.loss}

Needs {m.needs}. Defaults: {m.defaults}. Source: {m.paper}.{" A row counts by its weight." if m.weighs else ""}
"""


def costs(kept: dict) -> str:
    """The table's lines; a method that is not in the file was not measured, one without a number refused the run's
    student."""
    found, lines = kept["costs"], []
    for name in METHODS:
        cost = found.get(name)
        numbers = f"{cost['ratio']:.1f} | {cost['seconds']:.0f}" if cost else f"{'refused' if name in found else ''} | "
        lines.append(f"| `{name}` | {numbers} |\n")
    return "".join(lines)


def page() -> str:
    """Markdown: what is common, the costs, then one section a family in the order of FAMILIES."""
    kept = json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.exists() else {"costs": {}}
    measured = conditions(**kept["measured"]) if kept["costs"] else "not measured yet"
    sections = [HEAD.format(measured=measured) + costs(kept)]
    for family in FAMILIES:
        title = family.__doc__.split(":")[0].split(".")[0].strip()
        sections += [f"## {title}\n", *(entry(*item) for item in family.METHODS.items())]
    return "\n".join(sections)


if __name__ == "__main__":
    print(page(), end="")
