"""Iterations of methods that exist, on samples of the student's own: ReST, STaR, Self-Rewarding.

Each is a sampler, a judgement and an ordinary method: fine-tuning on what passed, or dpo on the best against the worst.
What is learned is learned under the plain prompt, which is the one that is served; what was cut is never the better.
"""

import re
from dataclasses import replace

import numpy as np

from kdloop.feedback.examples import Example
from kdloop.methods import dpo, supervised
from kdloop.methods.lora import Method, NothingToLearn, OnStep, Plan
from kdloop.methods.rl.reward_model import cut_is_worst, reward_of
from kdloop.methods.self_training.self_teaching import any_prompt, asked, usable, write
from storage.conversations import Completion, as_prompt

SAMPLES = 4  # a prompt
THRESHOLDS = (0.5, 0.75)  # of ReST: quantiles of the reward, one Improve step each
HINT = "{question}\n\n(A right answer is: {chosen})"
MIN_PARSED = 0.8  # of the student's own scores
JUDGE = """Review the answer to the question. Give it one point for each that holds: it is about the question; it is
right; it is complete; it is clear; it reads well. End with "Score: " and the points out of 5.

Question: {question}
Answer: {answer}"""


def grow(model, tokenizer, examples: list[Example], plan: Plan) -> list[list[Completion]]:
    """SAMPLES completions of each prompt."""
    written = write(model, tokenizer, [e.prompt for e in examples for _ in range(SAMPLES)], plan)
    return [written[i * SAMPLES :][:SAMPLES] for i in range(len(examples))]


def improve(grown: list[Example], rewards: list[float], quantile: float) -> list[Example]:
    """What is at or above the quantile of all rewards."""
    threshold = np.quantile(rewards, quantile)
    return [e for e, r in zip(grown, rewards, strict=True) if r >= threshold]


def rest(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """Fine-tuning on the better half of the student's samples, then on the best quarter. Raises NothingToLearn where
    none of them was ended by the student itself: what a reward says of half a text is not what it says of the text."""
    reward, metrics = reward_of(model, tokenizer, examples, plan, on_step), {}
    groups = zip(examples, grow(model, tokenizer, examples, plan), strict=True)
    grown = [replace(e, chosen=k) for e, group in groups for k in group if k.said[1]]
    if not grown:
        raise NothingToLearn(f"The student ended none of its samples within {plan.max_tokens} tokens")
    rewards = [reward(e.prompt, *e.chosen.said) for e in grown]
    for quantile in THRESHOLDS:
        metrics |= supervised.by_weight(model, tokenizer, improve(grown, rewards, quantile), plan, on_step)
    return metrics


def star(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """Own completions that the verifier passes; where it fails one, another that was written with the right one in
    view. Either way the plain prompt is what the student learns it for."""

    def right(e: Example, k: Completion) -> bool:
        return k.said[1] and plan.reward(e.prompt, *k.said) >= plan.right

    first = list(zip(examples, write(model, tokenizer, [e.prompt for e in examples], plan), strict=True))
    failed = [e for e, k in first if not right(e, k)]
    hinted = write(model, tokenizer, [asked(e, HINT, chosen=e.chosen.text) for e in failed], plan)
    kept = [replace(e, chosen=k) for e, k in [*first, *zip(failed, hinted, strict=True)] if right(e, k)]
    if not kept:
        raise NothingToLearn("The verifier passed none of the student's completions, with the right one in view or not")
    return supervised.by_weight(model, tokenizer, kept, plan, on_step)


def score(text: str) -> float | None:
    """The points of a judgement; None where there are none from 0 to 5."""
    found = re.findall(r"score:\s*\**\s*([0-5](?:\.\d+)?)\b(?:\s*/\s*5)?", text.lower())
    return float(found[-1]) if found and float(found[-1]) <= 5 else None


def self_rewarding(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """dpo of the best against the worst of the student's samples, by the student's own scores."""
    groups = grow(model, tokenizer, examples, plan)
    each = [(e, k) for e, group in zip(examples, groups, strict=True) for k in group]
    judged = [as_prompt(JUDGE.format(question=e.question, answer=k.text)) for e, k in each]
    scores = [score(k.text) for k in write(model, tokenizer, judged, plan)]
    parsed = sum(s is not None for s in scores) / len(scores)
    if parsed < MIN_PARSED:
        raise NothingToLearn(f"The student gave a score in {parsed:.0%} of its judgements, {MIN_PARSED:.0%} are needed")
    return dpo.train(model, tokenizer, best_and_worst(examples, groups, scores), plan, on_step)


def best_and_worst(examples: list[Example], groups: list[list[Completion]], scores: list) -> list[Example]:
    """A pair of each prompt whose samples did not all get the same score; `scores` may hold None."""
    pairs, at = [], iter(scores)
    for e, group in zip(examples, groups, strict=True):
        scored = [(s, k) for s, k in zip([next(at) for _ in group], group, strict=True) if s is not None]
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
        loss="-log pi(y), a token, of own samples with r(y) above a threshold that rises",
        paper="Gulcehre et al. 2023 (ReST)",
        defaults="4 samples a prompt, the better half, then the best quarter",
        when="A reward that is good enough to choose, not to climb: nothing is pushed down.",
        differs_from_paper="thresholds are quantiles of the samples' rewards; one Grow step a round; samples that were "
        "cut are left out",
        weighs=True,
    ),
    "star": Method(
        usable,
        star,
        needs="prompts with a right completion, and a verifier",
        loss="-log pi(y), a token, of own samples that the verifier passes",
        paper="Zelikman et al. 2022 (STaR)",
        defaults="one sample a prompt, one more with the answer in view",
        when="Tasks with a checkable answer.",
        differs_from_paper="one pass, which starts where the round does: the paper trains again from the base, as "
        "the recipe `star` does; one sample a prompt; samples that were cut are left out",
        lacks=lambda plan: "" if plan.reward else "needs a verifier: a pack with checks, or a proven preference model",
        weighs=True,
    ),
    "self_rewarding": Method(
        any_prompt,
        self_rewarding,
        needs="prompts, and a student that can judge",
        loss="dpo's, of the best and the worst own sample by the student's own score",
        paper="Yuan et al. 2024 (Self-Rewarding)",
        defaults="4 samples a prompt; refused where under 80 % of the judgements hold a score",
        when="Students of some billion parameters; SmolLM2-135M is refused.",
        differs_from_paper="the five points are asked for in shorter words; no training to judge; a score is one "
        "verdict, not a mean; samples that were cut are the worst; dpo's anchor",
    ),
}
