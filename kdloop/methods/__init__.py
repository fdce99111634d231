"""METHODS: a method is a module with `usable(example)` and `train(model, tokenizer, examples, plan, on_step)`.

`train` changes the model's `default` adapter and returns its metrics. What is the same for all methods (the adapter,
the reference, seeds, finite checks, publishing) is the loop's: see `lora.py` and `round.py`.
"""

from kdloop.methods import dpo, kto, sft
from kdloop.pairs import Example

METHODS = {"sft": sft, "dpo": dpo, "kto": kto}
MIN_EXAMPLES = 8


class NothingToLearn(Exception):
    "The feedback holds too little that the method can use"


def choose(requested: str, examples: list[Example]) -> tuple[str, str]:
    """(method, why). "auto" takes pairs first: they say the most; then thumbs both ways; then liked and edited texts.

    Raises NothingToLearn, saying what is missing.
    """
    count = {name: sum(map(method.usable, examples)) for name, method in METHODS.items()}
    likes = sum(e.chosen is not None and not e.is_pair for e in examples)
    dislikes = sum(e.rejected is not None and not e.is_pair for e in examples)
    if requested != "auto":
        if requested not in METHODS:
            raise ValueError(f"Unknown method {requested!r}; there are: auto, {', '.join(METHODS)}")
        enough(count[requested], requested)
        return requested, f"{requested} was asked for: {count[requested]} of {len(examples)} examples fit it"
    if count["dpo"] >= MIN_EXAMPLES and count["dpo"] >= min(likes, dislikes):
        return "dpo", f"{count['dpo']} pairs say which of two completions is better: dpo"
    if likes >= MIN_EXAMPLES / 2 and dislikes >= MIN_EXAMPLES / 2:
        return "kto", f"{likes} likes and {dislikes} dislikes, few pairs: kto"
    enough(count["sft"], "sft")
    return "sft", f"{count['sft']} liked or corrected completions, nothing to contrast them with: sft"


def enough(n: int, method: str) -> None:
    if n < MIN_EXAMPLES:
        raise NothingToLearn(f"{n} usable votes for {method}, {MIN_EXAMPLES} are needed: go on chatting and rating")
