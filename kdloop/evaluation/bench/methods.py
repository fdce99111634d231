"""Every preference method on the same votes, student, held-out prompts and budget: a table.

    python -m kdloop bench methods --seeds 1 2 3 --out methods.jsonl \
        --raters kdloop/evaluation/example_raters.py:concise

A cell is one method, rater and seed; it trains in a process of its own, so that its peak memory is its own, and is
appended to --out when it is done: the same command continues where it was stopped. Methods with an NLL anchor all have
the weight --anchor, and with --trust-region each adapter is scaled as in a round, else it is taken as trained. There is
no gate; what it would refuse shows in the columns: displacement (nats per token that the chosen completions gained),
length and repetition against the base.
"""

import argparse
import random
import resource
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from kdloop import packs
from kdloop.evaluation.simulate import Rate, load_rater
from kdloop.feedback.examples import Example
from kdloop.gate.outcomes import Outcomes
from kdloop.knowledge.self_knowledge import SPREAD
from kdloop.raters.features import repetition
from kdloop.settings import Settings
from kdloop.student import Engine, Sample, Sampling, engines
from kdloop.student.transformers import TransformersEngine
from storage import json_lines
from storage.conversations import Completion, as_prompt

PREFERENCE = ["dpo", "cdpo", "ipo", "sigmoid_norm", "apo_zero", "wpo", "simpo", "orpo", "rrhf", "pro", "kto"]
PREFERENCE += ["apo_zero_unpaired", "sft"]
COLUMNS = {
    "seconds": "{:.0f}",
    "peak MB": "{:.0f}",
    "displacement": "{:+.2f}",
    "length": "{:.2f}",
    "repetition": "{:+.3f}",
}
CHUNK = 32  # prompts per batch
GATE_PROMPTS = 64  # completions that the step size is settled on: as many as in a round


@dataclass(frozen=True)
class Budget:
    votes: int = 36
    epochs: float = 2
    held_out: int = 100
    max_tokens: int = 96
    flips: float = 0.0  # share of votes that are flipped
    anchor: float = 4.0  # weight of NLL(chosen) in methods with an anchor; 0: the papers' losses
    trust_region: bool = False


def run(base: Engine, methods: list[str], raters: list[str], seeds: list[int], budget: Budget, out: Path) -> list[dict]:
    """All cells, including those of earlier calls. `raters` are FILE.py:function.

    Raises ValueError if `out` holds cells with another anchor or trust region: a table compares equal trainings.
    """
    cells = list(json_lines.read(out)) if out.exists() else []
    trained = {"anchor": budget.anchor, "trust_region": budget.trust_region}
    if any(trained != {name: c.get(name) for name in trained} for c in cells):
        raise ValueError(f"{out} holds cells of another anchor or trust region than {trained}: give another --out")
    done = {(c["method"], c["rater"], c["seed"]) for c in cells}
    for rater in raters:
        rate = load_rater(rater)
        for seed in seeds:
            missing = [m for m in methods if (m, rater, seed) not in done]
            if not missing:
                continue
            votes = voted(base, rate, budget, seed)
            before = completions(base, budget, seed)
            for method in missing:
                cell = {"method": method, "rater": rater, "seed": seed, "votes": len(votes)} | trained
                cell |= measured(base, before, method, votes, rate, budget, seed)
                cells.append(cell)
                with out.open("a") as lines:
                    print(json_lines.dump(cell), file=lines)
                print(f"{rater} seed {seed}\n{line(method, [cell])[1]}", flush=True)
    return cells


def voted(base: Engine, rate: Rate, budget: Budget, seed: int) -> list[Example]:
    """Pairs of the base's completions between which the rater decides."""
    questions = packs.prompts("general", "train")
    random.Random(seed).shuffle(questions)
    sampling, votes, noise = Sampling(budget.max_tokens, temperature=SPREAD), [], random.Random(f"flips {seed}")
    while questions and len(votes) < budget.votes:
        batch = [questions.pop() for _ in range(min(CHUNK, len(questions)))]
        seeds = [seed * 100_000 + len(questions) * 2 + i for i in range(2 * len(batch))]
        both = base.complete([as_prompt(q) for q in batch for _ in range(2)], sampling, seeds)
        for i, question in enumerate(batch):
            better, worse = sorted(both[2 * i : 2 * i + 2], key=lambda s: -rate(question, s.text))
            if better.text and worse.text and rate(question, better.text) > rate(question, worse.text):
                order = (worse, better) if noise.random() < budget.flips else (better, worse)
                sides = (Completion(s.text, question, "student", 1, s.text, s.status) for s in order)
                votes.append(Example(as_prompt(question), *sides, conversation=question, rows=(question,)))
    return votes[: budget.votes]


def completions(engine: Engine, budget: Budget, seed: int) -> list[Sample]:
    prompts = [as_prompt(q) for q in packs.prompts("general", "heldout")[: budget.held_out]]
    return engine.complete(prompts, Sampling(budget.max_tokens), [seed * 7919 + i for i in range(len(prompts))])


def measured(base, before: list[Sample], method: str, votes: list[Example], rate: Rate, budget: Budget, seed) -> dict:
    """Train in a child, then compare with the base on the held-out prompts."""
    with tempfile.TemporaryDirectory() as directory:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
            cost = child.submit(train, base.source, method, votes, budget, seed, directory).result()
        engine = base.load(Path(directory))
    after = completions(engine, budget, seed)
    questions = packs.prompts("general", "heldout")[: budget.held_out]
    gains = [rate(q, new.text) - rate(q, old.text) for q, new, old in zip(questions, after, before, strict=True)]
    outcomes = Outcomes.of(gains)
    tokens = [np.mean([s.completion_tokens for s in samples]) for samples in (after, before)]
    repeats = [np.mean([repetition(s.text) for s in samples]) for samples in (after, before)]
    form = {"length": float(tokens[0] / tokens[1]), "repetition": float(repeats[0] - repeats[1])}
    return outcomes.as_dict() | cost | form | {"displacement": displacement(engine, base, votes)}


def displacement(engine: Engine, base: Engine, votes: list[Example]) -> float:
    """Log-probability, in nats per token, that the chosen completions of the training pairs gained."""
    prompts, chosen = [e.prompt for e in votes], [e.chosen.written for e in votes]
    after, before = (np.concatenate(e.logprobs(prompts, chosen)).mean() for e in (engine, base))
    return float(after - before)


def train(source: str, method: str, votes: list[Example], budget: Budget, seed: int, directory: str) -> dict:
    """In the child process: writes the adapter to `directory`; {"seconds", "peak MB"}, and the trust region's
    metrics."""
    from transformers import AutoTokenizer

    from kdloop.methods import METHODS, step_size
    from kdloop.methods.lora import Plan, trainable_student
    from kdloop.student.transformers import device_and_dtype

    model = trainable_student(source, None, device_and_dtype()[1], seed)
    start, start_time = step_size.parameters(model), time.monotonic()
    plan = Plan(seed, epochs=budget.epochs, max_tokens=budget.max_tokens, anchor=budget.anchor)
    METHODS[method].train(model, AutoTokenizer.from_pretrained(source), votes, plan, lambda *_: None)
    seconds, step = time.monotonic() - start_time, {}
    if budget.trust_region:
        base = TransformersEngine(source, dtype=device_and_dtype()[1])
        step = step_size.settle(model, start, base, base, budget.max_tokens, GATE_PROMPTS)
    model.save_pretrained(directory, selected_adapters=["default"])
    return step | {"seconds": seconds, "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def table(cells: list[dict]) -> str:
    """Markdown, one line per method over all raters and seeds, the best win rate first."""
    by_method = defaultdict(list)
    for cell in cells:
        by_method[cell["method"]].append(cell)
    lines = sorted((line(method, mine) for method, mine in by_method.items()), reverse=True)
    names = ["method", "win rate", "95 %", "n", *COLUMNS]
    return "\n".join([f"| {' | '.join(names)} |", "|---" * len(names) + "|", *(text for _, text in lines)])


def line(method: str, cells: list[dict]) -> tuple[float, str]:
    """(win rate, the line of the table)."""
    sums = Outcomes(*(sum(c[k] for c in cells) for k in ("wins", "losses", "ties")))
    low, high = sums.ci95
    context = [form.format(np.mean([c[name] for c in cells])) for name, form in COLUMNS.items()]
    parts = [f"`{method}`", f"{sums.win_rate:.2f}", f"{low:.2f} to {high:.2f}", str(sums.n), *context]
    return sums.win_rate, f"| {' | '.join(parts)} |"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m kdloop bench methods", description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", default=PREFERENCE)
    parser.add_argument(
        "--raters", nargs="+", default=["kdloop/evaluation/example_raters.py:concise"], help="FILE.py:function"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    for name, default in vars(Budget()).items():
        kind = {"action": "store_true"} if default is False else {"type": type(default), "default": default}
        parser.add_argument(f"--{name.replace('_', '-')}", **kind)
    parser.add_argument("--out", type=Path, default=Path("methods.jsonl"))
    args = parser.parse_args(argv)
    settings = Settings.from_environment()
    budget = Budget(**{name: getattr(args, name) for name in vars(Budget())})
    base = engines.transformers(settings)
    try:
        print(table(run(base, args.methods, args.raters, args.seeds, budget, args.out)))
    except ValueError as error:
        parser.error(str(error))
