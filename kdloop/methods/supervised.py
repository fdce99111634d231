"""Supervised: fine-tuning on what people liked, chose or wrote. The NLL of the completion, prompt masked.

Survey Eq. 9; TRL's SFTTrainer. The relatives weight tokens or rows, or make other rows of an example.
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

MICRO_BATCH = 4  # on a CPU
BEST_SOURCES = ("human", "verifier", "import")  # what people chose, here or elsewhere, and what a check has found right
OTHER_WEIGHT = 0.1  # of a completion that another source chose, against 1: OpenChat's for GPT-3.5 against GPT-4
RATIONALE_PROMPT = "Give the reason for your answer to this in one or two sentences:\n\n"


def usable(example: Example) -> bool:
    return example.chosen is not None


def has_rationale(example: Example) -> bool:
    return example.chosen is not None and bool(example.rationale)


def row(prompt: list[int], completion: list[int]) -> dict[str, list[int]]:
    """Token ids and labels, -100 at the prompt."""
    return {"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion}


def chosen_row(tokenizer, e: Example) -> list[dict[str, list[int]]]:
    return [row(*sequence(tokenizer, e.prompt, e.chosen))]


def chosen_and_rationale_rows(tokenizer, e: Example) -> list[dict[str, list[int]]]:
    """Two rows: the completion, and the reason for it under a prompt that asks for the reason."""
    template = Template.of(tokenizer)
    why = [*e.prompt[:-1], {"role": "user", "content": RATIONALE_PROMPT + e.prompt[-1]["content"]}]
    return [*chosen_row(tokenizer, e), row(template.prompt_ids(why), template.completion_ids(e.rationale, True))]


def train(
    model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep, rows_of=chosen_row, loss="nll"
) -> dict[str, float]:
    """`rows_of(tokenizer, example)` makes an example's rows; `loss` is a loss_type of TRL's SFTConfig."""
    score_label_positions_only()
    rows = fitting([r for e in examples for r in rows_of(tokenizer, e)], plan)
    size = micro_batch(model, plan, MICRO_BATCH, map(longest, rows))
    config = SFTConfig(**common_arguments(plan, size), loss_type=loss)
    data = Dataset.from_list(bucketed(rows, size, plan.seed))
    trainer = SFTTrainer(model, args=config, train_dataset=data, processing_class=tokenizer)
    return run(trainer, on_step, plan.journal)


def mean_nll(model, rows: list[dict], progress: float):
    """An Objective: the sum of the rows' weighted NLLs over the number of tokens. Not over their weights: a micro-batch
    of rows of small weight shall have a small gradient."""
    logps, lengths = sequence_logps(model, [r["sequences"][0] for r in rows])
    weights = torch.tensor([r["weight"] for r in rows], device=logps.device)
    return -(logps * weights).sum() / lengths.sum(), {}


def weighted_rows(tokenizer, examples: list[Example]) -> list[dict]:
    """A row of each example for `mean_nll`, under the prompt as the served student gets it."""
    return [{"sequences": [sequence(tokenizer, e.prompt, e.chosen)], "weight": e.weight} for e in examples]


def by_weight(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """Fine-tuning in which a row's loss is weighted by its example, whatever the source."""
    return fit(model, weighted_rows(tokenizer, examples), mean_nll, plan, on_step)


def source_conditioned(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """Beside rows of the best sources, the others have their source in the prompt and a smaller weight, so that the
    plain prompt, which is the served one, is learned from the best. Without rows of the best, all have the plain one.
    """
    best = [e.source in BEST_SOURCES for e in examples]
    others = [replace(e, prompt=with_source(e), weight=e.weight * OTHER_WEIGHT) for e in examples]
    if any(best):
        examples = [e if is_best else other for e, other, is_best in zip(examples, others, best, strict=True)]
    return by_weight(model, tokenizer, examples, plan, on_step)


def with_source(e: Example) -> list[Message]:
    """The prompt after a system message with the completion's source."""
    return [{"role": "system", "content": f"Source: {e.source}"}, *e.prompt]


def easy_first(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """Rows in the order of the student's NLL per token before training."""
    rows = weighted_rows(tokenizer, examples)
    for r, logp in zip(rows, reference_logps(model, [r["sequences"][0] for r in rows]), strict=True):
        r["difficulty"] = -logp / len(r["sequences"][0][1])
    return fit(model, sorted(rows, key=lambda r: r["difficulty"]), mean_nll, plan, on_step, ordered=True)


METHODS = {
    "sft": Method(
        usable,
        train,
        needs="liked, chosen or written completions",
        loss="-log pi(y), per token",
        paper="survey Eq. 9",
        defaults="none to choose",
        when="Nothing to contrast with: what `auto` takes where there are likes alone.",
        differs_from_paper="Eq. 9 is of a teacher's completions; here of whatever was liked",
    ),
    "dft": Method(
        usable,
        partial(train, loss="dft"),
        needs="liked, chosen or written completions",
        loss="-sg[pi(y_t)] log pi(y_t), per token",
        paper="Wu et al. 2025 (2508.05629)",
        defaults="none to choose",
        when="Completions of another author: tokens that are very unlikely for the student count less, so less is "
        "forgotten.",
        differs_from_paper="nothing known",
    ),
    "weighted_sft": Method(
        usable,
        source_conditioned,
        needs="completions with a source and a weight",
        loss="-w log pi(y | source), per token",
        paper="Wang et al. 2023 (OpenChat, C-RLFT)",
        defaults="w 1 for what people or checks chose; 0.1 for the other sources, which are named in the prompt",
        when="Many AI-rated completions beside a few of people's.",
        differs_from_paper="the best sources are not named: the served prompt is theirs; more sources than two; "
        "a system message in place of another template; a mean over all tokens, not over their weights",
        weighs=True,
    ),
    "step_by_step": Method(
        has_rationale,
        partial(train, rows_of=chosen_and_rationale_rows),
        needs="completions with their author's reason for them, as the source `labels` writes them by `rationale`",
        loss="-log pi(y | x) - log pi(reason | x, why?)",
        paper="Hsieh et al. 2023 (Distilling step-by-step)",
        defaults="both targets weigh the same per token",
        when="A teacher's explanations: they are learned beside the completion and cost nothing at serving.",
        differs_from_paper="the reason is asked for in words, not by a task prefix; no weight lambda between the two",
    ),
    "curriculum": Method(
        usable,
        easy_first,
        needs="liked, chosen or written completions",
        loss="-log pi(y), per token, easy rows first",
        paper="FLAN-T5 documents (2409.11282)",
        defaults="order by the student's NLL before training",
        when="Completions of very different difficulty.",
        differs_from_paper="the order is by the student's own NLL; the paper's labels by ChatGPT are absent",
        weighs=True,
    ),
}
