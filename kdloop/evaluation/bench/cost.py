"""The cost of each method: seconds per 100 examples, and their ratio to `sft`'s in the same run.

    python -m kdloop bench cost --examples 16 --tokens 32 --repeats 3 --json docs/costs.json

All train for one epoch on the student's own completions of the same prompts. The white-box teacher is the student
again, so of the student's size; the reward is free. What a method samples, loads and scores before its steps is
included. A call with `--methods` updates the file if the rest was measured under the same conditions; docs/methods.md
reads it.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from transformers import AutoTokenizer

from kdloop import packs
from kdloop.evaluation.bench import machine
from kdloop.feedback.examples import Example
from kdloop.methods import METHODS, NothingToLearn
from kdloop.methods.lora import Plan, trainable_student
from kdloop.methods.self_training.self_teaching import write
from kdloop.settings import Settings
from kdloop.student.base import find_student
from kdloop.student.transformers import device_and_dtype
from storage import files
from storage.conversations import as_prompt

SAMPLES = 3  # per prompt: the shortest ranking
BASELINE = "sft"


def examples_of(source: str, n: int, plan: Plan) -> list[Example]:
    """Examples that every method can use: rankings with a critique and a rationale."""
    tokenizer, questions = AutoTokenizer.from_pretrained(source), packs.prompts("general", "train")[:n]
    model = trainable_student(source, None, device_and_dtype()[1], plan.seed)
    written = write(model, tokenizer, [as_prompt(q) for q in questions for _ in range(SAMPLES)], plan)
    written = [replace(k, text=k.text or "Yes.") for k in written]
    groups = [tuple(written[i * SAMPLES :][:SAMPLES]) for i in range(n)]
    words = {"critique": "Too long.", "rationale": "It says what was asked."}
    return [
        Example(as_prompt(q), group[0], group[-1], q, (q,), ranking=group, **words)
        for q, group in zip(questions, groups, strict=True)
    ]


def seconds(name: str, source: str, examples: list[Example], plan: Plan) -> float | None:
    """Seconds of one training; None if the method refuses the examples."""
    gc.collect()  # trainer and model are a reference cycle
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = trainable_student(source, None, device_and_dtype()[1], plan.seed)
    start = time.monotonic()
    try:
        METHODS[name].train(model, tokenizer, examples, plan, lambda *_: None)
    except NothingToLearn:
        return None
    return time.monotonic() - start


def run(
    source: str,
    methods: list[str],
    n: int,
    repeats: int,
    tokens: int,
    on_result: Callable[[dict], None] = lambda found: None,
) -> dict[str, dict | None]:
    """{method: {"seconds" per 100 examples, "ratio" to the baseline}}, medians; None for a method that refused.

    Method and baseline alternate, so what slows the machine down affects both; the baseline's own ratio shows the
    noise. `on_result` is called with all results after each method.
    """
    system, length = "You are a pirate. Answer like a pirate.", lambda prompt, text, finished: float(len(text))
    plan = Plan(1, epochs=1, max_tokens=tokens, teachers=(source,), system=system, reward=length)
    examples, found = examples_of(source, n, plan), {}
    seconds(BASELINE, source, examples, plan)  # a warm-up
    for name in (BASELINE, *(name for name in methods if name != BASELINE)):
        turns = [[seconds(k, source, examples, plan) for k in (BASELINE, name)] for _ in range(repeats)]
        found[name] = cost(turns, n)
        print(line(name, found[name]), flush=True)
        on_result(found)
    return found


def cost(turns: list[list[float | None]], n: int) -> dict | None:
    """From turns of (baseline's seconds, method's seconds) for n examples; None if the method refused."""
    if any(ours is None for _, ours in turns):
        return None
    per_100 = statistics.median(ours for _, ours in turns) * 100 / n
    return {"seconds": per_100, "ratio": statistics.median(ours / baseline for baseline, ours in turns)}


def line(name: str, cost: dict | None) -> str:
    return f"| `{name}` | {cost['ratio']:.1f} | {cost['seconds']:.0f} |" if cost else f"| `{name}` | refused | |"


def keep(path: Path, measured: dict, costs: dict) -> None:
    """Write the costs to the file, with its former ones if those were measured under the same conditions."""
    before = json.loads(path.read_text()) if path.exists() else {}
    former = before["costs"] if before.get("measured") == measured else {}
    files.write(path, json.dumps({"measured": measured, "costs": former | costs}, indent=1) + "\n")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m kdloop bench cost", description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--examples", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32, help="per completion")
    parser.add_argument("--json", type=Path, help="docs/costs.json is what docs/methods.md is written from")
    args = parser.parse_args(argv)
    settings = Settings.from_environment()
    source = find_student(settings.student, settings.home)
    print(f"| method | times `{BASELINE}` | seconds per 100 examples |\n|---|---|---|", flush=True)
    budget = {"examples": args.examples, "repeats": args.repeats, "tokens": args.tokens}
    where = {k: v for k, v in machine().items() if k in ("cpu", "cores")}
    measured = {"student": settings.student or "the embedded student"} | budget | where
    on_result = partial(keep, args.json, measured) if args.json else lambda found: None
    run(source, args.methods, args.examples, args.repeats, args.tokens, on_result)
