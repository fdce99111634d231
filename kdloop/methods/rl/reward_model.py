"""A reward model on the student's own backbone, and the gate that it must pass before anything is trained on it.

    L = -log s(r(x, y_w) - r(x, y_l))                                         survey Eq. 12; TRL RewardTrainer

The head starts at zero, so the first loss is ln 2. The pairs of a third of the prompts are held out: where the reward
does not order them better than chance, it is worse than none (a policy finds its errors first), and NothingToLearn says
so. A reward of the plan's own, from a verifier, a judge or the preference model, needs no fitting.

It reads the end-of-turn token where there is one, which tells a finished completion from one that was cut.
"""

from copy import deepcopy
from itertools import count

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from scipy.special import bdtrc
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer

from kdloop.feedback.examples import Example, key
from kdloop.methods.lora import (
    RANK,
    NothingToLearn,
    OnStep,
    Plan,
    Reward,
    common_arguments,
    fitting,
    longest,
    micro_batch,
    run,
)
from kdloop.methods.objective import sequence
from kdloop.student.template import Template
from storage.conversations import Message

MICRO_BATCH = 4  # pairs, on a CPU
HELD_OUT_STRIDE = 3  # every third prompt is held out: of a round's 36 votes, the 12 that the test needs
MIN_HELD_OUT = 12  # ten of twelve in the right order are significant; fewer pairs would have to be nearly perfect
MAX_P_VALUE = 0.05  # the share of rewards at chance that pass


def reward_of(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> Reward:
    """The plan's reward, or one fitted on the pairs. Raises NothingToLearn where that does not order held-out pairs
    better than chance, by an exact binomial test, or where there are fewer than MIN_HELD_OUT."""
    if plan.reward:
        return plan.reward
    train, held_out = split([e for e in examples if e.is_pair])
    if len(held_out) < MIN_HELD_OUT:
        least = HELD_OUT_STRIDE * (MIN_HELD_OUT - 1) + 1
        prompts = len({key(e.prompt) for e in [*train, *held_out]})
        raise NothingToLearn(f"A reward model needs pairs on {least} prompts or more, there are {prompts}")
    reward = fit(model, tokenizer, train, plan, on_step)
    if why := at_chance(in_order(reward, held_out), len(held_out)):
        raise NothingToLearn(why)
    return reward


def at_chance(right: int, n: int) -> str:
    """What is wrong where `right` of n pairs are not significantly more than half of them; else ""."""
    p = float(bdtrc(right - 1, n, 0.5)) if right else 1.0
    if p < MAX_P_VALUE:
        return ""
    return (
        f"The reward model orders {right} of {n} held-out pairs as people did (p = {p:.2g} by a coin, less than "
        f"{MAX_P_VALUE} is needed): more votes, or dpo"
    )


def split(pairs: list[Example]) -> tuple[list[Example], list[Example]]:
    """(the pairs to fit on, one held-out pair of every third prompt); no prompt is in both."""
    by_prompt: dict[str, list[Example]] = {}
    for e in pairs:
        by_prompt.setdefault(key(e.prompt), []).append(e)
    groups = list(by_prompt.values())
    train = [e for i, group in enumerate(groups) if i % HELD_OUT_STRIDE for e in group]
    return train, [group[0] for group in groups[::HELD_OUT_STRIDE]]


def in_order(reward: Reward, pairs: list[Example]) -> int:
    """The number of pairs whose chosen completion gets the greater reward; a tie counts as wrong."""
    return sum(reward(e.prompt, *e.chosen.said) > reward(e.prompt, *e.rejected.said) for e in pairs)


def cut_is_worst(rewards: list[float], finished: list[bool]) -> list[float]:
    """The rewards of a prompt's samples, those of cut ones set to the lowest of all: the reward of a text's beginning
    says nothing about the whole."""
    return [r if ended else min(rewards) for r, ended in zip(rewards, finished, strict=True)]


def fit(model, tokenizer, pairs: list[Example], plan: Plan, on_step: OnStep) -> Reward:
    """Train a second copy of the untrained student with a scalar head, by LoRA and TRL's RewardTrainer; the policy is
    left as it is."""
    base = model.get_base_model()
    scorer = AutoModelForSequenceClassification.from_pretrained(base.name_or_path, num_labels=1, dtype=base.dtype)
    torch.nn.init.zeros_(scorer.score.weight)
    head = {"modules_to_save": ["score"], "task_type": "SEQ_CLS"}
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", **head)
    scorer = get_peft_model(scorer.to(model.device), lora)
    rows = fitting([row(tokenizer, e) for e in pairs], plan)
    padded = deepcopy(tokenizer)  # the trainer sets its pad token, and the model's after it
    config = RewardConfig(
        **common_arguments(plan, micro_batch(model, plan, MICRO_BATCH, (2 * longest(r) for r in rows))),
        pad_token=padded.convert_ids_to_tokens(unlike_an_end(rows)),
    )
    run(RewardTrainer(scorer, args=config, train_dataset=Dataset.from_list(rows), processing_class=padded), on_step)
    scorer.eval()
    template = Template.of(tokenizer)
    scorer.config.pad_token_id = None  # one at a time, without padding: the reward is read at the last token

    @torch.no_grad()
    def reward(prompt: list[Message], text: str, finished: bool) -> float:
        ids = template.prompt_ids(prompt) + template.completion_ids(text, finished)
        return scorer(torch.tensor([ids], device=scorer.device)).logits[0, 0].item()

    return reward


def unlike_an_end(rows: list[dict[str, list[int]]]) -> int:
    """A token to pad with, at which none of the rows ends. The reward is read at the last token that is not padding:
    where the end-of-turn token pads, as SmolLM2's does, it would be skipped, and a completion that was cut get the
    reward of a finished one."""
    ends = {ids[-1] for r in rows for ids in r.values()}
    return next(token for token in count() if token not in ends)


def row(tokenizer, e: Example) -> dict[str, list[int]]:
    """Token ids of prompt and completion, as TRL names them."""
    chosen, rejected = (sequence(tokenizer, e.prompt, k) for k in (e.chosen, e.rejected))
    return {"chosen_ids": chosen[0] + chosen[1], "rejected_ids": rejected[0] + rejected[1]}
