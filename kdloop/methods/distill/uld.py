"""A teacher with another tokenizer: compare sorted next-token distributions where both have read the same text.

    L = NLL(y) + 1.5 sum_v |sorted p_T - sorted p_S|                           Boizard et al. 2024 (ULD); TRL GOLD

Which token is which is lost by sorting, how sure the teacher is stays: alone, the distance makes a student surer of
whatever it says, right or wrong, so the labels' NLL has to say what is. The paper pairs the positions by their number;
here two positions are a pair when the text before them is the same, found by how many characters the tokens before say.
"""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kdloop.feedback.examples import Example
from kdloop.methods import losses
from kdloop.methods.lora import Method, OnStep, Plan, no_teacher
from kdloop.methods.objective import completion_logits, fit, token_logps
from kdloop.student.template import HALF, Template

DISTANCE = 1.5  # its weight against the labels' NLL of 1


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
    """The student's completion has its end, where its author ended it: the label's NLL teaches that, too."""
    ((prompt, _), starts), (theirs, their_starts) = (spelled(t, e) for t in (student_tokenizer, teacher_tokenizer))
    own = prompt, Template.of(student_tokenizer).completion_ids(*e.chosen.said)
    return {"sequences": [own], "theirs": theirs, "same": same_starts(starts, their_starts)}


def objective(teacher, labels: float):
    def of_rows(model, rows: list[dict], progress: float):
        sequences, theirs = [r["sequences"][0] for r in rows], [r["theirs"] for r in rows]
        logits, targets = completion_logits(model, sequences)
        student = aligned(logits, sequences, [[i for i, _ in r["same"]] for r in rows])
        with torch.no_grad():
            read, _ = completion_logits(teacher, theirs)
            taught = aligned(read, theirs, [[j for _, j in r["same"]] for r in rows])
        apart = losses.sorted_l1(taught.log_softmax(-1), student.log_softmax(-1)).mean()
        nll = -token_logps(logits, targets).sum() / (targets != -100).sum()
        return labels * nll + DISTANCE * apart, {"sorted distance": apart.item(), "nll": nll.item()}

    return of_rows


def aligned(logits: torch.Tensor, sequences: list, positions: list[list[int]]) -> torch.Tensor:
    """(all the positions of all rows, vocabulary) of (n, k, vocabulary) logits, padded on the left."""
    each = zip(logits, sequences, positions, strict=True)
    return torch.cat([z[-len(completion) :][at] for z, (_, completion), at in each])


def train(
    model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep, labels: float = 1.0
) -> dict[str, float]:
    """`labels` is the weight of their NLL; 0 is the distance alone, an ablation."""
    dtype = next(model.parameters()).dtype
    teacher = AutoModelForCausalLM.from_pretrained(plan.teachers[0], dtype=dtype).to(model.device)
    their_tokenizer = AutoTokenizer.from_pretrained(plan.teachers[0])
    rows = [row(tokenizer, their_tokenizer, e) for e in examples]
    return fit(model, rows, objective(teacher.eval().requires_grad_(False), labels), plan, on_step)


METHODS = {
    "uld": Method(
        usable,
        train,
        needs="a teacher with any vocabulary and a fast tokenizer, and completions to read",
        loss="NLL(y) + 1.5 sum |sorted p - sorted q|",
        paper="Boizard et al. 2024 (ULD)",
        defaults="weight 1.5, positions with the same text before them",
        when="The teacher is of another family than the student.",
        differs_from_paper="positions are paired by the text before them, the paper's by their number",
        lacks=no_teacher,
    ),
}
