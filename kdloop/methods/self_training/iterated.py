"""Iterations of methods that exist, on the student's own samples: ReST, STaR, Self-Rewarding.

Each samples, filters or scores, and trains by an ordinary method: fine-tuning on what passed, or dpo on the best
against the worst. All train under the plain prompt, which is the one that is served; a completion that was cut is never
the better one.
"""

import re
from dataclasses import replace

import numpy as np

from kdloop.feedback.examples import Example
from kdloop.methods import dpo, supervised
from kdloop.methods.distill.divergence import any_prompt
from kdloop.methods.lora import Method, NothingToLearn, OnStep, Plan
from kdloop.methods.rl.reward_model import cut_is_worst, reward_of
from kdloop.methods.self_training.self_teaching import with_context, write
from kdloop.methods.supervised import usable
from storage.conversations import Completion, as_prompt

SAMPLES = 4  # per prompt: sampling is most of the time on a CPU
QUANTILES = (0.5, 0.75)  # of the rewards, one Improve step of ReST each: thresholds rise as in the paper
HINT = "{question}\n\n(A right answer is: {chosen})"
MIN_PARSED = 0.8  # share of its judgements in which the student gives a score: below, it does not follow the prompt
JUDGE = """Review the answer to the question. Give it one point for each that holds: it is about the question; it is
right; it is complete; it is clear; it reads well. End with "Score: " and the points out of 5.

Question: {question}
Answer: {answer}"""


def samples_of(model, tokenizer, examples: list[Example], plan: Plan) -> list[list[Completion]]:
    """SAMPLES completions of each example's prompt (ReST's Grow step)."""
    written = write(model, tokenizer, [e.prompt for e in examples for _ in range(SAMPLES)], plan)
    return [written[i * SAMPLES :][:SAMPLES] for i in range(len(examples))]


def above_quantile(examples: list[Example], rewards: list[float], quantile: float) -> list[Example]:
    """Those with a reward at or above the quantile of all of them."""
    threshold = np.quantile(rewards, quantile)
    return [e for e, r in zip(examples, rewards, strict=True) if r >= threshold]


def rest(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """Fine-tuning on the better half of the student's samples, then on the best quarter. Raises NothingToLearn where it
    ended none of them itself: the reward of a completion that was cut is not that of the whole text."""
    reward, metrics = reward_of(model, tokenizer, examples, plan, on_step), {}
    groups = zip(examples, samples_of(model, tokenizer, examples, plan), strict=True)
    samples = [replace(e, chosen=k) for e, group in groups for k in group if k.said[1]]
    if not samples:
        raise NothingToLearn(f"The student ended none of its samples within {plan.max_tokens} tokens")
    rewards = [reward(e.prompt, *e.chosen.said) for e in samples]
    for quantile in QUANTILES:
        metrics |= supervised.by_weight(model, tokenizer, above_quantile(samples, rewards, quantile), plan, on_step)
    return metrics


def star(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """Fine-tuning on own samples that the verifier passes; where it fails one, on another that was sampled with the
    right completion as a hint (rationalization), under the plain prompt. Raises NothingToLearn where it passes none."""

    def right(e: Example, k: Completion) -> bool:
        return k.said[1] and plan.reward(e.prompt, *k.said) >= plan.right

    first = list(zip(examples, write(model, tokenizer, [e.prompt for e in examples], plan), strict=True))
    failed = [e for e, k in first if not right(e, k)]
    hinted = write(model, tokenizer, [with_context(e, HINT, chosen=e.chosen.text) for e in failed], plan)
    passed = [replace(e, chosen=k) for e, k in [*first, *zip(failed, hinted, strict=True)] if right(e, k)]
    if not passed:
        raise NothingToLearn("The verifier passed none of the student's completions, with a hint or without")
    return supervised.by_weight(model, tokenizer, passed, plan, on_step)


def score(text: str) -> float | None:
    """The last score of a judgement, 0 to 5; None where it has none."""
    found = re.findall(r"score:\s*\**\s*([0-5](?:\.\d+)?)\b(?:\s*/\s*5)?", text.lower())
    return float(found[-1]) if found and float(found[-1]) <= 5 else None


def self_rewarding(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """dpo of the best against the worst of the student's samples, by the student's own scores. Raises NothingToLearn
    where fewer than MIN_PARSED of its judgements hold a score."""
    groups = samples_of(model, tokenizer, examples, plan)
    each = [(e, k) for e, group in zip(examples, groups, strict=True) for k in group]
    judged = [as_prompt(JUDGE.format(question=e.question, answer=k.text)) for e, k in each]
    scores = [score(k.text) for k in write(model, tokenizer, judged, plan)]
    parsed = sum(s is not None for s in scores) / len(scores)
    if parsed < MIN_PARSED:
        raise NothingToLearn(f"The student gave a score in {parsed:.0%} of its judgements, {MIN_PARSED:.0%} are needed")
    return dpo.train(model, tokenizer, best_and_worst(examples, groups, scores), plan, on_step)


def best_and_worst(examples: list[Example], groups: list[list[Completion]], scores: list) -> list[Example]:
    """A pair from each group whose scores are not all equal. `scores` are of all samples, group by group, None for one
    without a score."""
    pairs, remaining = [], iter(scores)
    for e, group in zip(examples, groups, strict=True):
        scored = [(s, k) for s, k in zip([next(remaining) for _ in group], group, strict=True) if s is not None]
        finished = [k.said[1] for _, k in scored]
        scored = [(s, k) for s, (_, k) in zip(cut_is_worst([s for s, _ in scored], finished), scored, strict=True)]
        best, worst = (choose(scored, key=lambda pair: pair[0], default=(0, None)) for choose in (max, min))
        if best[0] > worst[0]:
            pairs.append(replace(e, chosen=best[1], rejected=worst[1]))
    return pairs


METHODS = {
    "rest": Method(
        any_prompt,
        rest,
        needs="prompts, and a reward or the pairs to fit one on",
        loss="-log pi(y), per token, of own samples with r(y) above a threshold that rises",
        paper="Gulcehre et al. 2023 (ReST)",
        defaults="4 samples per prompt, the better half, then the best quarter",
        when="A reward that is good enough to choose, not to climb: nothing is pushed down.",
        differs_from_paper="thresholds are quantiles of the rewards; one Grow step per round; samples that were "
        "cut are left out",
        weighs=True,
    ),
    "star": Method(
        usable,
        star,
        needs="prompts with a right completion, and a verifier",
        loss="-log pi(y), per token, of own samples that the verifier passes",
        paper="Zelikman et al. 2022 (STaR)",
        defaults="one sample per prompt, one more with the answer as a hint",
        when="Tasks with a checkable answer.",
        differs_from_paper="one pass, which starts where the round does: the paper trains again from the base, as "
        "the recipe `star` does; one sample per prompt; samples that were cut are left out",
        requires=("reward",),
        weighs=True,
    ),
    "self_rewarding": Method(
        any_prompt,
        self_rewarding,
        needs="prompts, and a student that can judge",
        loss="dpo's, of the best and the worst own sample by the student's own score",
        paper="Yuan et al. 2024 (Self-Rewarding)",
        defaults="4 samples per prompt; refused where under 80 % of the judgements hold a score",
        when="Students of some billion parameters; SmolLM2-135M is refused.",
        differs_from_paper="the five points are asked for in shorter words; no training to judge; a score is one "
        "verdict, not a mean; samples that were cut are the worst; dpo's anchor",
    ),
}
