"""A loss of our own in transformers' Trainer, for what TRL does not have: ranking, divergence, similarity, weights.

An objective is given the model, a micro-batch of rows and the training's progress, and returns the micro-batch's mean
loss. A row is a dict with token ids under `sequences` and whatever else the method needs. Sequences are padded on the
left, so that completions end at the same position and `logits_to_keep` computes logits of the completions alone.
"""

from collections import defaultdict
from collections.abc import Callable, Collection

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import Trainer
from trl import SFTConfig

from kdloop.methods import parallel
from kdloop.methods.lora import OnStep, Plan, bucketed, common_arguments, fitting, micro_batch, run
from kdloop.student import memory
from kdloop.student.template import Template
from kdloop.student.transformers import device_and_dtype, last, pad_left
from storage.conversations import Completion, Message

Sequence = tuple[list[int], list[int]]  # ids of a prompt, ids of its completion
Numbers = dict[str, float]  # logged beside the loss
Objective = Callable[..., tuple[Tensor, Numbers]]  # (model, rows, progress from 0 to 1) -> (mean loss (), numbers)
MICRO_BATCH = 4  # rows, on a CPU


class ObjectiveTrainer(Trainer):
    "Trains on an objective, and logs the means of its numbers"

    loss_is_scaled_for_ga = False  # it is the mean of a micro-batch: Trainer divides by the number of these

    def __init__(self, objective: Objective, **arguments):
        super().__init__(data_collator=lambda rows: {"rows": rows}, **arguments)
        self.objective, self.numbers = objective, defaultdict(list)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, numbers = self.objective(model, inputs["rows"], self.state.global_step / self.state.max_steps)
        for name, value in numbers.items():
            self.numbers[name].append(value)
        return (loss, None) if return_outputs else loss

    def log(self, logs, *arguments):
        means = {name: sum(values) / len(values) for name, values in self.numbers.items()}
        self.numbers.clear()
        super().log(logs | means, *arguments)

    def floating_point_ops(self, inputs) -> int:
        return 0  # Trainer's own looks for `input_ids`


def fit(model, rows: list[dict], objective: Objective, plan: Plan, on_step: OnStep, ordered: bool = False) -> Numbers:
    """Train on rows, each with its `sequences`; in the order given where `ordered`, else batched by length. Returns the
    last logged metrics; raises NothingToLearn where all rows are too long."""
    rows = fitting(rows, plan, tokens)
    size = micro_batch(model, plan, MICRO_BATCH, (len(r["sequences"]) * tokens(r) for r in rows))
    if not ordered:
        rows = bucketed(rows, size, plan.seed, tokens)
    config = SFTConfig(**common_arguments(plan, size), remove_unused_columns=False)
    trainer = ObjectiveTrainer(objective, model=model, args=config, train_dataset=rows)
    return run(trainer, on_step, plan.journal)


def tokens(row: dict) -> int:
    """The length of a row's longest sequence, after the student's prompt or the teacher's."""
    teacher_prompt = len(row.get("teacher_prompt", ()))
    return max(max(len(prompt), teacher_prompt) + len(completion) for prompt, completion in row["sequences"])


def sequence(tokenizer, prompt: list[Message], completion: Completion) -> Sequence:
    """Untruncated: rows that are too long are dropped (lora.fitting)."""
    template = Template.of(tokenizer)
    return template.prompt_ids(prompt), template.completion_ids(*completion.written)


def completion_logits(model, sequences: list[Sequence], **arguments) -> tuple[Tensor, Tensor]:
    """((n, k, vocabulary) logits in fp32 that predict the completions, (n, k) their tokens, -100 at padding); k is the
    length of the longest completion, and shorter ones are padded on the left."""
    output, targets = forward(model, sequences, **arguments)
    return output.logits[:, :-1].float(), targets


def forward(model, sequences: list[Sequence], **arguments):
    """(the model's output with logits of the last k + 1 positions, (n, k) targets as above)."""
    device = next(model.parameters()).device
    ids = pad_left([p + c for p, c in sequences], 0, device)
    mask = pad_left([[1] * len(p + c) for p, c in sequences], 0, device)
    targets = pad_left([c for _, c in sequences], -100, device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    keep = last(ids, targets.size(1) + 1)
    output = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=keep, **arguments
    )
    return output, targets


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """(n, k) log-probabilities of the targets, 0 at padding."""
    return -cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


def sequence_logps(model, sequences: list[Sequence]) -> tuple[Tensor, Tensor]:
    """((n,) log-probabilities of the completions, (n,) their numbers of tokens)."""
    logits, targets = completion_logits(model, sequences)
    return token_logps(logits, targets).sum(1), (targets != -100).sum(1)


@torch.no_grad()
def reference_logps(model, sequences: list[Sequence]) -> list[float]:
    """Log-probabilities of the completions by the model as it is now, which before training is the reference; in bf16
    where training is."""
    device, dtype = device_and_dtype()
    size = MICRO_BATCH
    if device == "cuda":
        lengths = max(len(p) + len(c) for p, c in sequences), max(len(c) for _, c in sequences)
        size = parallel.least(memory.scored(model.config, dtype, *lengths, memory.free(device)), device)
    chunks = [sequences[at : at + size] for at in range(0, len(sequences), size)]
    with torch.autocast(device, torch.bfloat16, enabled=dtype is torch.bfloat16):
        return [p for chunk in chunks for p in sequence_logps(model, chunk)[0].tolist()]


def bare(model):
    """The model inside a distributed wrapper."""
    return getattr(model, "module", model)


@torch.no_grad()
def sample(
    model, prompts: list[list[int]], tokens: int, ends: Collection[int], temperature: float = 1.0
) -> list[list[int]]:
    """One completion per prompt as ids, sampled from the model's whole distribution, with its end-of-turn token. `ends`
    are the tokens that end a turn (Template.ends), `tokens` the most that a completion may have."""
    device = next(model.parameters()).device
    ends = list(ends)
    ids = pad_left(prompts, ends[0], device)
    drawn = bare(model).generate(
        input_ids=ids,
        attention_mask=pad_left([[1] * len(p) for p in prompts], 0, device),
        max_new_tokens=tokens,
        do_sample=True,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        eos_token_id=ends,
        pad_token_id=ends[0],
    )
    return [until(ends, row) for row in drawn[:, ids.size(1) :].tolist()]


def until(ends: Collection[int], ids: list[int]) -> list[int]:
    """The ids up to the first that ends the turn, with it."""
    at = next((i for i, id in enumerate(ids) if id in ends), len(ids))
    return ids[: at + 1]


def as_completion(tokenizer, ids: list[int]) -> Completion:
    """Sampled ids as a completion of the student, without those from its end-of-turn token on."""
    template = Template.of(tokenizer)
    ids, ended = template.until_end(ids)
    thought, text = (part.strip() for part in template.parts(ids, ended))
    return Completion("", "", "student", None, text, "finished" if ended else "cut", thought=thought)
