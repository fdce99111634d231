"""A reward model on the student's own backbone, and the gate that it must pass before anything is trained on it.

    L = -log s(r(x, y_w) - r(x, y_l))                                         survey Eq. 12; TRL RewardTrainer

The head starts at zero, so the first loss is ln 2. A quarter of the pairs is held out: below MIN_ACCURACY there the
reward is worse than none (a policy finds its errors first), and NothingToLearn says so. A `reward` of the plan's own,
from a verifier, a judge or the preference model, needs no fitting.
"""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer

from kdloop.methods.lora import (
    MAX_LENGTH,
    RANK,
    NothingToLearn,
    OnStep,
    Plan,
    Reward,
    common_arguments,
    micro_batch,
    run,
)
from kdloop.methods.objective import sequence
from kdloop.pairs import Example
from kdloop.student.prompts import completion_ids, prompt_ids
from storage.conversations import as_prompt

MICRO_BATCH = 4
EVERY = 4  # each so many'th pair is held out
MIN_ACCURACY = 0.7


def reward_of(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> Reward:
    """The plan's reward, or one fitted on the pairs. Raises NothingToLearn where that predicts held-out pairs badly."""
    if plan.reward:
        return plan.reward
    pairs = [e for e in examples if e.is_pair]
    if len(pairs) < 2 * EVERY:
        raise NothingToLearn(f"A reward model needs {2 * EVERY} pairs or more, there are {len(pairs)}")
    held_out = pairs[::EVERY]
    reward = fit(model, tokenizer, [e for e in pairs if e not in held_out], plan, on_step)
    right = accuracy(reward, held_out)
    if right < MIN_ACCURACY:
        share = f"{right:.0%} of {len(held_out)} held-out pairs"
        raise NothingToLearn(f"The reward model predicts {share}, {MIN_ACCURACY:.0%} are needed: more votes, or dpo")
    return reward


def accuracy(reward: Reward, pairs: list[Example]) -> float:
    """The share of pairs whose chosen completion gets the greater reward; equal ones count half."""
    gains = [reward(e.question, e.chosen.text) - reward(e.question, e.rejected.text) for e in pairs]
    return sum((gain > 0) + 0.5 * (gain == 0) for gain in gains) / len(gains)


def fit(model, tokenizer, pairs: list[Example], plan: Plan, on_step: OnStep) -> Reward:
    """Train a second copy of the untrained student with a scalar head, by LoRA; the policy is not touched."""
    base = model.get_base_model()
    scorer = AutoModelForSequenceClassification.from_pretrained(base.name_or_path, num_labels=1, dtype=base.dtype)
    scorer.config.pad_token_id = tokenizer.pad_token_id
    torch.nn.init.zeros_(scorer.score.weight)
    head = {"modules_to_save": ["score"], "task_type": "SEQ_CLS"}
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", **head)
    scorer = get_peft_model(scorer.to(model.device), lora)
    data = Dataset.from_list([row(tokenizer, e) for e in pairs])
    size = micro_batch(model, plan, MICRO_BATCH, [2 * MAX_LENGTH])
    config = RewardConfig(**common_arguments(plan, size))
    run(RewardTrainer(scorer, args=config, train_dataset=data, processing_class=tokenizer), on_step)
    scorer.eval()

    @torch.no_grad()
    def reward(question: str, completion: str) -> float:
        ids = prompt_ids(tokenizer, as_prompt(question)) + completion_ids(tokenizer, completion, False)
        return scorer(torch.tensor([ids], device=scorer.device)).logits[0, 0].item()

    return reward


def row(tokenizer, e: Example) -> dict[str, list[int]]:
    chosen, rejected = (sequence(tokenizer, e.prompt, k) for k in (e.chosen, e.rejected))
    return {"chosen_ids": chosen[0] + chosen[1], "rejected_ids": rejected[0] + rejected[1]}
