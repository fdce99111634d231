"""Reinforcement learning from checks against fine-tuning on the best of n, with as many samples per prompt.

    python -m kdloop bench reward --pack sums --methods rloo grpo --prompts 32 --held-out 64
    python -m kdloop bench reward --pack general --check '{"check": "words", "least": 5, "most": 25}'

Prints the mean reward of one sample per held-out prompt before and after, the difference with its 95 % interval, and
KL(pi | ref) on the student's own samples in nats per token. Reinforcement samples anew in each epoch, the control once.
"""

import argparse
import json
import time
from dataclasses import replace

import numpy as np
import torch
from transformers import AutoTokenizer

from kdloop import packs
from kdloop.evaluation.bench.divergence import ask
from kdloop.feedback.examples import Example
from kdloop.methods import METHODS, losses, supervised
from kdloop.methods.distill.white_box import Teacher
from kdloop.methods.lora import OnStep, Plan, trainable_student
from kdloop.methods.objective import completion_logits, sequence
from kdloop.methods.rl.reinforcement import GROUP_SIZE
from kdloop.methods.rl.reward_model import cut_is_worst
from kdloop.methods.self_training.self_teaching import write
from kdloop.rounds.selection import by_checks
from kdloop.settings import Settings
from kdloop.student.base import find_student
from kdloop.student.transformers import device_and_dtype
from storage.conversations import as_prompt

CONTROL = "best_of_n"


def best_of_n(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """The control: fine-tuning on the best of as many samples per prompt as reinforcement takes in an epoch.

    Prompts whose samples all get the same reward are skipped; their advantages are zero in reinforcement, too.
    """
    repeated = [e for e in examples for _ in range(GROUP_SIZE)]
    written = write(model, tokenizer, [e.prompt for e in repeated], plan)
    kept = []
    for i, e in enumerate(examples):
        group = written[i * GROUP_SIZE :][:GROUP_SIZE]
        rewards = cut_is_worst([plan.reward(e.prompt, *k.said) for k in group], [k.said[1] for k in group])
        if max(rewards) > min(rewards):
            kept.append(replace(e, chosen=group[int(np.argmax(rewards))]))
    return supervised.train(model, tokenizer, kept, plan, on_step)


def arms(names: list[str]) -> dict:
    return {CONTROL: best_of_n} | {name: METHODS[name].train for name in names}


@torch.no_grad()
def measure(model, tokenizer, questions: list[str], plan: Plan) -> tuple[np.ndarray, float]:
    """((n,) rewards of one sample per question, KL(pi | ref) on them in nats per token); ref is the base student."""
    torch.manual_seed(plan.seed)
    written = write(model, tokenizer, [as_prompt(q) for q in questions], plan)
    own, divergences = [sequence(tokenizer, as_prompt(q), k) for q, k in zip(questions, written, strict=True)], []
    for at in range(0, len(own), plan.batch):
        batch = own[at : at + plan.batch]
        z, targets = completion_logits(model, batch)
        p, q = (x[targets != -100].log_softmax(-1) for x in (z, Teacher().logits(model, batch)))
        divergences.append(losses.forward_kl(p, q))
    rewards = [plan.reward(as_prompt(q), *k.said) for q, k in zip(questions, written, strict=True)]
    return np.array(rewards), torch.cat(divergences).mean().item()


def run(source: str, names: list[str], prompts: list[str], held_out: list[str], plan: Plan) -> list[dict]:
    """One row of the table for the control and for each method."""
    return compare(source, arms(names), [ask(q) for q in prompts], held_out, plan)


def compare(source: str, arms: dict, examples: list[Example], held_out: list[str], plan: Plan) -> list[dict]:
    """Prints the table row by row; each arm (a method's `train`) starts from the same untrained student."""
    print(
        "| arm | mean reward | difference (95 %) | n | KL(pi, ref) | seconds |", "|---" * 6 + "|", sep="\n", flush=True
    )
    tokenizer, dtype = AutoTokenizer.from_pretrained(source), device_and_dtype()[1]
    before, _ = measure(trainable_student(source, None, dtype, plan.seed), tokenizer, held_out, plan)
    rows = []
    for name, train in arms.items():
        model, start = trainable_student(source, None, dtype, plan.seed), time.monotonic()
        torch.manual_seed(plan.seed)
        train(model, tokenizer, examples, plan, lambda *_: None)
        seconds = time.monotonic() - start
        after, kl = measure(model, tokenizer, held_out, plan)
        gain, spread = after - before, 1.96 * (after - before).std(ddof=1) / len(after) ** 0.5
        row = {"arm": name, "n": len(after), "before": before.mean(), "after": after.mean(), "kl": kl}
        rows.append(row | {"low": gain.mean() - spread, "high": gain.mean() + spread, "seconds": seconds})
        print(line(rows[-1]), flush=True)
    return rows


def line(row: dict) -> str:
    gain = f"{row['after'] - row['before']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
    rewards = f"{row['before']:.3f} to {row['after']:.3f}"
    return f"| `{row['arm']}` | {rewards} | {gain} | {row['n']} | {row['kl']:.3f} | {row['seconds']:.0f} |"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m kdloop bench reward", description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", default=["rloo", "grpo"])
    parser.add_argument("--pack", default="sums", help="its checks are the reward")
    parser.add_argument("--check", type=json.loads, help="a check, as in a pack, in place of the pack's own")
    parser.add_argument("--max-tokens", type=int, help="per completion; else the pack's")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--held-out", type=int, default=64)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--learning-rate", type=float, default=Plan(0).learning_rate)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    settings, tokens = Settings.from_environment(), args.max_tokens or packs.load(args.pack).max_tokens
    tasks = {part: packs.tasks(args.pack, part)[:n] for part, n in (("train", args.prompts), ("gate", args.held_out))}
    if args.check:
        tasks = {part: [replace(t, checks=(args.check,)) for t in mine] for part, mine in tasks.items()}
    reward = by_checks([t for part in tasks.values() for t in part])
    if reward is None:
        parser.error(f"The pack {args.pack} has prompts without checks")
    options = {"max_tokens": tokens or settings.round_max_tokens, "reward": reward, "epochs": args.epochs}
    plan = Plan(args.seed, learning_rate=args.learning_rate, **options)
    questions = {part: [t.prompt for t in mine] for part, mine in tasks.items()}
    run(find_student(settings.student, settings.home), args.methods, questions["train"], questions["gate"], plan)
