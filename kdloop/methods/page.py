"""docs/methods.md from METHODS: `python -m kdloop.methods.page > docs/methods.md`. A test holds the file to it."""

from kdloop.methods import FAMILIES
from kdloop.methods.lora import Method

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
"""


def entry(name: str, m: Method) -> str:
    return f"""### `{name}`

{m.when}

    {m.loss}

Needs {m.needs}. Defaults: {m.defaults}. Source: {m.paper}.{" A row counts by its weight." if m.weighs else ""}
"""


def page() -> str:
    """Markdown, one section a family, in the order of FAMILIES."""
    sections = [HEAD]
    for family in FAMILIES:
        title = family.__doc__.split(":")[0].split(".")[0].strip()
        sections += [f"## {title}\n", *(entry(*item) for item in family.METHODS.items())]
    return "\n".join(sections)


if __name__ == "__main__":
    print(page(), end="")
