"""Reinforcement: sample, reward, make the better samples likelier, stay near the reference.

    max E_{y ~ pi}[r(x, y)] - beta KL(pi | ref)                               survey Eq. 13

TRL's RLOO and GRPO trainers, both with beta > 0 (TRL's default of GRPO is 0, which is not Eq. 13), and its online DPO.
Prompts are enough where the plan has a reward (a pack's checks, a proven preference model); else a reward model is
fitted on the pairs among the examples, and has to pass a gate of its own (reward_model.py).

A completion that was cut at the token limit gets the lowest reward among the samples of its prompt. Scored like whole
texts, they taught a student that is rewarded for length never to end (61 % of its samples before; docs/log.md).
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
from kdloop.methods.objective import as_completion, sample
from kdloop.methods.rl.reward_model import cut_is_worst, reward_of
from kdloop.student.template import Template
from kdloop.student.transformers import pad_left

KL_WEIGHT = 0.05  # beta of RLOO, GRPO and DAPO: TRL's default of RLOO
GROUP_SIZE = 4  # samples per prompt, compared with each other: sampling is most of the time on a CPU
MICRO_BATCH = 8  # samples: two groups
CUT_PENALTY = 1e-3  # of online DPO, where order alone counts: TRL prefers the first of a tie
DAPO = {"loss_type": "dapo", "epsilon_high": 0.28, "mask_truncated_completions": True}


class PromptsAsServed:
    """A trainer whose prompts are rendered as in chats (student/template.py), not by TRL."""

    processing_class: Any

    def _tokenize_prompts(self, prompts: list):
        """TRL's: (token ids, images, other inputs)."""
        return [Template.of(self.processing_class).prompt_ids(p) for p in prompts], None, {}


class TokenizedRLOOTrainer(PromptsAsServed, RLOOTrainer):
    pass


class TokenizedGRPOTrainer(PromptsAsServed, GRPOTrainer):
    pass


def as_trl(reward: Reward, tokenizer):
    """A reward function of TRL's: of completions as token ids, each with its prompt."""

    def reward_function(prompts, completion_ids, **_) -> list[float]:
        completions = [as_completion(tokenizer, ids) for ids in completion_ids]
        rewards = [reward(p, *k.said) for p, k in zip(prompts, completions, strict=True)]
        groups: dict[str, list[int]] = {}
        for i, prompt in enumerate(prompts):
            groups.setdefault(key(prompt), []).append(i)
        for group in groups.values():
            of_group = cut_is_worst([rewards[i] for i in group], [completions[i].said[1] for i in group])
            for i, r in zip(group, of_group, strict=True):
                rewards[i] = r
        return rewards

    return reward_function


def prompts(model, tokenizer, examples: list[Example], plan: Plan) -> list[dict]:
    """TRL's rows of the prompts that leave room for a completion. Also sets the model's generation config to end turns
    as the served student does."""
    model.generation_config.eos_token_id = list(Template.of(tokenizer).ends)
    rows = [{"prompt": e.prompt} for e in examples]
    return fitting(rows, plan, lambda r: len(Template.of(tokenizer).prompt_ids(r["prompt"])) + plan.max_tokens)


def arguments(plan: Plan) -> dict:
    """The common ones without those that the online trainers' configs lack, which make their own batches."""
    offline = ("max_length", "train_sampling_strategy")
    return {k: v for k, v in common_arguments(plan, MICRO_BATCH).items() if k not in offline}


def train(
    model,
    tokenizer,
    examples: list[Example],
    plan: Plan,
    on_step: OnStep,
    trainer=TokenizedGRPOTrainer,
    config=GRPOConfig,
    beta: float = KL_WEIGHT,
    **options,
) -> dict[str, float]:
    """`beta` is that of Eq. 13; `options` are other options of TRL's `config`."""
    score_label_positions_only()
    reward = as_trl(reward_of(model, tokenizer, examples, plan, on_step), tokenizer)
    data = Dataset.from_list(prompts(model, tokenizer, examples, plan))
    sampling = {"num_generations": GROUP_SIZE, "max_completion_length": plan.max_tokens}
    args = config(**arguments(plan), **sampling, beta=beta, **options)
    return run(trainer(model, reward_funcs=reward, args=args, train_dataset=data, processing_class=tokenizer), on_step)


def online_dpo(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """TRL's experimental OnlineDPOTrainer on prompts and samples as served; no anchor."""
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer  # its import warns

    reward = as_trl(reward_of(model, tokenizer, examples, plan, on_step), tokenizer)

    class TokenizedOnlineDPOTrainer(OnlineDPOTrainer):
        def _generate(self, model, prompts, images=None):
            """TRL's: two completions of each prompt, padded on the right, and their prompts, padded on the left."""
            heads, ends = [Template.of(tokenizer).prompt_ids(p) for p in prompts] * 2, Template.of(tokenizer).ends
            samples = sample(model, heads, plan.max_tokens, ends, self.args.temperature)
            ids_and_masks = [pad_left(heads, ends[0]), pad_left([[1] * len(h) for h in heads], 0)]
            ids_and_masks += [pad_left([s[::-1] for s in samples], ends[0]).flip(1)]
            ids_and_masks += [pad_left([[1] * len(s) for s in samples], 0).flip(1)]
            return *(x.to(self.accelerator.device) for x in ids_and_masks), None

    data = Dataset.from_list(prompts(model, tokenizer, examples, plan))
    limits = {"max_new_tokens": plan.max_tokens, "max_length": plan.max_length, "missing_eos_penalty": CUT_PENALTY}
    args = OnlineDPOConfig(**arguments(plan), **limits, beta=BETA)
    trainer = TokenizedOnlineDPOTrainer(
        model, reward_funcs=reward, args=args, train_dataset=data, processing_class=tokenizer
    )
    return run(trainer, on_step)


NEEDS = "prompts, and a reward or the pairs to fit one on"
METHODS = {
    "rloo": Method(
        any_prompt,
        partial(train, trainer=TokenizedRLOOTrainer, config=RLOOConfig),
        NEEDS,
        loss="-(r(y) - beta log pi / ref - mean of the same of the other samples) log pi(y)",
        paper="survey Eq. 13; Ahmadian et al. 2024 (RLOO)",
        defaults="beta 0.05, 4 samples per prompt",
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
        defaults="beta 0.05, 4 samples per prompt, ratio clipped at 0.2",
        when="Rewards of very different scale from prompt to prompt.",
        differs_from_paper="4 samples per prompt in place of 64; the reference stays the round's start, "
        "and the reward model is not trained on; a completion that was cut gets the lowest reward of its group",
    ),
    "dapo": Method(
        any_prompt,
        partial(train, **DAPO),
        NEEDS,
        loss="as grpo's, with one mean over the tokens of all samples, of which those that were cut are none",
        paper="Yu et al. 2025 (2503.14476)",
        defaults="beta 0.05, 4 samples per prompt, ratio clipped at 0.2 below and 0.28 above",
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
