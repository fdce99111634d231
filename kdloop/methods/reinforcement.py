"""Reinforcement: sample, reward, make the better samples likelier, stay near the reference.

    max E_{y ~ pi}[r(x, y)] - beta KL(pi | ref)                               survey Eq. 13

TRL's RLOO and GRPO, both with beta > 0 (GRPO's own default is 0, which is not Eq. 13), and online DPO. Prompts are
enough where the plan brings the reward (a pack's checks, a proven preference model); else it is a reward model, fitted
on the pairs among the examples, that passed its gate (reward_model.py). Sampling takes most of the time on a CPU: hence
the small groups.

A completion that was cut at the token limit gets the lowest reward among the samples of its prompt.
"""

from functools import partial

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from kdloop.methods.divergence import any_prompt
from kdloop.methods.dpo import BETA
from kdloop.methods.lm_head import score_label_positions_only
from kdloop.methods.lora import Method, OnStep, Plan, Reward, common_arguments, run
from kdloop.methods.objective import until
from kdloop.methods.reward_model import cut_is_worst, reward_of
from kdloop.methods.self_teaching import said
from kdloop.pairs import Example, key

KL = 0.05  # beta of RLOO, GRPO and DAPO
GROUP = 4  # samples of one prompt, compared with each other
MICRO_BATCH = 8
MISSING_END = 1e-3  # taken from a cut completion's reward where order alone counts: TRL prefers the first of a tie
DAPO = {"loss_type": "dapo", "epsilon_high": 0.28, "mask_truncated_completions": True}


def as_trl(reward: Reward, tokenizer):
    """TRL's reward function: of completions as token ids, with the prompts they belong to."""

    def rewards(prompts, completion_ids, **_) -> list[float]:
        written = [said(tokenizer, until(tokenizer.eos_token_id, ids)) for ids in completion_ids]
        scored = [reward(p, *k.said) for p, k in zip(prompts, written, strict=True)]
        groups: dict[str, list[int]] = {}
        for i, prompt in enumerate(prompts):
            groups.setdefault(key(prompt), []).append(i)
        for group in groups.values():
            worst = cut_is_worst([scored[i] for i in group], [written[i].said[1] for i in group])
            for i, r in zip(group, worst, strict=True):
                scored[i] = r
        return scored

    return rewards


def arguments(plan: Plan) -> dict:
    """Without those that are for stored completions: these trainers make their own batches."""
    stored = ("max_length", "train_sampling_strategy")
    return {k: v for k, v in common_arguments(plan, MICRO_BATCH).items() if k not in stored}


def train(
    model,
    tokenizer,
    examples: list[Example],
    plan: Plan,
    on_step: OnStep,
    trainer=GRPOTrainer,
    config=GRPOConfig,
    beta: float = KL,
    **options,
) -> dict[str, float]:
    """`options` go to TRL's `config`, beside the `beta` of Eq. 13."""
    score_label_positions_only()
    reward = as_trl(reward_of(model, tokenizer, examples, plan, on_step), tokenizer)
    data = Dataset.from_list([{"prompt": e.prompt} for e in examples])
    sampled = {"num_generations": GROUP, "max_completion_length": plan.max_tokens}
    args = config(**arguments(plan), **sampled, beta=beta, **options)
    return run(trainer(model, reward_funcs=reward, args=args, train_dataset=data, processing_class=tokenizer), on_step)


def online_dpo(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer  # warns where it is imported

    reward = as_trl(reward_of(model, tokenizer, examples, plan, on_step), tokenizer)
    data = Dataset.from_list([{"prompt": e.prompt} for e in examples])
    limits = {"max_new_tokens": plan.max_tokens, "missing_eos_penalty": MISSING_END}
    args = OnlineDPOConfig(**arguments(plan), beta=BETA, **limits)
    made = OnlineDPOTrainer(model, reward_funcs=reward, args=args, train_dataset=data, processing_class=tokenizer)
    return run(made, on_step)


NEEDS = "prompts, and a reward or the pairs to fit one on"
METHODS = {
    "rloo": Method(
        any_prompt,
        partial(train, trainer=RLOOTrainer, config=RLOOConfig),
        NEEDS,
        loss="-(r(y) - beta log pi / ref - mean of the same of the other samples) log pi(y)",
        paper="survey Eq. 13; Ahmadian et al. 2024 (RLOO)",
        defaults="beta 0.05, 4 samples a prompt",
        when="A verifier says what is right: the closest to Eq. 13 that needs no value model.",
        differs_from_paper="a completion that was cut gets the lowest reward of its prompt's samples; TRL clips the "
        "ratio to the policy that sampled, as PPO does",
    ),
    "grpo": Method(
        any_prompt,
        partial(train, loss_type="grpo"),
        NEEDS,
        loss="mean over y's tokens of -(r(y) - mean) / deviation of its group, + beta KL(pi | ref)",
        paper="Shao et al. 2024 (GRPO); survey Eq. 13",
        defaults="beta 0.05, 4 samples a prompt, ratio clipped at 0.2",
        when="Rewards of very different scale from prompt to prompt.",
        differs_from_paper="4 samples a prompt in place of 64; the reference stays the one that the round starts from, "
        "and the reward model is not trained on; a completion that was cut gets the lowest reward of its group",
    ),
    "dapo": Method(
        any_prompt,
        partial(train, **DAPO),
        NEEDS,
        loss="as grpo's, with one mean over the tokens of all samples, of which those that were cut are none",
        paper="Yu et al. 2025 (2503.14476)",
        defaults="beta 0.05, 4 samples a prompt, ratio clipped at 0.2 below and 0.28 above",
        when="As grpo, where completions differ much in length: a token of a long one counts as much.",
        differs_from_paper="no dynamic sampling: a group whose rewards are equal is not drawn again, and teaches "
        "nothing; cut samples are masked (the paper's filtering) in place of its soft length penalty; the KL term "
        "stays, which the paper drops",
    ),
    "online_dpo": Method(
        any_prompt,
        online_dpo,
        NEEDS,
        loss="dpo's without the anchor, of two own samples that the reward orders",
        paper="Guo et al. 2024 (OAIF)",
        defaults="beta 0.1",
        when="A reward whose order can be trusted and whose size cannot.",
        differs_from_paper="the order is by a reward, not by a language model that compares the two; of two with the "
        "same reward TRL prefers the first, but never one that was cut to one that was not",
    ),
}
