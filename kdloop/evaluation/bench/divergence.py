"""Divergence methods at equal steps: the student with a system prompt teaches the student without it.

    python -m kdloop bench divergence --methods forward_kl reverse_kl taid --prompts 24 --held-out 12

Prints, on held-out prompts, before and after training: both KL divergences between teacher and student, the NLL of the
untrained student's own completions, and the share of completions that match the regular expression --rule at their
beginning. The method `bake` is Prompt Baking.
"""

import argparse
import math
import re
import time
from dataclasses import replace
from functools import partial

import torch
from transformers import AutoTokenizer

from kdloop import packs
from kdloop.feedback.examples import Example
from kdloop.methods import METHODS, losses
from kdloop.methods.distill import divergence
from kdloop.methods.distill.white_box import Teacher
from kdloop.methods.lora import Plan, trainable_student
from kdloop.methods.objective import completion_logits, sequence, sequence_logps
from kdloop.methods.self_training.self_teaching import with_system, write
from kdloop.settings import Settings
from kdloop.student.base import find_student
from kdloop.student.template import Template
from kdloop.student.transformers import device_and_dtype
from storage.conversations import Completion, as_prompt

SYSTEM = "You are a pirate. Answer like a pirate."
PLAIN_TOKENS = 96  # of the completions without the system prompt
NAMES = [*divergence.METHODS, "speculative_kd", "bake"]


class HeldOut:
    """Held-out prompts with the untrained student's completions, with the system prompt and without."""

    def __init__(self, model, tokenizer, with_prompt, questions: list[str], plan: Plan, rule: str):
        self.tokenizer, self.with_prompt, self.plan, self.rule = tokenizer, with_prompt, plan, rule
        self.examples = [ask(q) for q in questions]
        self.prompted = write(model, tokenizer, [with_prompt(e) for e in self.examples], plan)
        self.plain = write(model, tokenizer, [e.prompt for e in self.examples], replace(plan, max_tokens=PLAIN_TOKENS))

    def sequences(self, completions: list[Completion]) -> list:
        return [sequence(self.tokenizer, e.prompt, k) for e, k in zip(self.examples, completions, strict=True)]

    @torch.no_grad()
    def measure(self, model) -> tuple[float, float, float, float]:
        """(KL(p | q), KL(q | p), NLL of the plain completions, in nats per token; share that matches the rule, or
        nan)."""
        divergences, nll, n = [], 0.0, 0
        for e, own in zip(self.examples, self.sequences(self.prompted), strict=True):
            prompted = Template.of(self.tokenizer).prompt_ids(self.with_prompt(e)), own[1]
            student, _ = completion_logits(model, [own])
            p, q = (z.log_softmax(-1) for z in (Teacher().logits(model, [prompted]), student))
            divergences.append(torch.stack([losses.forward_kl(p, q), losses.reverse_kl(p, q)])[:, 0])
        for own in self.sequences(self.plain):
            logps, length = sequence_logps(model, [own])
            nll, n = nll - float(logps), n + int(length)
        return *torch.cat(divergences, 1).mean(1).tolist(), nll / n, self.obey(model) if self.rule else math.nan

    def obey(self, model) -> float:
        written = write(model, self.tokenizer, [e.prompt for e in self.examples], self.plan)
        return sum(bool(re.match(self.rule, k.text)) for k in written) / len(written)


def ask(question: str) -> Example:
    return Example(as_prompt(question), None, None, question, (question,))


def run(source: str, methods: list[str], prompts: int, held_out: list[str], plan: Plan, rule: str = "") -> list[str]:
    """One line of the table per method; all train on the same texts of the teacher and start from the same student."""
    tokenizer, with_prompt, lines = AutoTokenizer.from_pretrained(source), partial(with_system, plan.system), []
    torch.manual_seed(plan.seed)
    model = trainable_student(source, None, device_and_dtype()[1], plan.seed)
    held = HeldOut(model, tokenizer, with_prompt, held_out, plan, rule)
    questions = [ask(q) for q in packs.prompts("general", "train")[:prompts]]
    written = write(model, tokenizer, [with_prompt(e) for e in questions], plan)
    examples = [Example(e.prompt, k, None, e.conversation, e.rows) for e, k in zip(questions, written, strict=True)]
    before = held.measure(model)
    for name in methods:
        model, start = trainable_student(source, None, device_and_dtype()[1], plan.seed), time.monotonic()
        context = {} if name == "bake" else {"teacher_prompt": with_prompt}
        METHODS[name].train(model, tokenizer, examples, plan, lambda *_: None, **context)
        seconds, after = time.monotonic() - start, held.measure(model)
        pairs = zip(before, after, strict=True)
        changes = " | ".join("" if math.isnan(a) else f"{b:.3f} to {a:.3f}" for b, a in pairs)
        lines.append(f"| `{name}` | {changes} | {seconds:.0f} |")
        print(lines[-1], flush=True)
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m kdloop bench divergence", description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", default=NAMES)
    parser.add_argument(
        "--system", default=SYSTEM, help="lines that begin with User: and Assistant: are few-shot examples"
    )
    parser.add_argument("--rule", default="", help="a regular expression for the beginning of completions")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--held-out", type=int, default=12)
    parser.add_argument("--part", choices=packs.PARTS[1:], default="gate", help="of the pack, for the held-out prompts")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--learning-rate", type=float, default=Plan(0).learning_rate)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    settings = Settings.from_environment()
    options = {"epochs": args.epochs, "learning_rate": args.learning_rate, "max_tokens": args.max_tokens}
    plan = Plan(args.seed, system=args.system, **options)
    print(
        "| method | KL(p, q) | KL(q, p) | NLL of own completions | obey | seconds |",
        "|---" * 6 + "|",
        sep="\n",
        flush=True,
    )
    source = find_student(settings.student, settings.home)
    held_out = packs.prompts("general", args.part)[: args.held_out]
    run(source, args.methods, args.prompts, held_out, plan, args.rule)
