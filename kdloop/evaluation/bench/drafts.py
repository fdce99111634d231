"""Does the student learn more from drafts that help it as in-context examples (knowledge/preferred.py)? Fine-tuning on
the best and on the worst quarter of a teacher's drafts, and on a random quarter.

    python -m kdloop bench drafts --pack additions --prompts 300 --held-out 500

Prints the mean reward of one sample per held-out prompt before and after, as `bench reward` does.
"""

import argparse
import random
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from kdloop import packs
from kdloop.evaluation.bench.reward import compare
from kdloop.feedback.examples import Example
from kdloop.knowledge import preferred
from kdloop.knowledge.rows import SourceContext
from kdloop.methods import supervised
from kdloop.methods.lora import Plan
from kdloop.raters.teacher import Teacher, Teachers
from kdloop.rounds.selection import by_checks
from kdloop.settings import Settings
from kdloop.student import Sampling
from kdloop.student.base import find_student
from kdloop.student.transformers import TransformersEngine
from storage import checkpoints, rounds
from storage.conversations import Completion, as_prompt
from storage.database import open_database

SHARE = 0.25  # of the drafts, in each arm


def run(source: str, writer: str, pack: str, prompts: int, probes: int, held_out: int, plan: Plan) -> list[dict]:
    """One row of the table per arm. `writer` is the teacher's model directory. Raises ValueError for too few correct
    drafts, and Refused for a pack without checks."""
    train_tasks, held_out_tasks = packs.tasks(pack, "train")[:prompts], packs.tasks(pack, "gate")[:held_out]
    with tempfile.TemporaryDirectory() as directory:
        context = source_context(open_database(Path(directory) / "drafts.db"), source, writer, pack, plan)
        drafts, scores = preferred.scored(context, train_tasks, probes)
    each = round(SHARE * len(drafts))
    if not each:
        written = len(preferred.DRAFT_TEMPLATES) * len(train_tasks)
        raise ValueError(f"{len(drafts)} of {written} drafts are right: give more --prompts")
    rows_of, examples = quarters(scores, each, plan.seed), [liked(*d) for d in drafts]
    for name, rows in rows_of.items():
        print(f"{name}: {each} of {len(drafts)} right drafts, mean score {scores[rows].mean():.3f}", flush=True)
    arms = {name: partial(on, [examples[i] for i in rows]) for name, rows in rows_of.items()}
    plan = replace(plan, reward=by_checks([*train_tasks, *held_out_tasks]))
    return compare(source, arms, [], [t.prompt for t in held_out_tasks], plan)


def source_context(db: Path, source: str, writer: str, pack: str, plan: Plan) -> SourceContext:
    base, engine = checkpoints.ensure_base(db), TransformersEngine(source)
    round = rounds.start_round(db, requested="sft", seed=plan.seed, started_by="bench", owner="bench")
    teachers = Teachers(db, [Teacher("drafts", directory=writer, terms="allowed")])
    writers, sampling = ((engine, base),), Sampling(plan.max_tokens)
    return SourceContext(db, round, writers, sampling, packs.load(pack), teachers=teachers, on_step=print_progress)


def print_progress(step: int, steps: int) -> None:
    print(f"{step} of {steps} completions", file=sys.stderr, flush=True)


def quarters(scores: np.ndarray, each: int, seed: int) -> dict[str, list[int]]:
    """Arm -> indices of its drafts."""
    order = np.argsort(-scores, kind="stable").tolist()
    return {"best": order[:each], "worst": order[-each:], "any": random.Random(seed).sample(order, each)}


def liked(task, answer, template: str) -> Example:
    completion = Completion(template, "", "teacher", None, answer.text, answer.status)
    return Example(as_prompt(task.prompt), completion, None, task.prompt, (task.prompt,))


def on(examples: list[Example], model, tokenizer, _, plan: Plan, on_step) -> dict[str, float]:
    return supervised.train(model, tokenizer, examples, plan, on_step)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m kdloop bench drafts", description=__doc__.split("\n")[0])
    parser.add_argument("--teacher", help="the teacher's model directory; else the student itself")
    parser.add_argument("--pack", default="additions", help="its checks filter the drafts and are the reward")
    parser.add_argument("--prompts", type=int, default=300, help="with one draft per template")
    parser.add_argument("--probes", type=int, default=24)
    parser.add_argument("--held-out", type=int, default=500)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    settings = Settings.from_environment()
    tokens = packs.load(args.pack).max_tokens or settings.round_max_tokens
    source, plan = find_student(settings.student, settings.home), Plan(args.seed, args.epochs, max_tokens=tokens)
    run(source, args.teacher or source, args.pack, args.prompts, args.probes, args.held_out, plan)
