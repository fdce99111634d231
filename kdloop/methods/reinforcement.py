"""Reinforcement: sample, reward, make the better samples likelier, stay near the reference.

    max E_{y ~ pi}[r(x, y)] - beta KL(pi | ref)                               survey Eq. 13

TRL's RLOO and GRPO, both with beta > 0 (GRPO's own default is 0, which is not Eq. 13), and online DPO. Prompts are
enough where the plan brings the reward (a pack's checks, a proven preference model); else it is a reward model, fitted
on the pairs among the examples, that passed its gate (reward_model.py). Sampling takes most of the time on a CPU: hence
the small groups.
"""

from functools import partial

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from kdloop.methods.divergence import any_prompt
from kdloop.methods.dpo import BETA
from kdloop.methods.lm_head import score_label_positions_only
from kdloop.methods.lora import Method, OnStep, Plan, Reward, common_arguments, fitting, run
from kdloop.methods.objective import pad_left, sample
from kdloop.methods.reward_model import reward_of
from kdloop.pairs import Example
from kdloop.student.prompts import prompt_ids
from kdloop.student.template import Template
from storage.conversations import transcript

KL = 0.05  # beta of RLOO and GRPO
GROUP = 4  # samples of one prompt, compared with each other
MICRO_BATCH = 8


class PromptsAsServed:
    """A trainer that reads prompts as chats do (student/template.py), not by TRL's own rendering."""

    def _tokenize_prompts(self, prompts: list):
        """TRL's: (token ids, images, other inputs)."""
        return [prompt_ids(self.processing_class, p) for p in prompts], None, {}


class TokenizedRLOOTrainer(PromptsAsServed, RLOOTrainer):
    pass


class TokenizedGRPOTrainer(PromptsAsServed, GRPOTrainer):
    pass


TRAINERS = {"rloo": (TokenizedRLOOTrainer, RLOOConfig), "grpo": (TokenizedGRPOTrainer, GRPOConfig)}


def as_trl(reward: Reward):
    def rewards(prompts, completions, **_) -> list[float]:
        return [reward(transcript(p), c[-1]["content"]) for p, c in zip(prompts, completions, strict=True)]

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
    model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep, name: str, beta: float = KL
) -> dict[str, float]:
    score_label_positions_only()
    trainer, config = TRAINERS[name]
    reward = reward_of(model, tokenizer, examples, plan, on_step)
    data = Dataset.from_list(prompts(model, tokenizer, examples, plan))
    args = config(**arguments(plan), beta=beta, num_generations=GROUP, max_completion_length=plan.max_tokens)
    made = trainer(model, reward_funcs=as_trl(reward), args=args, train_dataset=data, processing_class=tokenizer)
    return run(made, on_step)


def online_dpo(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer  # warns where it is imported

    reward = reward_of(model, tokenizer, examples, plan, on_step)

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
    lengths = {"max_new_tokens": plan.max_tokens, "max_length": plan.max_length}
    args = OnlineDPOConfig(**arguments(plan), **lengths, beta=BETA)
    made = TokenizedOnlineDPOTrainer(
        model, reward_funcs=as_trl(reward), args=args, train_dataset=data, processing_class=tokenizer
    )
    return run(made, on_step)


NEEDS = "prompts, and a reward or the pairs to fit one on"
METHODS = {
    "rloo": Method(
        any_prompt,
        partial(train, name="rloo"),
        NEEDS,
        loss="-(r(y) - beta log pi / ref - mean of the same of the other samples) log pi(y)",
        paper="survey Eq. 13; Ahmadian et al. 2024 (RLOO)",
        defaults="beta 0.05, 4 samples a prompt",
        when="A verifier says what is right: the closest to Eq. 13 that needs no value model.",
    ),
    "grpo": Method(
        any_prompt,
        partial(train, name="grpo"),
        NEEDS,
        loss="-(r(y) - mean) / deviation of its group, a token, + beta KL(pi | ref)",
        paper="Shao et al. 2024 (GRPO); survey Eq. 13",
        defaults="beta 0.05, 4 samples a prompt",
        when="Rewards of very different scale from prompt to prompt.",
    ),
    "online_dpo": Method(
        any_prompt,
        online_dpo,
        NEEDS,
        loss="dpo's without the anchor, of two own samples that the reward orders",
        paper="Guo et al. 2024 (OAIF)",
        defaults="beta 0.1",
        when="A reward whose order can be trusted and whose size cannot.",
    ),
}
