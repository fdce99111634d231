"""Supervised fine-tuning on what people liked, chose or wrote: the NLL of the completion, prompt masked.

Survey Eq. 5; TRL SFTTrainer.
"""

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from kdloop.methods.lora import OnStep, Plan, bucketed, common_arguments, run, score_label_positions_only
from kdloop.pairs import Example
from kdloop.student.prompts import completion_ids, prompt_ids

MICRO_BATCH = 4


def usable(example: Example) -> bool:
    return example.chosen is not None


def row(tokenizer, e: Example) -> dict[str, list[int]]:
    prompt = prompt_ids(tokenizer, e.prompt)
    completion = completion_ids(tokenizer, *e.chosen.said)
    return {"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion}


def train(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    score_label_positions_only()
    config = SFTConfig(**common_arguments(plan, len(examples), MICRO_BATCH))
    data = Dataset.from_list(bucketed([row(tokenizer, e) for e in examples], MICRO_BATCH, plan.seed))
    return run(SFTTrainer(model, args=config, train_dataset=data, processing_class=tokenizer), on_step)
