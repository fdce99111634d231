"""A teacher with another tokenizer: compare sorted next-token distributions where both have read the same text.

    L = NLL(y) + 1.5 sum_v |sorted p_T - sorted p_S|                           Boizard et al. 2024 (ULD); TRL GOLD

Sorting loses which token is which and keeps how confident the teacher is: alone, the distance makes a student more
confident of whatever it says, right or wrong, so the labels' NLL has to say what is right. The paper pairs positions by
their index; here two positions are a pair where the text before them is the same, by the number of characters that the
tokens before decode to. tests/methods/test_trl_parity.py holds it to TRL's ULDLoss where both tokenizers cut alike.
"""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kdloop.feedback.examples import Example
from kdloop.methods import losses
from kdloop.methods.lora import Method, OnStep, Plan
from kdloop.methods.objective import Sequence, completion_logits, fit, token_logps
from kdloop.methods.supervised import usable
from kdloop.student.template import HALF, Template

DISTANCE_WEIGHT = 1.5  # against the labels' NLL of 1: the paper's


def with_starts(tokenizer, e: Example) -> tuple[Sequence, list[int]]:
    """((prompt ids, completion ids), the character of the completion's text at which each of its tokens starts)."""
    template = Template.of(tokenizer)
    ids = template.completion_ids(e.chosen.text, False)
    before = len(template.text(ids)) - len(e.chosen.text)  # characters that the template puts first
    starts = [len(template.text(ids[:i]).rstrip(HALF)) - before for i in range(len(ids))]
    return (template.prompt_ids(e.prompt), ids), starts


def same_starts(student: list[int], teacher: list[int]) -> list[tuple[int, int]]:
    """(student position, teacher position) of tokens that start at the same character."""
    positions = {start: j for j, start in enumerate(teacher)}
    return [(i, positions[start]) for i, start in enumerate(student) if start in positions]


def row(student_tokenizer, teacher_tokenizer, e: Example) -> dict:
    """{"sequences": the student's, "teacher_sequence", "pairs": positions of both}. The student's completion has its
    end-of-turn token where its author ended it, which the labels' NLL teaches, too."""
    (student, starts), (teacher, teacher_starts) = (with_starts(t, e) for t in (student_tokenizer, teacher_tokenizer))
    with_end = student[0], Template.of(student_tokenizer).completion_ids(*e.chosen.said)
    return {"sequences": [with_end], "teacher_sequence": teacher, "pairs": same_starts(starts, teacher_starts)}


def objective(teacher, nll_weight: float):
    """nll_weight NLL(y) + 1.5 x the mean sorted L1 distance over the pairs of positions."""

    def of_rows(model, rows: list[dict], progress: float):
        sequences, teacher_sequences = [r["sequences"][0] for r in rows], [r["teacher_sequence"] for r in rows]
        logits, targets = completion_logits(model, sequences)
        student = at_positions(logits, sequences, [[i for i, _ in r["pairs"]] for r in rows])
        with torch.no_grad():
            teacher_logits, _ = completion_logits(teacher, teacher_sequences)
            taught = at_positions(teacher_logits, teacher_sequences, [[j for _, j in r["pairs"]] for r in rows])
        distance = losses.sorted_l1(taught.log_softmax(-1), student.log_softmax(-1)).mean()
        nll = -token_logps(logits, targets).sum() / (targets != -100).sum()
        return nll_weight * nll + DISTANCE_WEIGHT * distance, {"sorted distance": distance.item(), "nll": nll.item()}

    return of_rows


def at_positions(logits: torch.Tensor, sequences: list[Sequence], positions: list[list[int]]) -> torch.Tensor:
    """(n, k, vocabulary) logits, padded on the left -> (m, vocabulary): those at each row's positions within its
    completion, m of them in all rows."""
    each = zip(logits, sequences, positions, strict=True)
    return torch.cat([z[-len(completion) :][at] for z, (_, completion), at in each])


def train(
    model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep, nll_weight: float = 1.0
) -> dict[str, float]:
    """The plan's first teacher teaches. `nll_weight` 0 is the distance alone, an ablation."""
    dtype = next(model.parameters()).dtype
    teacher = AutoModelForCausalLM.from_pretrained(plan.teachers[0], dtype=dtype).to(model.device)
    teacher_tokenizer = AutoTokenizer.from_pretrained(plan.teachers[0])
    rows = [row(tokenizer, teacher_tokenizer, e) for e in examples]
    return fit(model, rows, objective(teacher.eval().requires_grad_(False), nll_weight), plan, on_step)


METHODS = {
    "uld": Method(
        usable,
        train,
        needs="a teacher with any vocabulary and a fast tokenizer, and completions to read",
        loss="NLL(y) + 1.5 sum |sorted p - sorted q|",
        paper="Boizard et al. 2024 (ULD)",
        defaults="weight 1.5, positions with the same text before them",
        when="The teacher is of another family than the student.",
        differs_from_paper="positions are paired by the text before them, the paper's by their index",
        requires=("teachers",),
    ),
}
