"""A teacher with another tokenizer: compare sorted next-token distributions where both have read the same text.

    loss = sum_v |sorted p_T - sorted p_S|                                     Boizard et al. 2024 (ULD); TRL GOLD

Which token is which is lost by sorting, how sure the teacher is stays. The paper pairs the positions by their number;
here two positions are a pair when the text before them is the same, found by how many characters the tokens before say.
"""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kdloop.methods import losses
from kdloop.methods.lora import Method, OnStep, Plan, no_teacher
from kdloop.methods.objective import completion_logits, fit
from kdloop.pairs import Example
from kdloop.student.template import HALF, Template


def usable(example: Example) -> bool:
    return example.chosen is not None


def spelled(tokenizer, e: Example) -> tuple[tuple[list[int], list[int]], list[int]]:
    """((prompt ids, completion ids), where in the completion's text each of its tokens begins)."""
    template = Template.of(tokenizer)
    ids = template.completion_ids(e.chosen.text, False)
    before = len(template.text(ids)) - len(e.chosen.text)  # what the template itself says first
    starts = [len(template.text(ids[:i]).rstrip(HALF)) - before for i in range(len(ids))]
    return (template.prompt_ids(e.prompt), ids), starts


def same_starts(student: list[int], teacher: list[int]) -> list[tuple[int, int]]:
    """(student position, teacher position) of tokens that begin at the same character."""
    at = {start: i for i, start in enumerate(teacher)}
    return [(i, at[start]) for i, start in enumerate(student) if start in at]


def row(student_tokenizer, teacher_tokenizer, e: Example) -> dict:
    (own, starts), (theirs, their_starts) = (spelled(t, e) for t in (student_tokenizer, teacher_tokenizer))
    return {"sequences": [own], "theirs": theirs, "same": same_starts(starts, their_starts)}


def objective(teacher):
    def of_rows(model, rows: list[dict], progress: float):
        student = aligned(model, [r["sequences"][0] for r in rows], [[i for i, _ in r["same"]] for r in rows])
        with torch.no_grad():
            taught = aligned(teacher, [r["theirs"] for r in rows], [[j for _, j in r["same"]] for r in rows])
        return losses.sorted_l1(taught.log_softmax(-1), student.log_softmax(-1)).mean(), {}

    return of_rows


def aligned(model, sequences: list, positions: list[list[int]]) -> torch.Tensor:
    """(all the positions of all rows, vocabulary) logits."""
    logits, _ = completion_logits(model, sequences)
    each = zip(logits, sequences, positions, strict=True)
    return torch.cat([z[-len(completion) :][at] for z, (_, completion), at in each])


def train(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    dtype = next(model.parameters()).dtype
    teacher = AutoModelForCausalLM.from_pretrained(plan.teachers[0], dtype=dtype).to(model.device)
    their_tokenizer = AutoTokenizer.from_pretrained(plan.teachers[0])
    rows = [row(tokenizer, their_tokenizer, e) for e in examples]
    return fit(model, rows, objective(teacher.eval().requires_grad_(False)), plan, on_step)


METHODS = {
    "uld": Method(
        usable,
        train,
        needs="a teacher with any vocabulary and a fast tokenizer, and completions to read",
        loss="sum |sorted p - sorted q|",
        paper="Boizard et al. 2024 (ULD)",
        defaults="positions with the same text before them",
        when="The teacher is of another family than the student.",
        lacks=no_teacher,
    ),
}
