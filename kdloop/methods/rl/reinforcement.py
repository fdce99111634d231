"""Reinforcement: sample, reward, make the better samples likelier, stay near the reference.

    max E_{y ~ pi}[r(x, y)] - beta KL(pi | ref)                               survey Eq. 13

TRL's RLOO and GRPO, both with beta > 0 (GRPO's own default is 0, which is not Eq. 13), and online DPO. Prompts are
enough where the plan brings the reward (a pack's checks, a proven preference model); else it is a reward model, fitted
on the pairs among the examples, that passed its gate (reward_model.py). Sampling takes most of the time on a CPU: hence
the small groups.

A completion that was cut at the token limit gets the lowest reward among the samples of its prompt.
"""

from functools import partial
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from kdloop.feedback.examples import Example, key
from kdloop.methods.distill.divergence import any_prompt
from kdloop.methods.dpo import BETA
from kdloop.methods.lm_head import score_label_positions_only
from kdloop.methods.lora import Method, OnStep, Plan, Reward, common_arguments, fitting, run
from kdloop.methods.objective import pad_left, sample
from kdloop.methods.rl.reward_model import cut_is_worst, reward_of
from kdloop.methods.self_training.self_teaching import said
from kdloop.student.prompts import prompt_ids
from kdloop.student.template import Template

KL = 0.05  # beta of RLOO, GRPO and DAPO
GROUP = 4  # samples of one prompt, compared with each other
MICRO_BATCH = 8
MISSING_END = 1e-3  # taken from a cut completion's reward where order alone counts: TRL prefers the first of a tie
DAPO = {"loss_type": "dapo", "epsilon_high": 0.28, "mask_truncated_completions": True}


class PromptsAsServed:
    """A trainer that reads prompts as chats do (student/template.py), not by TRL's own rendering."""

    processing_class: Any

    def _tokenize_prompts(self, prompts: list):
        """TRL's: (token ids, images, other inputs)."""
        return [prompt_ids(self.processing_class, p) for p in prompts], None, {}


class TokenizedRLOOTrainer(PromptsAsServed, RLOOTrainer):
    pass


class TokenizedGRPOTrainer(PromptsAsServed, GRPOTrainer):
    pass


def as_trl(reward: Reward, tokenizer):
    """TRL's reward function: of completions as token ids, with the prompts they belong to."""

    def rewards(prompts, completion_ids, **_) -> list[float]:
        written = [said(tokenizer, ids) for ids in completion_ids]
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


def prompts(model, tokenizer, examples: list[Example], plan: Plan) -> list[dict]:
    """Rows for TRL of the prompts that leave room for a completion. From now on the model ends its turns as served."""
    model.generation_config.eos_token_id = list(Template.of(tokenizer).ends)
    rows = [{"prompt": e.prompt} for e in examples]
    return fitting(rows, plan, lambda r: len(prompt_ids(tokenizer, r["prompt"])) + plan.max_tokens)


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
    trainer=TokenizedGRPOTrainer,
    config=GRPOConfig,
    beta: float = KL,
    **options,
) -> dict[str, float]:
    """`options` go to TRL's `config`, beside the `beta` of Eq. 13."""
    score_label_positions_only()
    reward = as_trl(reward_of(model, tokenizer, examples, plan, on_step), tokenizer)
    data = Dataset.from_list(prompts(model, tokenizer, examples, plan))
    sampled = {"num_generations": GROUP, "max_completion_length": plan.max_tokens}
    args = config(**arguments(plan), **sampled, beta=beta, **options)
    return run(trainer(model, reward_funcs=reward, args=args, train_dataset=data, processing_class=tokenizer), on_step)


def online_dpo(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer  # warns where it is imported

    reward = as_trl(reward_of(model, tokenizer, examples, plan, on_step), tokenizer)

    class TokenizedOnlineDPOTrainer(OnlineDPOTrainer):
        def _generate(self, model, prompts, images=None):
            """TRL's: two completions of each prompt, padded on the right, and their prompts, padded on the left."""
            heads, ends = [prompt_ids(tokenizer, p) for p in prompts] * 2, Template.of(tokenizer).ends
            written = sample(model, heads, plan.max_tokens, ends, self.args.temperature)
            sides = [pad_left(heads, ends[0]), pad_left([[1] * len(h) for h in heads], 0)]
            sides += [pad_left([w[::-1] for w in written], ends[0]).flip(1)]
            sides += [pad_left([[1] * len(w) for w in written], 0).flip(1)]
            return *(side.to(self.accelerator.device) for side in sides), None

    data = Dataset.from_list(prompts(model, tokenizer, examples, plan))
    limits = {"max_new_tokens": plan.max_tokens, "max_length": plan.max_length, "missing_eos_penalty": MISSING_END}
    args = OnlineDPOConfig(**arguments(plan), **limits, beta=BETA)
    made = TokenizedOnlineDPOTrainer(
        model, reward_funcs=reward, args=args, train_dataset=data, processing_class=tokenizer
    )
    return run(made, on_step)


NEEDS = "prompts, and a reward or the pairs to fit one on"
METHODS = {
    "rloo": Method(
        any_prompt,
        partial(train, trainer=TokenizedRLOOTrainer, config=RLOOConfig),
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
