"""Unpaired: Kahneman-Tversky Optimization learns from thumbs, one completion at a time.

    loss = w_y (1 - sigmoid(+-[beta * (log pi/ref)(y) - z0])),  z0 = the batch's KL estimate from mismatched pairs

Ethayarajh et al. 2024, Eq. 8; TRL's KTOTrainer. A pair counts as one liked and one disliked completion. APO-zero has no
z0, and so needs no forward passes to estimate it.
"""

import random
from functools import partial

from datasets import Dataset
from trl import KTOConfig, KTOTrainer

from kdloop.feedback.examples import Example
from kdloop.methods.dpo import NoReference
from kdloop.methods.lm_head import score_label_positions_only
from kdloop.methods.lora import RECOMPUTE_ABOVE, Method, OnStep, Plan, common_arguments, fitting, micro_batch, run
from kdloop.methods.objective import reference_logps
from kdloop.student.template import Template

BETA = 0.1  # the paper's and TRL's default
MICRO_BATCH = 4  # on a CPU; z0 is estimated from as many


def usable(example: Example) -> bool:
    return bool(example.completions)


class TokenizedKTOTrainer(KTOTrainer):
    "Takes rows of token ids (see student/template.py)"

    def _prepare_dataset(self, dataset, *_):
        return dataset


def rows(tokenizer, examples: list[Example], plan: Plan, size: int = MICRO_BATCH) -> list[dict]:
    """Shuffled rows, a whole number of micro-batches of `size`: {"prompt_ids", "completion_ids", "label",
    "KL_completion_ids"}, the last being the completion of another row of the micro-batch, for the KL estimate.

    The first rows are repeated to fill the last micro-batch: a single row in it would be its own mismatched pair, and
    its KL equal its reward.
    """
    rated = [(e.prompt, c, c is e.chosen) for e in examples for c in e.completions]
    random.Random(plan.seed).shuffle(rated)
    template = Template.of(tokenizer)
    out = [
        {
            "prompt_ids": template.prompt_ids(prompt),
            "completion_ids": template.completion_ids(*completion.written),
            "label": liked,
        }
        for prompt, completion, liked in rated
    ]
    out = fitting(out, plan, lambda r: len(r["prompt_ids"]) + len(r["completion_ids"]))
    out += [dict(r) for r in out[: -len(out) % size]]
    for at in range(0, len(out), size):
        batch = out[at : at + size]
        for r, neighbour in zip(batch, [batch[-1], *batch[:-1]], strict=True):
            r["KL_completion_ids"] = neighbour["completion_ids"]
    return out


def train(
    model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep, loss: str = "kto"
) -> dict[str, float]:
    """`loss` is a loss_type of TRL's KTOConfig."""
    score_label_positions_only()
    size = micro_batch(model, plan, MICRO_BATCH, [2 * RECOMPUTE_ABOVE])
    data = rows(tokenizer, examples, plan, size)
    likes = sum(r["label"] for r in data)
    config = KTOConfig(
        **common_arguments(plan, size),
        beta=BETA,
        loss_type=loss,
        # the rarer label weighs more, so that weight x count of both are equal: inside the paper's 1:1 to 4:3
        desirable_weight=max(1.0, (len(data) - likes) / max(likes, 1)),
        undesirable_weight=max(1.0, likes / max(len(data) - likes, 1)),
    )
    dataset = Dataset.from_list(with_references(model, data, ("", "KL_") if loss == "kto" else ("",)))
    arguments = {"args": config, "train_dataset": dataset, "processing_class": tokenizer}
    trainer = TokenizedKTOTrainer(model, NoReference(model.config), **arguments)
    trainer.precompute_ref_logps = True  # they are in the rows
    return run(trainer, on_step, plan.journal)


def with_references(model, rows: list[dict], kinds: tuple[str, ...]) -> list[dict]:
    """The rows with what TRL's `precompute_ref_log_probs` would add, of the completions of these kinds. TRL hashes the
    whole model first, which one that is split over processes does not allow."""
    sides = [(r["prompt_ids"], r[f"{kind}completion_ids"]) for r in rows for kind in kinds]
    logps = iter(reference_logps(model, sides))
    return [r | {f"ref_{kind}logps": next(logps) for kind in kinds} for r in rows]


METHODS = {
    "kto": Method(
        usable,
        train,
        needs="thumbs (a pair counts as two)",
        loss="w (1 - s(beta (r(y) - z0))) for a liked y, w (1 - s(beta (z0 - r(y)))) for a disliked one",
        paper="Ethayarajh et al. 2024, Eq. 8",
        defaults="beta 0.1, w balances likes and dislikes",
        when="Thumbs in both directions and few pairs: what `auto` takes then.",
        differs_from_paper="z0 is the mean over a micro-batch of 4, noisier than with the paper's batches",
    ),
    "apo_zero_unpaired": Method(
        usable,
        partial(train, loss="apo_zero_unpaired"),
        needs="thumbs (a pair counts as two)",
        loss="w (1 - s(beta r(y))) for a liked y, w s(beta r(y)) for a disliked one",
        paper="D'Oosterlinck et al. 2024, Eq. 7, unpaired",
        defaults="beta 0.1, w balances likes and dislikes",
        when="As kto, where time is short: without the KL estimate, two of four forward passes.",
        differs_from_paper="the paper's loss is of pairs: TRL takes its two terms apart, and w is kto's",
    ),
}
