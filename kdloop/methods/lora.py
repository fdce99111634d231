"""What every method here shares: what a method is, the adapter, CPU-safe trainer settings, and callbacks.

TRL's defaults assume a GPU: bf16 and gradient checkpointing on, NaN losses logged as 0. All three are set here.
"""

import math
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PrinterCallback, TrainerCallback

from kdloop.pairs import Example
from kdloop.student.transformers import device_and_dtype

RANK = 16
UNRECOMPUTED = 768  # tokens of a row; of longer ones training keeps no activations but computes them again

OnStep = Callable[[int, int, float | None], bool | None]  # (step, steps, loss) -> whether that is enough


Reward = Callable[[str, str], float]  # (question, completion) -> higher is better: a rater, a judge, a verifier


@dataclass(frozen=True)
class Plan:
    """What a method is told beside its examples. Most of it only some methods ask for."""

    seed: int
    epochs: float = 2
    learning_rate: float = 3e-4
    batch: int = 8
    max_tokens: int = 64  # of a completion that the method samples
    max_length: int = 2048  # tokens of prompt + completion: the chat's context; longer rows are left out whole
    teachers: tuple[str, ...] = ()  # model directories or Hub names; none: the untrained student teaches
    stored: Path | None = None  # where teachers' distributions lie (knowledge/feature.py): they do without the teacher
    system: str = ""  # the system prompt that `bake` turns into weights
    reward: Reward | None = None


@dataclass(frozen=True)
class Method:
    """One way to learn from examples. The texts are its entry in docs/methods.md."""

    usable: Callable[[Example], bool]
    train: Callable[..., dict[str, float]]  # (model, tokenizer, examples, plan, on_step) -> metrics
    needs: str
    loss: str
    paper: str
    defaults: str
    when: str
    weighs: bool = False  # its loss counts a row by the row's weight; else a round draws rows in proportion to it
    lacks: Callable[[Plan], str] = lambda plan: ""  # what it could learn nothing without, and how to give it


def no_teacher(plan: Plan) -> str:
    """Without models, the untrained student teaches: nothing to one that starts as it, what it was to another."""
    return "" if plan.teachers else "needs a teacher: KDLOOP_TEACHER_MODELS, a model directory or a Hub name"


class NothingToLearn(Exception):
    "The feedback holds too little that the method can use"


class Diverged(Exception):
    "The loss is no longer finite"


def trainable_student(source: str, adapter: Path | None, dtype: torch.dtype, seed: int) -> PeftModel:
    """The base student with a trainable adapter named `default`, as TRL wants it: the champion's, or a fresh one."""
    torch.manual_seed(seed)
    attention = "sdpa" if torch.cuda.is_available() else "eager"  # PyTorch's fused backward is slow on CPUs
    base = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, attn_implementation=attention)
    if adapter:
        return PeftModel.from_pretrained(base, adapter, is_trainable=True)
    config = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(base, config)


def common_arguments(plan: Plan, micro_batch: int) -> dict:
    """TrainingArguments of every method."""
    device, dtype = device_and_dtype()
    return {
        "output_dir": tempfile.mkdtemp(prefix="kdloop-"),
        "use_cpu": device == "cpu",
        "bf16": dtype is torch.bfloat16,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": max(1, plan.batch // micro_batch),
        "learning_rate": plan.learning_rate,
        "lr_scheduler_type": "cosine",
        "num_train_epochs": plan.epochs,
        "train_sampling_strategy": "sequential",  # the order that `bucketed` made
        "max_grad_norm": 1.0,
        "max_length": plan.max_length,
        "seed": plan.seed,
        "data_seed": plan.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def longest(row: dict[str, list[int]]) -> int:
    return max(len(ids) for ids in row.values())


def fitting(rows: list[dict], plan: Plan, length: Callable[[dict], int] = longest) -> list[dict]:
    """The rows within the plan's `max_length`, whole. Raises NothingToLearn where none is."""
    kept = [r for r in rows if length(r) <= plan.max_length]
    if len(kept) < len(rows):
        print(f"{len(rows) - len(kept)} of {len(rows)} rows left out: over {plan.max_length} tokens", flush=True)
    if rows and not kept:
        raise NothingToLearn(f"All {len(rows)} rows are longer than the {plan.max_length} tokens that are trained")
    return kept


def bucketed(rows: list[dict], micro_batch: int, seed: int, length: Callable[[dict], int] = longest) -> list[dict]:
    """Rows of similar length side by side, so that little of a micro-batch is padding; the micro-batches shuffled."""
    by_length = sorted(rows, key=length)
    batches = [by_length[at : at + micro_batch] for at in range(0, len(by_length), micro_batch)]
    random.Random(seed).shuffle(batches)
    batches.sort(key=len, reverse=True)  # a smaller one last: an earlier one would shift the borders of all that follow
    return [r for batch in batches for r in batch]


class Watch(TrainerCallback):
    """Reports each step and its loss, and stops where it is told; raises at a loss that is not finite."""

    def __init__(self, on_step: OnStep):
        self.on_step = on_step

    def on_log(self, args, state, control, logs=None, **kwargs):
        loss = (logs or {}).get("loss")
        if loss is not None:
            if not math.isfinite(loss):
                raise Diverged(f"Loss {loss} at step {state.global_step}: lower the learning rate")
            print(f"step {state.global_step} of {state.max_steps}, loss {loss:.4f}", flush=True)
            control.should_training_stop |= bool(self.on_step(state.global_step, state.max_steps, loss))


@contextmanager
def long_rows_recomputed(model) -> Iterator[None]:
    """Activation checkpointing (Chen et al. 2016) of batches whose rows are long: a row of 2048 tokens would keep some
    3 GB of a 135M model's activations, and attention more. Shorter ones are as fast as before."""
    student = getattr(model, "get_base_model", lambda: model)()
    if not student.supports_gradient_checkpointing:
        yield
        return
    student.activation_checkpointing_enable({"use_reentrant": False})
    layers = [m for m in student.modules() if hasattr(m, "gradient_checkpointing")]

    def recompute(long: bool) -> None:
        for layer in layers:
            layer.gradient_checkpointing = long

    def choose(module, args, named):
        ids = named.get("input_ids", args[0] if args else None)
        recompute(torch.is_grad_enabled() and ids is not None and ids.size(-1) > UNRECOMPUTED)

    hook = student.base_model.register_forward_pre_hook(choose, with_kwargs=True)
    recompute(False)  # trainers look whether any does
    try:
        yield
    finally:
        hook.remove()
        student.activation_checkpointing_disable()


def run(trainer, on_step: OnStep) -> dict[str, float]:
    """Train, and return the last logged value of every metric."""
    trainer.remove_callback(PrinterCallback)  # prints each log as a dict; Watch writes a line
    trainer.add_callback(Watch(on_step))
    with long_rows_recomputed(trainer.model):
        trainer.train()
    metrics: dict[str, float] = {}
    for logs in trainer.state.log_history:
        metrics |= {k: v for k, v in logs.items() if isinstance(v, (int, float))}
    bad = [name for name, p in trainer.model.named_parameters() if p.requires_grad and not p.isfinite().all()]
    if bad:
        raise Diverged(f"{len(bad)} adapter tensors are not finite, {bad[0]} among them")
    return metrics
