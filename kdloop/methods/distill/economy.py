"""Economy: a teacher beside the labels or at first only, and several adapters averaged."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from kdloop.feedback.examples import Example
from kdloop.methods import losses, step_size, supervised
from kdloop.methods.distill.divergence import OR_STORED, distillation_loss, train_on_text
from kdloop.methods.lora import Method, OnStep, Plan
from kdloop.methods.objective import Numbers, fit, sequence_logps
from kdloop.methods.supervised import usable

ADAPTERS = 3  # as many as the recipe `debate` has agents
TEACHER_STEPS = 0.17  # share of the steps that the teacher teaches: the paper's 36,000 of 208,000
SOFT, HARD = distillation_loss(losses.forward_kl), distillation_loss(losses.forward_kl, nll_weight=1.0)


def salt(teacher: Tensor, student: Tensor, targets: Tensor, progress: float) -> Tensor:
    """A PositionLoss: KL to the teacher for the first TEACHER_STEPS, NLL of the labels afterwards."""
    return (SOFT if progress < TEACHER_STEPS else HARD)(teacher, student, targets, progress)


def soup(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> Numbers:
    """Several adapters learn a share of the examples each from the same start; the student is their mean, exactly.

    All keep the A that they start with and learn B alone, so the mean of their B is the mean of their updates BA. (Of
    adapters that differ in both, the means of A and of B would make another matrix than the mean of BA. PEFT's
    `add_weighted_adapter` is no mean either: "linear" makes these three 3 times as strong, "svd" gives another A and B,
    whose line the step size would follow, "cat" three times the rank; findings/peft_linear_is_no_mean.sh.)

    Returns the training's metrics and {"own NLL", "others' NLL"}: nats per token of an adapter on its own texts and on
    the others', before averaging. The adapters differ as long as the second does not fall.
    """
    rows = supervised.weighted_rows(tokenizer, examples)
    shares = [rows[i::ADAPTERS] for i in range(min(ADAPTERS, len(rows)))]
    start, n, ends, nlls, metrics = step_size.parameters(model), len(shares), [], [], {}
    for i, share in enumerate(shares):
        step_size.place(model, start, start, 1.0)
        with frozen_a(model):
            metrics |= fit(model, share, supervised.mean_nll, plan, one_of_n(on_step, i, n))
        ends.append(step_size.parameters(model))
        nlls.append([nll(model, other) for other in shares])  # [adapter][share]
    mean = {name: torch.stack([end[name] for end in ends]).mean(0) for name in start}
    step_size.place(model, start, mean, 1.0)
    own = torch.tensor(nlls).diagonal().sum()
    others = (torch.tensor(nlls).sum() - own) / max(1, n * n - n)
    return metrics | {"own NLL": own.item() / n, "others' NLL": others.item()}


@contextmanager
def frozen_a(model) -> Iterator[None]:
    """Within this context no gradient reaches any A of the adapter's BA (FFA-LoRA, Sun et al. 2024)."""
    hooks = [p.register_hook(torch.zeros_like) for name, p in model.named_parameters() if "lora_A.default" in name]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def one_of_n(on_step: OnStep, i: int, n: int) -> OnStep:
    """Counts the steps of the i-th of n trainings as those of a single one, and stops none of them early."""

    def count(step: int, steps: int, loss: float | None) -> None:
        on_step(i * steps + step, n * steps, loss)

    return count


@torch.no_grad()
def nll(model, rows: list[dict]) -> float:
    """Nats per token, over all tokens of the rows' completions."""
    scores = [sequence_logps(model, r["sequences"]) for r in rows]
    return -sum(float(logp) for logp, _ in scores) / sum(int(length) for _, length in scores)


METHODS = {
    "kd_lora": Method(
        usable,
        partial(
            train_on_text,
            loss=distillation_loss(losses.forward_kl, temperature=2.0, nll_weight=0.5),
            teacher_needed=False,
        ),
        OR_STORED,
        loss="1/2 T^2 KL(p | q) at temperature T + 1/2 NLL(y)",
        paper="Azimi et al. 2024 (2410.20777); Hinton et al. 2015",
        defaults="T 2, stored text",
        when="Good texts and a good teacher for them: both teach.",
        differs_from_paper="a decoder in place of BERT; every linear layer at "
        "rank 16 in place of query and value at 8; without a teacher the student as it was stands in",
    ),
    "salt": Method(
        usable,
        partial(train_on_text, loss=salt, teacher_needed=False),
        OR_STORED,
        loss="KL(p | q) for the first 17 % of the steps, then NLL(y)",
        paper="Rawat et al. 2024 (2410.18779)",
        defaults="17 %, stored text",
        when="A teacher that is no better than the student: it teaches at the beginning only.",
        differs_from_paper="fine-tuning on completions in place of pre-training; a teacher of any size; its choice "
        "of hard but learnable texts (SALT_DS) is a recipe's `select`, for all of the steps",
    ),
    "adapter_soup": Method(
        usable,
        soup,
        needs="liked, chosen or written completions, best those of the recipe `debate`",
        loss="NLL per token of the i-th adapter on its share; then the mean of the adapters' updates BA",
        paper="Wortsman et al. 2022 (model soups); one A for all: Sun et al. 2024 (FFA-LoRA)",
        defaults="3 adapters, an equal share of the examples each",
        when="Rounds on the student's own samples: adapters that learn apart stay different, their mean is steadier.",
        differs_from_paper="the adapters learn different shares, not the same data by different settings, and "
        "all are in the mean. It is not multiagent fine-tuning (2501.05707): no agent has its own answers, no critics",
        weighs=True,
    ),
}
