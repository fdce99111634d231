"""What all methods share: what a method and its plan are, the adapter, the trainer's arguments, and how it is run.

TRL's defaults assume a GPU: bf16 and gradient checkpointing on, NaN losses logged as 0. All three are set here.
"""

import math
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PrinterCallback, TrainerCallback

from kdloop.feedback.examples import Example
from kdloop.methods import parallel
from kdloop.methods.parts import Parts
from kdloop.student import memory, quantized
from kdloop.student.base import read_weights
from kdloop.student.journal import Journal
from kdloop.student.merging import updated
from kdloop.student.norms import fuse_norms
from kdloop.student.transformers import device_and_dtype
from storage.conversations import Message

RANK = 16  # of the adapter, on every linear layer, 4 % of SmolLM2-135M's weights; alpha is twice the rank
ANCHOR = 4.0  # won 0.83 at an NLL of -1.9 %; weight 1 won 0.77 at +3.9 %, none 0.66 at +4.1 % (docs/log.md)
RECOMPUTE_ABOVE = 768  # tokens of a row: its activations fit a laptop beside the model; those of 2048 are 3 GB

OnStep = Callable[[int, int, float | None], bool | None]  # (step, steps, loss) -> whether to stop
Reward = Callable[[list[Message], str, bool], float]  # (prompt, completion, did its author end it) -> higher is better
REMEDIES = {  # what a method may require: a field of Plan, and how people give it
    "teachers": "needs a teacher: KDLOOP_TEACHER_MODELS, a model directory or a Hub name",
    "system": "needs a system prompt: KDLOOP_BAKE",
    "reward": "needs a verifier: a pack with checks, or a proven preference model",
}


@dataclass(frozen=True)
class Plan:
    """What a method is given beside its examples. Most fields are for some methods alone."""

    seed: int
    epochs: float = 2
    learning_rate: float = 3e-4
    batch: int = 8
    max_tokens: int = 64  # of a completion that the method samples
    max_length: int = 2048  # tokens of prompt + completion: the chat's context; longer rows are left out whole
    teachers: tuple[str, ...] = ()  # model directories or Hub names; none: the untrained student is the teacher
    stored: Path | None = None  # folder of teachers' stored distributions (knowledge/feature.py), in place of a teacher
    system: str = ""  # the system prompt that `bake` turns into weights
    reward: Reward | None = None
    right: float = 1.0  # the least reward of a right completion: 1 where all checks hold (`star`)
    anchor: float = ANCHOR  # weight of NLL(chosen) beside a loss of pairs; 0 is the paper's loss
    journal: Journal | None = None  # of a training in parts (IN_PARTS); None: in one go


@dataclass(frozen=True)
class Method:
    """One way to learn from examples. The texts are its entry in docs/methods.md.

    `differs_from_paper` is required: where the code departs from the paper, or "nothing known". Raises ValueError where
    it is empty.
    """

    usable: Callable[[Example], bool]
    train: Callable[..., dict[str, float]]  # (model, tokenizer, examples, plan, on_step) -> metrics
    needs: str
    loss: str
    paper: str
    defaults: str
    when: str
    differs_from_paper: str
    weighs: bool = False  # its loss weights each row by its example; else a round draws rows in proportion to it
    requires: tuple[str, ...] = ()  # fields of Plan of which one must be set: without it there is nothing to learn

    def __post_init__(self):
        if not self.differs_from_paper.strip():
            raise ValueError(f"The method after {self.paper} does not say what differs from the paper")

    def lacks(self, plan: Plan) -> str:
        """What the plan is missing and how to give it, as the predicate of a sentence; "" where nothing is missing."""
        missing = self.requires and not any(getattr(plan, field) for field in self.requires)
        return REMEDIES[self.requires[0]] if missing else ""


class NothingToLearn(Exception):
    "The feedback holds too little that the method can use"


class Diverged(Exception):
    "The loss is no longer finite"


def trainable_student(
    source: str,
    adapter: Path | None,
    dtype: torch.dtype,
    seed: int,
    untrained=None,
    elsewhere: bool = False,
    read_to: str = "",
) -> PeftModel:
    """The base student with a trainable adapter named `default`, as TRL wants it: the one in `adapter`, or a fresh one.

    On the device where it will be trained, so that what is sampled and copied before the first step, and a teacher
    beside it, are there too; `read_to` names another. On a GPU, in 4 bits, or where it is trained `elsewhere`, by other
    processes, the frozen weights are shared with `untrained`, an engine's model, where given. Raises NoStudent where
    the weights in `source` cannot be read.
    """
    torch.manual_seed(seed)
    device = device_and_dtype()[0]
    attention = "eager" if device == "cpu" else "sdpa"  # a DPO step of 8 pairs on a CPU: 4.05 s, with sdpa 4.9 s
    if untrained is not None and (elsewhere or device == "cuda" or quantized.is_quantized(untrained)):
        base = updated(untrained, {})
        base.is_loaded_in_4bit = False  # else TRL rounds the adapter to bf16, where small steps change nothing
    else:
        base = read_weights(source, dtype, read_to or device, attn_implementation=attention)
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
    """Rows per forward pass. A CPU is fastest with few, which fit its caches; a GPU takes the largest divisor of the
    batch that its free memory holds. `tokens` has the tokens read per row, of all its sequences. The parts of a
    training keep that of the first: the order of the rows depends on it."""
    if plan.journal:
        first = replace(plan, journal=None)
        return plan.journal.once("micro-batch", lambda: micro_batch(model, first, on_cpu, tokens))
    device, dtype = device_and_dtype()
    most = max(1, plan.batch // parallel.size())  # a part of each step for every process
    if device != "cuda":
        return min(on_cpu, most)
    fits = memory.trained(model.config, dtype, max(tokens, default=1), memory.free(device))
    fits = min(parallel.least(fits, device), most)
    return next(n for n in (plan.batch // k for k in range(1, plan.batch + 1) if plan.batch % k == 0) if n <= fits)


def longest(row: dict[str, list[int]]) -> int:
    """Tokens of a row's longest list."""
    return max(len(ids) for ids in row.values())


def fitting(rows: list[dict], plan: Plan, length: Callable[[dict], int] = longest) -> list[dict]:
    """The rows of at most `plan.max_length` tokens; the others are dropped whole, never cut, and counted. Raises
    NothingToLearn where all are longer."""
    kept = [r for r in rows if length(r) <= plan.max_length]
    if len(kept) < len(rows):
        print(f"{len(rows) - len(kept)} of {len(rows)} rows left out: over {plan.max_length} tokens", flush=True)
    if rows and not kept:
        raise NothingToLearn(f"All {len(rows)} rows are longer than the {plan.max_length} tokens that are trained")
    return kept


def bucketed(rows: list[dict], micro_batch: int, seed: int, length: Callable[[dict], int] = longest) -> list[dict]:
    """Rows of similar length in the same micro-batch, so that little of it is padding; the micro-batches shuffled."""
    by_length = sorted(rows, key=length)
    batches = [by_length[at : at + micro_batch] for at in range(0, len(by_length), micro_batch)]
    random.Random(seed).shuffle(batches)
    batches.sort(key=len, reverse=True)  # a smaller one last: before others it would shift their borders
    return [r for batch in batches for r in batch]


class StepCallback(TrainerCallback):
    """Calls `on_step` after each step and stops where that returns True. Raises Diverged where a loss is not finite."""

    def __init__(self, on_step: OnStep):
        self.on_step = on_step

    def on_log(self, args, state, control, logs=None, **kwargs):
        loss = (logs or {}).get("loss")
        if loss is not None:
            if not math.isfinite(loss):
                raise Diverged(f"Loss {loss} at step {state.global_step}: lower the learning rate")
            print(f"step {state.global_step} of {state.max_steps}, loss {loss:.4f}", flush=True)
            stop = bool(self.on_step(state.global_step, state.max_steps, loss))
            control.should_training_stop |= parallel.agreed(stop, args.device)


@contextmanager
def long_rows_recomputed(model) -> Iterator[None]:
    """Activation checkpointing (Chen et al. 2016) of long micro-batches alone: TRL's own would slow down the
    shorter ones, too. On a CPU of those with more than RECOMPUTE_ABOVE tokens per row: one of 2048 would keep some 3 GB
    of a 135M model's activations, and attention more. On a GPU of those that exceed its free memory."""
    student = getattr(model, "get_base_model", lambda: model)()
    if not student.supports_gradient_checkpointing:
        yield
        return
    student.activation_checkpointing_enable({"use_reentrant": False})
    layers = [m for m in student.modules() if hasattr(m, "gradient_checkpointing")]
    device, dtype = device_and_dtype()
    room = memory.kept_tokens(student.config, dtype, memory.free(device)) if device == "cuda" else None

    def recompute(long: bool) -> None:
        for layer in layers:
            layer.gradient_checkpointing = long

    def choose(module, args, named):
        ids = named.get("input_ids", args[0] if args else None)
        long = ids is not None and (ids.numel() > room if room is not None else ids.size(-1) > RECOMPUTE_ABOVE)
        recompute(torch.is_grad_enabled() and long)

    hook = student.base_model.register_forward_pre_hook(choose, with_kwargs=True)
    recompute(False)  # trainers ask before the first batch
    try:
        yield
    finally:
        hook.remove()
        student.activation_checkpointing_disable()


@contextmanager
def without_module_walks(model) -> Iterator[None]:
    """Within this context `model.train()`, `model.zero_grad()` and `model.parameters()` do not walk through thousands
    of modules at each step: the first returns where the mode is the same, the others know which parameters have
    gradients. Clipping these took a tenth of a step on a GPU."""
    set_mode, trained = model.train, [p for p in model.parameters() if p.requires_grad]

    def train(mode: bool = True):
        return model if model.training is mode else set_mode(mode)

    def zero_grad(set_to_none: bool = True) -> None:
        for p in trained:
            p.grad = None

    model.train, model.zero_grad, model.parameters = train, zero_grad, lambda recurse=True: iter(trained)
    try:
        yield
    finally:
        del model.train, model.zero_grad, model.parameters  # the class's own


def run(trainer, on_step: OnStep, journal: Journal | None = None) -> dict[str, float]:
    """Train, and return the last logged value of every metric. Raises Diverged where the loss, or the adapter in the
    end, is not finite, and OutOfTime where the `journal`'s time is up: the next part goes on from there."""
    trainer.remove_callback(PrinterCallback)  # prints each log as a dict; StepCallback prints a line
    trainer.add_callback(StepCallback(on_step))
    trainer.floating_point_ops = lambda inputs: 0  # would count all parameters at each step
    checkpoint = None
    if journal:
        trainer.add_callback(parts := Parts(trainer, on_step, journal))
        checkpoint = parts.resume()
    with long_rows_recomputed(trainer.model), without_module_walks(trainer.model), parallel.shared_steps(trainer):
        trainer.train(resume_from_checkpoint=checkpoint)
    metrics: dict[str, float] = {}
    for logs in trainer.state.log_history:
        metrics |= {k: v for k, v in logs.items() if isinstance(v, (int, float))}
    bad = [name for name, p in trainer.model.named_parameters() if p.requires_grad and not p.isfinite().all()]
    if bad:
        raise Diverged(f"{len(bad)} adapter tensors are not finite, {bad[0]} among them")
    return metrics
