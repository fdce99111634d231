"""What every method here shares: what a method is, the adapter, CPU-safe trainer settings, and callbacks.

TRL's defaults assume a GPU: bf16 and gradient checkpointing on, NaN losses logged as 0. All three are set here.
"""

import math
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PrinterCallback, TrainerCallback

from kdloop.feedback.examples import Example
from kdloop.student import memory
from kdloop.student.base import read_weights
from kdloop.student.merging import updated
from kdloop.student.norms import fuse_norms
from kdloop.student.transformers import device_and_dtype
from storage.conversations import Message

RANK = 16
ANCHOR = 4.0  # with it the student's own completions get likelier, so a step can be longer (docs/log.md)
UNRECOMPUTED = 768  # tokens of a row; of longer ones training keeps no activations but computes them again

OnStep = Callable[[int, int, float | None], bool | None]  # (step, steps, loss) -> whether that is enough


# (prompt, completion, whether its author ended it) -> higher is better: a rater, a judge, a verifier
Reward = Callable[[list[Message], str, bool], float]


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
    right: float = 1.0  # from this reward on a completion counts as right: all checks hold (`star`)
    anchor: float = ANCHOR  # weight of NLL(chosen) beside a loss of pairs; 0 is the paper's loss


@dataclass(frozen=True)
class Method:
    """One way to learn from examples. The texts are its entry in docs/methods.md.

    Raises ValueError where `differs_from_paper` says nothing: what is the same as the paper says "nothing known".
    """

    usable: Callable[[Example], bool]
    train: Callable[..., dict[str, float]]  # (model, tokenizer, examples, plan, on_step) -> metrics
    needs: str
    loss: str
    paper: str
    defaults: str
    when: str
    differs_from_paper: str
    weighs: bool = False  # its loss counts a row by the row's weight; else a round draws rows in proportion to it
    lacks: Callable[[Plan], str] = lambda plan: ""  # what it could learn nothing without, and how to give it

    def __post_init__(self):
        if not self.differs_from_paper.strip():
            raise ValueError(f"The method after {self.paper} does not say what differs from the paper")


def no_teacher(plan: Plan) -> str:
    """Without models, the untrained student teaches: nothing to one that starts as it, what it was to another."""
    return "" if plan.teachers else "needs a teacher: KDLOOP_TEACHER_MODELS, a model directory or a Hub name"


class NothingToLearn(Exception):
    "The feedback holds too little that the method can use"


class Diverged(Exception):
    "The loss is no longer finite"


def trainable_student(source: str, adapter: Path | None, dtype: torch.dtype, seed: int, untrained=None) -> PeftModel:
    """The base student with a trainable adapter named `default`, as TRL wants it: the champion's, or a fresh one.

    It lies where it will be trained from the start: what is read, sampled and copied before the first step, and a
    teacher that is put beside it, would lie elsewhere else. On a GPU the frozen weights are those of `untrained`, an
    engine's, where that is given: they lie there once.
    """
    torch.manual_seed(seed)
    device = device_and_dtype()[0]
    attention = "eager" if device == "cpu" else "sdpa"  # PyTorch's fused backward is slow on CPUs
    if untrained is not None and device == "cuda":
        base = updated(untrained, {})
    else:
        base = read_weights(source, dtype, attn_implementation=attention).to(device)
    if device == "cuda":
        fuse_norms(base)
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


def micro_batch(model, plan: Plan, on_cpu: int, tokens: Iterable[int]) -> int:
    """Rows that go through the model at once. A CPU is fastest with few, which fit its caches; a GPU takes the whole
    batch where its free memory holds that. `tokens` are the rows' own, of all that is read for each."""
    device, dtype = device_and_dtype()
    if device != "cuda":
        return on_cpu
    fits = memory.trained(model.config, dtype, max(tokens, default=1), memory.free(device))
    return next(n for n in (plan.batch // k for k in range(1, plan.batch + 1) if plan.batch % k == 0) if n <= fits)


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


@contextmanager
def spared(model) -> Iterator[None]:
    """Meanwhile the model's thousands of modules are not walked through at each step to be told again that they train,
    nor for gradients where none can be."""
    whole, trained = model.train, [p for p in model.parameters() if p.requires_grad]

    def train(mode: bool = True):
        return model if model.training is mode else whole(mode)

    def zero_grad(set_to_none: bool = True) -> None:
        for p in trained:
            p.grad = None

    model.train, model.zero_grad = train, zero_grad
    try:
        yield
    finally:
        del model.train, model.zero_grad  # the class's own


def run(trainer, on_step: OnStep) -> dict[str, float]:
    """Train, and return the last logged value of every metric."""
    trainer.remove_callback(PrinterCallback)  # prints each log as a dict; Watch writes a line
    trainer.add_callback(Watch(on_step))
    trainer.floating_point_ops = lambda inputs: 0  # would count all parameters at each step
    with long_rows_recomputed(trainer.model), spared(trainer.model):
        trainer.train()
    metrics: dict[str, float] = {}
    for logs in trainer.state.log_history:
        metrics |= {k: v for k, v in logs.items() if isinstance(v, (int, float))}
    bad = [name for name, p in trainer.model.named_parameters() if p.requires_grad and not p.isfinite().all()]
    if bad:
        raise Diverged(f"{len(bad)} adapter tensors are not finite, {bad[0]} among them")
    return metrics
