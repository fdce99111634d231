"""Economy: a teacher that helps little or only at first, several small teachings in place of one."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from kdloop.feedback.examples import Example
from kdloop.methods import losses, step_size, supervised
from kdloop.methods.distill.divergence import OR_STORED, on_text, plain, usable
from kdloop.methods.lora import Method, OnStep, Plan
from kdloop.methods.objective import Numbers, fit, sequence_logps

SHARES = 3
WARM_UP = 0.17  # of the steps, in which the teacher helps
SOFT, HARD = plain(losses.forward_kl), plain(losses.forward_kl, label=1.0)


def warm_up(teacher: Tensor, student: Tensor, targets: Tensor, progress: float) -> Tensor:
    """The teacher's distribution for the first part of the training, the labels alone afterwards (SALT)."""
    return (SOFT if progress < WARM_UP else HARD)(teacher, student, targets, progress)


def soup(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> Numbers:
    """Several adapters learn a share of the examples each from the same start; the student is their mean, exactly.

    All keep the A that they start with and learn B alone, so the mean of their B is the mean of their updates BA. (Of
    adapters that differ in both, the means of A and of B would make another matrix than the mean of BA.)
    `{"own NLL", "others' NLL"}` are nats per token of an adapter's own texts and of the others', before the mean: as
    long as the second stays, the adapters are still different.
    """
    rows = supervised.weighed_rows(tokenizer, examples)
    shares = [rows[i::SHARES] for i in range(min(SHARES, len(rows)))]
    start, n, ends, heard, metrics = step_size.parameters(model), len(shares), [], [], {}
    for i, share in enumerate(shares):
        step_size.place(model, start, start, 1.0)
        with a_stays(model):
            metrics |= fit(model, share, supervised.mean_nll, plan, as_one(on_step, i, n))
        ends.append(step_size.parameters(model))
        heard.append([nll(model, other) for other in shares])
    mean = {name: torch.stack([end[name] for end in ends]).mean(0) for name in start}
    step_size.place(model, start, mean, 1.0)
    own = torch.tensor(heard).diagonal().sum()
    others = (torch.tensor(heard).sum() - own) / max(1, n * n - n)
    return metrics | {"own NLL": own.item() / n, "others' NLL": others.item()}


@contextmanager
def a_stays(model) -> Iterator[None]:
    """Within, no gradient reaches any A of the adapter's BA (FFA-LoRA, Sun et al. 2024)."""
    held = [p.register_hook(torch.zeros_like) for name, p in model.named_parameters() if "lora_A.default" in name]
    try:
        yield
    finally:
        for hook in held:
            hook.remove()


def as_one(on_step: OnStep, i: int, n: int) -> OnStep:
    """The steps of the i-th of n trainings as those of one, which ends none of them."""

    def shown(step: int, steps: int, loss: float | None) -> None:
        on_step(i * steps + step, n * steps, loss)

    return shown


@torch.no_grad()
def nll(model, rows: list[dict]) -> float:
    scores = [sequence_logps(model, r["sequences"]) for r in rows]
    return -sum(float(logp) for logp, _ in scores) / sum(int(length) for _, length in scores)


METHODS = {
    "kd_lora": Method(
        usable,
        partial(on_text, loss=plain(losses.forward_kl, temperature=2.0, label=0.5), needs_teacher=False),
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
        partial(on_text, loss=warm_up, needs_teacher=False),
        OR_STORED,
        loss="KL(p | q) for the first 17 % of the steps, then NLL(y)",
        paper="Rawat et al. 2024 (2410.18779)",
        defaults="17 %, stored text",
        when="A teacher that is no better than the student: it only starts it off.",
        differs_from_paper="fine-tuning on completions in place of pre-training; a teacher of any size; the "
        "selection of hard but learnable texts (SALT_DS) is absent",
    ),
    "adapter_soup": Method(
        supervised.usable,
        soup,
        needs="liked, chosen or written completions, best those of the recipe `debate`",
        loss="-log pi_i(y), a token, of the i-th adapter's share; pi = the mean of the adapters' updates BA",
        paper="Wortsman et al. 2022 (model soups); one A for all: Sun et al. 2024 (FFA-LoRA)",
        defaults="3 adapters, an equal share of the examples each",
        when="Rounds on the student's own samples: adapters that learn apart stay different, their mean is steadier.",
        differs_from_paper="the adapters learn different shares, not the same data by different settings, and "
        "all are in the mean. It is not multiagent fine-tuning (2501.05707): no agent has its own answers, no critics",
        weighs=True,
    ),
}
