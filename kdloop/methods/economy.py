"""Economy: a teacher that helps little or only at first, several small teachings in place of one."""

from functools import partial

import torch
from torch import Tensor

from kdloop.methods import losses, sft, trust_region
from kdloop.methods.divergence import plain, white_box
from kdloop.methods.lora import Method, OnStep, Plan
from kdloop.methods.objective import Numbers, fit, sequence, sequence_logps
from kdloop.pairs import Example

AGENTS = 3


def warm_up(steps: int, share: float = 0.17):
    """The teacher's distribution for the first part of the training, the labels alone afterwards (SALT)."""
    first, then = plain(steps, losses.forward_kl), plain(steps, losses.forward_kl, label=1.0)

    def loss(teacher: Tensor, student: Tensor, targets: Tensor, progress: float) -> Tensor:
        return (first if progress < share else then)(teacher, student, targets, progress)

    return loss


def agents(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> Numbers:
    """Each agent's adapter learns its own share of the examples from the same start; the student is their mean.

    `{"own NLL", "others' NLL"}` are nats a token of an agent's own texts and of the others', before the mean: as long
    as the second stays, the agents are still different.
    """
    made = [{"sequences": [sequence(tokenizer, e.prompt, e.chosen)], "weight": e.weight} for e in examples]
    shares = [made[i::AGENTS] for i in range(min(AGENTS, len(made)))]
    start, n, ends, heard, metrics = trust_region.parameters(model), len(shares), [], [], {}
    for i, share in enumerate(shares):
        trust_region.place(model, start, start, 1.0)
        metrics |= fit(model, share, sft.mean_nll, plan, as_one(on_step, i, n))
        ends.append(trust_region.parameters(model))
        heard.append([nll(model, other) for other in shares])
    mean = {name: torch.stack([end[name] for end in ends]).mean(0) for name in start}
    trust_region.place(model, start, mean, 1.0)
    own = torch.tensor(heard).diagonal().sum()
    others = (torch.tensor(heard).sum() - own) / (n * n - n)
    return metrics | {"own NLL": own.item() / n, "others' NLL": others.item()}


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
    "kd_lora": white_box(
        partial(plain, divergence=losses.forward_kl, temperature=2.0, label=0.5),
        "1/2 T^2 KL(p | q) at temperature T + 1/2 NLL(y)",
        "Azimi et al. 2024 (2410.20777); Hinton et al. 2015",
        "Good texts and a good teacher for them: both teach.",
        "T 2, stored text",
        lacks=Method.lacks,  # nothing: the labels teach too
    ),
    "salt": white_box(
        warm_up,
        "KL(p | q) for the first 17 % of the steps, then NLL(y)",
        "Rawat et al. 2024 (2410.18779)",
        "A teacher that is no better than the student: it only starts it off.",
        "17 %, stored text",
        lacks=Method.lacks,  # nothing: the labels teach too
    ),
    "agents": Method(
        sft.usable,
        agents,
        needs="liked, chosen or written completions, best those of the recipe `debate`",
        loss="-log pi_i(y), a token, of agent i's share; pi = the mean of the agents' adapters",
        paper="Subramaniam et al. 2025 (2501.05707); the mean: Wortsman et al. 2022 (model soups)",
        defaults="3 agents, an equal share each",
        when="Rounds on the student's own samples: agents that learn apart stay different, and their mean is steadier.",
        weighs=True,
    ),
}
