"""METHODS: how the student learns from examples. A method has `usable(example)` and `train(model, tokenizer, examples,
plan, on_step)`, which changes the model's `default` adapter and returns its metrics.

What is the same for all methods (the adapter, the reference, seeds, checks for finite numbers, publishing) is the
loop's: see `lora.py` and `rounds/run.py`. A module holds a family of methods and ends with their dict; METHODS joins
the dicts. From an entry to its loss: the entry names the train function and, where it has one of its own, the loss.

In: examples and a plan. Out: a changed adapter and its metrics. May import knowledge, raters, feedback, packs, student
and storage; never gate or rounds.
"""

from kdloop.feedback.examples import Example
from kdloop.feedback.readiness import MIN_EXAMPLES
from kdloop.methods import dpo, kto, multi_turn, ranking, supervised
from kdloop.methods.distill import divergence, economy, similarity, speculative, uld
from kdloop.methods.lora import Method, NothingToLearn, Plan
from kdloop.methods.rl import reinforcement
from kdloop.methods.self_training import iterated, self_teaching

FEEDBACK = (supervised, multi_turn, dpo, ranking, kto)  # people's
FAMILIES = (*FEEDBACK, divergence, speculative, similarity, uld, economy)  # a teacher
FAMILIES += (self_teaching, iterated, reinforcement)  # the student itself, a reward
METHODS: dict[str, Method] = {name: method for family in FAMILIES for name, method in family.METHODS.items()}
SAMPLES = "samples while it trains"
ALONE: dict[str, str] = {  # method -> why only one process trains by it (parallel.py)
    **{name: SAMPLES for family in (self_teaching, iterated, reinforcement) for name in family.METHODS},
    **dict.fromkeys(("gkd", "on_policy_kl", *speculative.METHODS), SAMPLES),
    "taid": "moves its target by the loss of every micro-batch",
    "curriculum": "orders its rows by what it computes",
}
# Their training is one, on rows that are known before it begins: it can be saved midway (parts.py).
IN_PARTS = frozenset(name for family in FEEDBACK for name in family.METHODS)
RENAMED = {"agents": "adapter_soup"}  # old name -> today's: old homes' settings, recipes and queued rounds have it
MAX_CONTRADICTED = 0.2  # share of the votes, above which cdpo is taken: twice the noise of 0.1 that it assumes


def choose(requested: str, examples: list[Example], contradicted: int = 0) -> tuple[str, str]:
    """(method, why). "auto" takes pairs first, which say the most, then thumbs both ways, then liked and edited texts.

    Votes are contradicted where they were outvoted, and `contradicted` more were dropped because as many people said
    the opposite. Raises NothingToLearn, saying what is missing, and ValueError for an unknown method.
    """
    requested = current_name(requested)
    count = {name: sum(map(method.usable, examples)) for name, method in METHODS.items()}
    likes = sum(e.chosen is not None and not e.is_pair for e in examples)
    dislikes = sum(e.rejected is not None and not e.is_pair for e in examples)
    if requested != "auto":
        enough(count[requested], requested)
        return requested, f"{requested} was asked for: {count[requested]} of {len(examples)} examples fit it"
    if count["dpo"] >= MIN_EXAMPLES and count["dpo"] >= min(likes, dislikes):
        why = f"{count['dpo']} pairs say which of two completions is better"
        votes = [w for e in examples if e.source == "human" for _, w in e.all_votes] or [1.0] * len(examples)
        against = contradicted + sum(w < 0 for w in votes)
        share = against / (contradicted + len(votes))
        if share >= MAX_CONTRADICTED:
            return "cdpo", f"{why}, but {against} ({share:.0%}) were contradicted: cdpo"
        return "dpo", f"{why}: dpo"
    if likes >= MIN_EXAMPLES / 2 and dislikes >= MIN_EXAMPLES / 2:
        return "kto", f"{likes} likes and {dislikes} dislikes, few pairs: kto"
    enough(count["sft"], "sft")
    return "sft", f"{count['sft']} liked or corrected completions, nothing to contrast them with: sft"


def current_name(name: str) -> str:
    """The method's name today. Raises ValueError for a method that does not exist, naming those that do."""
    name = RENAMED.get(name, name)
    if name not in ("auto", *METHODS):
        raise ValueError(f"No method {name!r}; there are auto, {', '.join(METHODS)}")
    return name


def require(method: str, plan: Plan) -> None:
    """Raises NothingToLearn where the plan lacks what the method requires: asked before anything is elicited."""
    method = current_name(method)
    if method != "auto" and (missing := METHODS[method].lacks(plan)):
        raise NothingToLearn(f"{method} {missing}")


def enough(n: int, method: str) -> None:
    """Raises NothingToLearn for fewer than MIN_EXAMPLES usable examples."""
    if n < MIN_EXAMPLES:
        raise NothingToLearn(f"{n} usable votes for {method}, {MIN_EXAMPLES} are needed: go on chatting and rating")
