"""Completions of one prompt against each other: noisy pairs, pairs without a reference, rankings.

A row has the n completions of a prompt, best first; one forward pass computes them all. A row's loss is a function of
`ranked_logps`, (n,) log-probabilities of the completions, `lengths`, (n,) their numbers of tokens, and the row; of a
pair, n = 2, they are the chosen and the rejected one's. TRL has SimPO, ORPO and TPO as experimental trainers, which
compute logits of prompt and padding, too; tests/methods/test_trl_parity.py holds these losses to theirs. It has no RRHF
and PRO, and no weight and noise per row.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from kdloop.feedback.examples import Example
from kdloop.methods import losses
from kdloop.methods.dpo import ANCHOR_DIFFERS, BETA, usable
from kdloop.methods.lora import Method, OnStep, Plan
from kdloop.methods.objective import fit, reference_logps, sequence, sequence_logps
from storage.conversations import Completion

NOISE = 0.1  # probability that a vote is wrong, where its raters' agreement does not tell: assumed, not measured


def best_first(e: Example) -> tuple[Completion, ...]:
    return e.ranking or (e.chosen, e.rejected)


def pair_only(e: Example) -> tuple[Completion, ...]:
    return e.chosen, e.rejected


def has_order(e: Example) -> bool:
    return e.is_pair or len(e.ranking) > 1


def has_three(e: Example) -> bool:
    return len(e.ranking) > 2


def cdpo(ranked_logps: Tensor, lengths: Tensor, row: dict) -> Tensor:
    """Conservative DPO with `row`'s noise, and its anchor on the chosen completion; {"reference"} has (2,) logps."""
    chosen_ratio, rejected_ratio = ranked_logps - torch.tensor(row["reference"], device=ranked_logps.device)
    chosen_mean, _ = ranked_logps / lengths
    return losses.conservative(BETA * (chosen_ratio - rejected_ratio), row["noise"]) - row["anchor"] * chosen_mean


def simpo(ranked_logps: Tensor, lengths: Tensor, row: dict, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    chosen_mean, rejected_mean = ranked_logps / lengths
    return losses.simpo(chosen_mean, rejected_mean, beta, gamma) - row["anchor"] * chosen_mean


def orpo(ranked_logps: Tensor, lengths: Tensor, row: dict, weight: float = 0.1) -> Tensor:
    chosen_mean, rejected_mean = ranked_logps / lengths
    return weight * losses.odds_ratio(chosen_mean, rejected_mean) - chosen_mean


def tpo(ranked_logps: Tensor, lengths: Tensor, row: dict, beta: float = 0.01) -> Tensor:
    best_logp, chosen_logp, *_, rejected_logp = ranked_logps
    return losses.conservative(beta * (chosen_logp - rejected_logp), 0.0) - best_logp / lengths[0]


def rrhf(ranked_logps: Tensor, lengths: Tensor, row: dict) -> Tensor:
    best_mean, *_ = ranked_means = ranked_logps / lengths
    return losses.rrhf(ranked_means) - best_mean


def pro(ranked_logps: Tensor, lengths: Tensor, row: dict) -> Tensor:
    best_mean, *_ = ranked_means = ranked_logps / lengths
    return losses.pro(ranked_means) - 0.05 * (len(ranked_means) - 1) ** 2 * best_mean


RowLoss = Callable[[Tensor, Tensor, dict], Tensor]  # (ranked_logps, lengths, row) -> ()


def objective(loss: RowLoss):
    """The weighted mean of `loss(ranked_logps, lengths, row)` over the rows of a micro-batch."""

    def of_rows(model, rows: list[dict], progress: float):
        logps, lengths = sequence_logps(model, [s for r in rows for s in r["sequences"]])  # of all rows, one by one
        sizes = [len(r["sequences"]) for r in rows]
        each = [loss(*of_row) for of_row in zip(logps.split(sizes), lengths.split(sizes), rows, strict=True)]
        weights = torch.tensor([r["weight"] for r in rows], device=logps.device)
        return (torch.stack(each) * weights).mean(), {}

    return of_rows


def train(
    model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep, loss: RowLoss = cdpo, order=pair_only
) -> dict[str, float]:
    """`order(example)` gives a row's completions, best first; cdpo's rows get their reference log-probabilities."""
    rows: list[dict] = [
        {
            "sequences": [sequence(tokenizer, e.prompt, k) for k in order(e)],
            "weight": e.weight,
            "noise": NOISE if e.noise is None else e.noise,
            "anchor": plan.anchor,
        }
        for e in examples
    ]
    if loss is cdpo:
        reference = iter(reference_logps(model, [s for r in rows for s in r["sequences"]]))
        for r in rows:
            r["reference"] = [next(reference) for _ in r["sequences"]]
    return fit(model, rows, objective(loss), plan, on_step)


METHODS = {
    "cdpo": Method(
        usable,
        train,
        needs="pairs; their weight and noise, where known",
        loss="-(1 - e) log s(beta d) - e log s(-beta d) + a NLL(chosen), d = r(chosen) - r(rejected)",
        paper="Mitchell 2023; Rafailov et al. 2023, Eq. 7",
        defaults="beta 0.1, e what the raters' disagreement or the AI rater said, else 0.1, anchor a 4",
        when="Raters who contradict each other or slip: the margin that one vote can ask for is bounded.",
        differs_from_paper=f"e is each row's own, where known, not one for all; {ANCHOR_DIFFERS}",
        weighs=True,
    ),
    "simpo": Method(
        usable,
        partial(train, loss=simpo),
        needs="pairs",
        loss="-log s(beta (log pi(chosen) / |chosen| - log pi(rejected) / |rejected|) - gamma) + a NLL(chosen)",
        paper="Meng et al. 2024",
        defaults="beta 2, gamma 1, anchor a 4",
        when="No memory for reference log-probabilities, or raters who take the longer completion.",
        differs_from_paper=ANCHOR_DIFFERS,
        weighs=True,
    ),
    "orpo": Method(
        usable,
        partial(train, loss=orpo),
        needs="pairs",
        loss="NLL(chosen) - 0.1 log s(log odds(chosen) - log odds(rejected))",
        paper="Hong et al. 2024, Eqs. 6 and 7",
        defaults="weight 0.1",
        when="Good chosen texts, mostly a person's or a teacher's: fine-tuning that also pushes away the rejected.",
        differs_from_paper="nothing known",
        weighs=True,
    ),
    "tpo": Method(
        has_three,
        partial(train, loss=tpo, order=best_first),
        needs="rankings of three: a correction, and the two completions that were compared",
        loss="-log s(beta (log pi(second) - log pi(last))) + NLL(first)",
        paper="Saeidi et al. 2024 (2405.16681)",
        defaults="beta 0.01, anchor 1",
        when="People who choose and then correct what they chose.",
        differs_from_paper="of longer rankings the second and the last are the pair",
        weighs=True,
    ),
    "rrhf": Method(
        has_order,
        partial(train, loss=rrhf, order=best_first),
        needs="rankings of two or more",
        loss="sum over pairs of max(0, p(worse) - p(better)) + NLL(best), p(y) = log pi(y) / |y|",
        paper="Yuan et al. 2023 (survey Eq. 15)",
        defaults="weight 1",
        when="Rankings from stars or a judge; stops where the order is right.",
        differs_from_paper="the order is people's or a judge's; both terms weigh 1, as in the authors' script",
        weighs=True,
    ),
    "pro": Method(
        has_order,
        partial(train, loss=pro, order=best_first),
        needs="rankings of two or more",
        loss="-sum_k log(exp p_k / sum_{i >= k} exp p_i) + 0.05 (n - 1)^2 NLL(best)",
        paper="Song et al. 2023 (survey Eq. 16)",
        defaults="without reward temperatures, NLL weight 0.05 (n - 1)^2",
        when="Rankings of three and more: each place is won against all below it.",
        differs_from_paper="without the temperatures 1 / (r_k - r_i): a ranking here has an order and no rewards",
        weighs=True,
    ),
}
