"""docs/methods.md from METHODS: `python -m kdloop.methods.page > docs/methods.md`. A test holds the file to it."""

import json
from pathlib import Path

from kdloop.methods import FAMILIES, METHODS
from kdloop.methods.lora import Method

COSTS = Path(__file__).parents[2] / "docs" / "costs.json"  # written by `python -m kdloop bench cost`

HEAD = """# Methods

Written by `python -m kdloop.methods.page > docs/methods.md` from the entries in `kdloop/methods/`.

A round takes one with `--method NAME` or `KDLOOP_METHOD=NAME`; `auto` chooses by the feedback's kind, amount and
agreement, and says why.

Common to all, and so not repeated below: a LoRA adapter of rank 16 on every linear layer where the papers train all
weights; AdamW at 3e-4; the gate; and the step size (`step_size.py`), which extrapolates the training or shortens it.
That is after ExPO (Zheng et al. 2024), and differs from it: ExPO's line is one in the weights. This one is in the
adapter's A and B, so what it adds to the weights, BA, has a part that grows with the square of the scale.

In the losses, r(y) = log pi(y) / ref(y), with the policy pi being trained and the reference ref it started from; s is
the logistic function; |y| a completion's number of tokens; NLL(y) = -log pi(y) / |y|; p is the teacher's next-token
distribution and q the student's. The anchor a is a recipe's `anchor`, the same for all methods that have one.

Where a method has a reward, a completion that was cut at the token limit is never better than one that the student
ended. A reward model is fitted where neither checks nor a proven preference model give the reward. It must order the
held-out pairs, one on every third prompt, better than chance: an exact binomial test at 0.05, of at least 12.

A rater's weight (the Admin tab): where the entry says so, a row's loss is weighted by it; for all other methods a round
draws its rows in proportion to it. The preference model's votes are weighted by it, too.

## Cost

`python -m kdloop bench cost --json docs/costs.json` measures every method beside `sft` in the same run. Here:
{measured}.
What a method samples, loads and scores is included; the teacher of the white-box methods is as large as the student, a
reward is free. The ratio is what carries over to other machines.

| method | times `sft` | seconds per 100 examples |
|---|---|---|
"""


GLANCE = "## At a glance\n\n| family | methods | file |\n|---|---|---|\n"
ABSENT = "## Absent\n\nWhat the survey has and kdloop lacks is told leaf by leaf in [survey.md](survey.md).\n"


def conditions(student: str, examples: int, repeats: int, tokens: int, cpu: str, cores: int) -> str:
    runs = "one run each" if repeats == 1 else f"medians of {repeats} runs"
    what = f"{examples} examples with completions of up to {tokens} tokens"
    return f"{student}, one pass over {what}, {runs}, on {cores} cores of {cpu}"


def entry(name: str, m: Method) -> str:
    return f"""### `{name}`

{m.when}

    {m.loss}

Needs {m.needs}. Defaults: {m.defaults}. Source: {m.paper}.{" A row's loss is weighted." if m.weighs else ""}

Differs from the paper: {m.differs_from_paper}.
"""


def costs(kept: dict) -> str:
    """The table's lines. A method that is not in `kept` was not measured; one without numbers refused the student."""
    measured, lines = kept["costs"], []
    for name in METHODS:
        cost, refused = measured.get(name), "refused" if name in measured else ""
        numbers = f"{cost['ratio']:.1f} | {cost['seconds']:.0f}" if cost else f"{refused} | "
        lines.append(f"| `{name}` | {numbers} |\n")
    return "".join(lines)


def title(family) -> str:
    return family.__doc__.split(":")[0].split(".")[0].strip()


def families() -> str:
    """One row a family: its title, its methods, its file."""
    rows = [(title(f), " ".join(f"`{name}`" for name in f.METHODS), f.__name__.split(".", 1)[1]) for f in FAMILIES]
    return "".join(f"| {what} | {names} | `{module.replace('.', '/')}.py` |\n" for what, names, module in rows)


def page() -> str:
    """Markdown: what is common, the costs, the families, then one section per family in the order of FAMILIES."""
    kept = json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.exists() else {"costs": {}}
    measured = conditions(**kept["measured"]) if kept["costs"] else "not measured yet"
    sections = [HEAD.format(measured=measured) + costs(kept), GLANCE + families()]
    for family in FAMILIES:
        sections += [f"## {title(family)}\n", *(entry(*item) for item in family.METHODS.items())]
    return "\n".join([*sections, ABSENT])


if __name__ == "__main__":
    print(page(), end="")
