"""A round's phases in kdloop and in a plain TRL script (plain_trl.py), with the same data and hyper-parameters."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch

from kdloop import packs
from kdloop.evaluation.bench import Figure, N
from kdloop.knowledge.self_knowledge import SPREAD
from kdloop.knowledge.self_knowledge import N as EACH
from kdloop.rounds.process import KEEP_MEMORY
from kdloop.settings import Settings
from kdloop.student import Sampling
from kdloop.student.base import find_student
from kdloop.student.transformers import TransformersEngine, device_and_dtype
from storage.conversations import Completion, as_prompt

PROMPTS, PAIRS, HELD_OUT = 4, 8, 8
PHASES = ("sample", "train", "judge")


def round_phases() -> Iterator[Figure]:
    """Medians in seconds, of alternating turns."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "job.json"
        settings = Settings.from_environment()
        source, limit = find_student(settings.student, settings.home), settings.round_max_tokens
        path.write_text(json.dumps(job(source, limit, own_pairs(source, limit))))
        turns = [
            (
                measured("kdloop.evaluation.bench.rounds", path, **KEEP_MEMORY),
                measured("kdloop.evaluation.bench.plain_trl", path),
            )
            for _ in range(N)
        ]
    ours, plain = ({k: statistics.median(t[i][k] for t in turns) for k in (*PHASES, "loss")} for i in (0, 1))
    for k in PHASES:
        yield Figure(f"plain TRL script ÷ a round: {k}", ours[k], plain[k], "s", plain[k] / ours[k])
    totals = [sum(found[k] for k in PHASES) for found in (ours, plain)]
    name = f"plain TRL script ÷ a round (mean loss {plain['loss']:.3f} and {ours['loss']:.3f})"
    yield Figure(name, *totals, unit="s", ratio=totals[1] / totals[0], bar=">= 2")


def measured(module: str, path: Path, **environment: str) -> dict:
    command, env = [sys.executable, "-m", module, str(path)], os.environ | environment
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return json.loads(ended.stdout.splitlines()[-1])


def own_pairs(source: str, limit: int, n: int = PAIRS) -> list[dict]:
    """Pairs of the student's own finished completions, the shorter one chosen."""
    questions = packs.prompts("general", "train")[PROMPTS:][: 4 * n]
    prompts = [as_prompt(q) for q in questions for _ in range(2)]
    samples = TransformersEngine(source).complete(prompts, Sampling(2 * limit), list(range(len(prompts))))
    return [
        {"prompt": q, "chosen": short.text, "rejected": long.text}
        for q, a, b in zip(questions, samples[::2], samples[1::2], strict=True)
        for short, long in [sorted((a, b), key=lambda s: s.completion_tokens)]
        if a.status == b.status == "finished" and a.text and b.text and a.text != b.text
    ][:n]


def job(source: str, limit: int, pairs: list[dict], prompts: int = 0, held_out: int = 0) -> dict:
    from kdloop.methods import dpo, lora

    return {
        "model": source,
        "prompts": packs.prompts("general", "train")[: prompts or PROMPTS],
        "n": EACH,
        "max_tokens": limit,
        "pairs": pairs,
        "held_out": packs.prompts("general", "gate")[: held_out or HELD_OUT],
        "anchor": lora.ANCHOR,
        "beta": dpo.BETA,
        "rank": lora.RANK,
        "batch": 8,
        "epochs": 2,
        "learning_rate": 2e-4,
        "seed": 1,
    }


def carry_out(job: dict) -> dict[str, float]:
    """The job in kdloop: seconds of each phase, mean loss, and on a GPU the peak memory."""
    from kdloop.feedback.examples import Example
    from kdloop.methods import METHODS
    from kdloop.methods.lora import Plan, trainable_student

    losses = []
    base = TransformersEngine(job["model"], dtype=device_and_dtype()[1])
    seeds, held_out = range(len(job["prompts"]) * job["n"]), [as_prompt(q) for q in job["held_out"]]
    judged, laps = (held_out, Sampling(job["max_tokens"], SPREAD), list(range(len(held_out)))), [time.monotonic()]
    prompts = [as_prompt(q) for q in job["prompts"] for _ in range(job["n"])]
    base.complete(prompts, Sampling(job["max_tokens"], SPREAD), list(seeds))
    laps.append(time.monotonic())
    base.complete(*judged)
    laps.append(time.monotonic())
    model = trainable_student(job["model"], None, base.dtype, job["seed"], base.untrained)
    sides = [[Completion("", "", "student", 1, p[k], "finished") for k in ("chosen", "rejected")] for p in job["pairs"]]
    examples = [
        Example(as_prompt(p["prompt"]), *both, conversation="", rows=())
        for p, both in zip(job["pairs"], sides, strict=True)
    ]
    plan = Plan(job["seed"], job["epochs"], job["learning_rate"], job["batch"])
    METHODS["dpo"].train(model, base.tokenizer, examples, plan, lambda step, steps, loss: losses.append(loss))
    laps.append(time.monotonic())
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(directory, selected_adapters=["default"])
        base.load(Path(directory)).complete(*judged)
    laps.append(time.monotonic())
    first, before, train, after = (b - a for a, b in pairwise(laps))
    found = {"sample": first, "train": train, "judge": before + after, "loss": statistics.mean(losses)}
    return found | ({"peak_gib": torch.cuda.max_memory_allocated() / 2**30} if base.on_gpu else {})


if __name__ == "__main__":
    print(json.dumps(carry_out(json.loads(Path(sys.argv[1]).read_text()))))
