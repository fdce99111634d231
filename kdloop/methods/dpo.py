"""Direct Preference Optimization with an NLL anchor: prefer the chosen over the rejected completion of a pair.

    loss = -log sigmoid(beta * [(log pi/ref)(chosen) - (log pi/ref)(rejected)]) - alpha * log pi(chosen) / |chosen|

Rafailov et al. 2023, Eq. 7; the anchor is RPO's (Pang et al. 2024), TRL loss_type ["sigmoid", "sft"]. Without it both
log-probabilities fall while their margin grows, and a small student comes out garbled. With a weight of 4 the student's
own completions even get likelier, and the step along the found direction (trust_region.py) can be longer; docs/log.md
has the comparison. The reference is the adapter that training starts from.
"""

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from kdloop.methods.lora import OnStep, Plan, bucketed, common_arguments, run, score_label_positions_only
from kdloop.pairs import Example
from kdloop.student.prompts import completion_ids, prompt_ids

BETA = 0.1
ANCHOR = 4.0  # alpha
MICRO_BATCH = 4


def usable(example: Example) -> bool:
    return example.is_pair


class TokenizedDPOTrainer(DPOTrainer):
    "Takes rows that are token ids already (see student/prompts.py: a cut completion gets no end-of-turn token)"

    def _prepare_dataset(self, dataset, *_):
        return dataset


def row(tokenizer, e: Example) -> dict[str, list[int]]:
    return {
        "prompt_ids": prompt_ids(tokenizer, e.prompt),
        "chosen_ids": completion_ids(tokenizer, *e.chosen.said),
        "rejected_ids": completion_ids(tokenizer, *e.rejected.said),
    }


def train(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    score_label_positions_only()
    config = DPOConfig(
        **common_arguments(plan, len(examples), MICRO_BATCH),
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, ANCHOR],
        beta=BETA,
        precompute_ref_log_probs=True,
    )
    data = Dataset.from_list(bucketed([row(tokenizer, e) for e in examples], MICRO_BATCH, plan.seed))
    return run(TokenizedDPOTrainer(model, args=config, train_dataset=data, processing_class=tokenizer), on_step)
