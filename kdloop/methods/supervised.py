"""Supervised: fine-tuning on what people liked, chose or wrote. The NLL of the completion, prompt masked.

Survey Eq. 9; TRL SFTTrainer. The relatives change what a token or a row counts, or which rows an example makes.
"""

from dataclasses import replace
from functools import partial

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from kdloop.feedback.examples import Example
from kdloop.methods.lm_head import score_label_positions_only
from kdloop.methods.lora import Method, OnStep, Plan, bucketed, common_arguments, fitting, longest, micro_batch, run
from kdloop.methods.objective import fit, reference_logps, sequence, sequence_logps
from kdloop.student.template import Template
from storage.conversations import Message

MICRO_BATCH = 4
BEST = ("human", "verifier")  # sources whose word is as good as it gets: a person's, and what a check has found right
AI_WEIGHT = 0.1  # of a completion that another source chose, against 1 of theirs
WHY = "Give the reason for your answer to this in one or two sentences:\n\n"


def usable(example: Example) -> bool:
    return example.chosen is not None


def explained(example: Example) -> bool:
    return example.chosen is not None and bool(example.rationale)


def row(tokenizer, e: Example) -> dict[str, list[int]]:
    prompt = Template.of(tokenizer).prompt_ids(e.prompt)
    completion = Template.of(tokenizer).completion_ids(*e.chosen.said)
    return {"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion}


def one_row(tokenizer, e: Example) -> list[dict[str, list[int]]]:
    return [row(tokenizer, e)]


def target_and_reason(tokenizer, e: Example) -> list[dict[str, list[int]]]:
    """Two rows of one example: the completion, and the reason for it, each asked for by its own prompt."""
    asked = [*e.prompt[:-1], {"role": "user", "content": WHY + e.prompt[-1]["content"]}]
    prompt, reason = Template.of(tokenizer).prompt_ids(asked), Template.of(tokenizer).completion_ids(e.rationale, True)
    return [row(tokenizer, e), {"input_ids": prompt + reason, "labels": [-100] * len(prompt) + reason}]


def train(
    model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep, rows_of=one_row, loss="nll"
) -> dict[str, float]:
    """`rows_of(tokenizer, example)` makes an example's rows; `loss` is a loss_type of TRL's."""
    score_label_positions_only()
    rows = fitting([r for e in examples for r in rows_of(tokenizer, e)], plan)
    size = micro_batch(model, plan, MICRO_BATCH, map(longest, rows))
    config = SFTConfig(**common_arguments(plan, size), loss_type=loss)
    data = Dataset.from_list(bucketed(rows, size, plan.seed))
    return run(SFTTrainer(model, args=config, train_dataset=data, processing_class=tokenizer), on_step)


def mean_nll(model, rows: list[dict], progress: float):
    """Weighted NLL a token. Divided by all tokens, not by their weight: a micro-batch of light rows is a light one."""
    logps, lengths = sequence_logps(model, [r["sequences"][0] for r in rows])
    weights = torch.tensor([r["weight"] for r in rows], device=logps.device)
    return -(logps * weights).sum() / lengths.sum(), {}


def weighed_rows(tokenizer, examples: list[Example]) -> list[dict]:
    """A row of each example for `mean_nll`, under the prompt as it is asked when the student serves."""
    return [{"sequences": [sequence(tokenizer, e.prompt, e.chosen)], "weight": e.weight} for e in examples]


def by_weight(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """Fine-tuning in which a row counts by its example's weight, whatever its source."""
    return fit(model, weighed_rows(tokenizer, examples), mean_nll, plan, on_step)


def conditioned(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """Beside rows of the best sources, the others name theirs in their prompt and count less: so the plain prompt, the
    one that is served, stays that of the best. Without such rows all are under the plain prompt: none other is asked.
    """
    best = [e.source in BEST for e in examples]
    others = [replace(e, prompt=naming(e), weight=e.weight * AI_WEIGHT) for e in examples]
    if any(best):
        examples = [e if is_best else other for e, other, is_best in zip(examples, others, best, strict=True)]
    return by_weight(model, tokenizer, examples, plan, on_step)


def naming(e: Example) -> list[Message]:
    """The prompt with its completion's source."""
    return [{"role": "system", "content": f"Source: {e.source}"}, *e.prompt]


def easy_first(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """Rows in the order of the student's own NLL a token before training."""
    rows = weighed_rows(tokenizer, examples)
    for r, logp in zip(rows, reference_logps(model, [r["sequences"][0] for r in rows]), strict=True):
        r["difficulty"] = -logp / len(r["sequences"][0][1])
    return fit(model, sorted(rows, key=lambda r: r["difficulty"]), mean_nll, plan, on_step, ordered=True)


METHODS = {
    "sft": Method(
        usable,
        train,
        needs="liked, chosen or written completions",
        loss="-log pi(y), a token",
        paper="survey Eq. 9",
        defaults="none to choose",
        when="Nothing to contrast with: what `auto` takes where there are likes alone.",
        differs_from_paper="Eq. 9 has a teacher's completions; here whoever's was liked",
    ),
    "dft": Method(
        usable,
        partial(train, loss="dft"),
        needs="liked, chosen or written completions",
        loss="-sg[pi(y_t)] log pi(y_t), a token",
        paper="Wu et al. 2025 (2508.05629)",
        defaults="none to choose",
        when="Completions of another author: tokens that the student finds absurd teach less, so less is forgotten.",
        differs_from_paper="nothing known",
    ),
    "weighted_sft": Method(
        usable,
        conditioned,
        needs="completions with a source and a weight",
        loss="-w log pi(y | source), a token",
        paper="Wang et al. 2023 (OpenChat, C-RLFT)",
        defaults="w 1 for what people or checks chose; 0.1 for the other sources, which are named in the prompt",
        when="Many AI-rated completions beside a few of people's.",
        differs_from_paper="the best source has no mark, so that the served prompt is its own; more sources than two; "
        "a system message in place of another template; a mean over all tokens, not over their weights",
        weighs=True,
    ),
    "step_by_step": Method(
        explained,
        partial(train, rows_of=target_and_reason),
        needs="completions with their author's reason for them, as the source `labels` writes them by `rationale`",
        loss="-log pi(y | x) - log pi(reason | x, why?)",
        paper="Hsieh et al. 2023 (Distilling step-by-step)",
        defaults="both targets weigh the same a token",
        when="A teacher's explanations: they are learned beside the answer and cost nothing at serving.",
        differs_from_paper="the reason is asked for in words, not by a task prefix; no weight lambda between the two",
    ),
    "curriculum": Method(
        usable,
        easy_first,
        needs="liked, chosen or written completions",
        loss="-log pi(y), a token, easy rows first",
        paper="FLAN-T5 documents (2409.11282)",
        defaults="order by the student's NLL before training",
        when="Completions of very different difficulty.",
        differs_from_paper="the order is by the student's own NLL; the paper's labels by ChatGPT are absent",
        weighs=True,
    ),
}
