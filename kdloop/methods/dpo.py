"""Pairs against a reference: Direct Preference Optimization with an NLL anchor, and its relatives in TRL's DPOTrainer.

    loss = -log sigmoid(beta * [(log pi/ref)(chosen) - (log pi/ref)(rejected)]) - alpha * log pi(chosen) / |chosen|

Rafailov et al. 2023, Eq. 7; the anchor is RPO's (Pang et al. 2024), TRL loss_type ["sigmoid", "sft"]. Without it both
log-probabilities fall while their margin grows, and a small student's completions come out garbled. With a weight of 4
the student's own completions even get likelier, so the step along the found direction (step_size.py) can be longer;
docs/log.md has the comparison. The relatives keep the anchor, whose weight is the plan's, the same for all methods that
have one: `anchor = 0` in a recipe is the paper's loss. The reference is the adapter that training starts from.
"""

from functools import partial

from datasets import Dataset
from peft.helpers import disable_input_dtype_casting
from torch import nn
from trl import DPOConfig, DPOTrainer

from kdloop.feedback.examples import Example
from kdloop.methods.lm_head import score_label_positions_only
from kdloop.methods.lora import Method, OnStep, Plan, bucketed, common_arguments, fitting, micro_batch, run
from kdloop.methods.objective import reference_logps, sequence
from kdloop.methods.shared_prompts import pairs_read_once

BETA = 0.1  # the paper's and TRL's default
ANCHOR_DIFFERS = "the anchor a NLL(chosen) is added: a is 4, in RPO (Pang et al. 2024) 1, and 0 gives the paper's loss"
MICRO_BATCH = 4  # pairs, on a CPU: 8 are no faster (docs/log.md)


def usable(example: Example) -> bool:
    return example.is_pair


class TokenizedDPOTrainer(DPOTrainer):
    "Takes rows of token ids (see student/template.py: a completion that was cut gets no end-of-turn token)"

    def _prepare_dataset(self, dataset, *_):
        return dataset


class NoReference(nn.Module):
    "In place of the copy of the adapter that TRL would make: the reference's log-probabilities are in the rows"

    def __init__(self, config):
        super().__init__()
        self.config = config


def row(tokenizer, e: Example) -> dict[str, list[int]]:
    """Token ids, as TRL names them."""
    (prompt, chosen), (_, rejected) = (sequence(tokenizer, e.prompt, side) for side in (e.chosen, e.rejected))
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


def tokens(row: dict[str, list[int]]) -> int:
    """The length of the longer of the two sequences."""
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def train(
    model,
    tokenizer,
    examples: list[Example],
    plan: Plan,
    on_step: OnStep,
    loss: str = "sigmoid",
    beta: float = BETA,
    anchored: bool = True,
    **options,
) -> dict[str, float]:
    """`loss` is a loss_type of TRL's DPOConfig, `options` its other options; the anchor's weight is the plan's."""
    score_label_positions_only()
    anchor = plan.anchor if anchored else 0.0
    rows = fitting([row(tokenizer, e) for e in examples], plan, tokens)
    size = micro_batch(model, plan, MICRO_BATCH, (2 * tokens(r) for r in rows))
    config = DPOConfig(
        **common_arguments(plan, size),
        loss_type=[loss, "sft"] if anchor else [loss],
        loss_weights=[1.0, anchor] if anchor else [1.0],
        beta=beta,
        **options,
    )
    rows = bucketed(rows, size, plan.seed, lambda r: sum(map(len, r.values())))
    data = Dataset.from_list(with_references(model, rows))
    arguments = {"args": config, "train_dataset": data, "processing_class": tokenizer}
    trainer = TokenizedDPOTrainer(model, NoReference(model.config), **arguments)
    trainer.precompute_ref_logps = True  # they are in the rows
    autocast = model.device.type == "cuda"  # which casts the adapter's inputs to bf16 itself
    with pairs_read_once(model), disable_input_dtype_casting(model, active=autocast):
        return run(trainer, on_step, plan.journal)


def with_references(model, rows: list[dict]) -> list[dict]:
    """The rows with what TRL's `precompute_ref_log_probs` would add: 17 s for 48 pairs instead of 25, as TRL hashes the
    whole model first and computes logits of the prompts, too."""
    sides = [(r["prompt_ids"], r[side]) for r in rows for side in ("chosen_ids", "rejected_ids")]
    logps = reference_logps(model, sides)
    return [
        r | {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        for r, chosen, rejected in zip(rows, logps[::2], logps[1::2], strict=True)
    ]


METHODS = {
    "dpo": Method(
        usable,
        train,
        needs="pairs",
        loss="-log s(beta (r(chosen) - r(rejected))) + a NLL(chosen)",
        paper="Rafailov et al. 2023 (survey Eq. 14); anchor: Pang et al. 2024",
        defaults="beta 0.1, anchor a 4",
        when="Pairs, and nothing against them: what `auto` takes.",
        differs_from_paper=ANCHOR_DIFFERS,
    ),
    "ipo": Method(
        usable,
        partial(train, loss="ipo"),
        needs="pairs",
        loss="(r(chosen) / |chosen| - r(rejected) / |rejected| - 1 / (2 beta))^2 + a NLL(chosen)",
        paper="Azar et al. 2023, Eq. 17",
        defaults="beta 0.1, anchor a 4",
        when="Few pairs that all agree: the margin has a target, so it stops growing there.",
        differs_from_paper=f"the log-ratios are divided by the lengths (TRL, by the authors' advice); {ANCHOR_DIFFERS}",
    ),
    "sigmoid_norm": Method(
        usable,
        partial(train, loss="sigmoid_norm", beta=5.0),
        needs="pairs",
        loss="-log s(beta (r(chosen) / |chosen| - r(rejected) / |rejected|)) + a NLL(chosen)",
        paper="Lambert et al. 2024 (Tulu 3)",
        defaults="beta 5, anchor a 4",
        when="Raters who take the longer completion: the length is divided out.",
        differs_from_paper=ANCHOR_DIFFERS,
    ),
    "apo_zero": Method(
        usable,
        partial(train, loss="apo_zero"),
        needs="pairs",
        loss="1 - s(beta r(chosen)) + s(beta r(rejected)) + a NLL(chosen)",
        paper="D'Oosterlinck et al. 2024, Eq. 7",
        defaults="beta 0.1, anchor a 4",
        when="Chosen completions that are better than the student's usual ones: corrections, a teacher's.",
        differs_from_paper=ANCHOR_DIFFERS,
    ),
    "wpo": Method(
        usable,
        partial(train, use_weighting=True, anchored=False),  # TRL 1.16 cannot weight the anchor: it raises
        needs="pairs",
        loss="""-w(chosen) w(rejected) log s(beta (r(chosen) - r(rejected))),
    log w(y) = mean over y's tokens of log pi(y_t) - log sum over the vocabulary of pi(v)^2, without gradient""",
        paper="Zhou et al. 2024, Eq. 2",
        defaults="beta 0.1, no anchor",
        when="Old pairs, or pairs of another model: those that the student would not write count less.",
        differs_from_paper="nothing known; w is the paper's alignment to sampled tokens, as TRL computes it",
    ),
}
