"""A teacher that is not there: its distribution lies beside the text that it wrote (knowledge/feature.py).

    L = E_{stored y}[D(p_k, p_S)],  p_k = the top k, and the tail's mass spread as the student spreads its own

The divergences and their relatives take it where the plan names no teacher that reads along (divergence.py).
"""

import torch

from kdloop.feedback.examples import Example
from kdloop.knowledge import feature
from kdloop.methods.lora import Plan
from kdloop.methods.objective import completion_logits, sequence
from kdloop.student.identity import vocabulary
from kdloop.student.template import Template


def rows(tokenizer, examples: list[Example], plan: Plan) -> list[dict]:
    """A row of each example whose chosen completion has its distribution beside it; none where the plan has no folder.

    What was written with other tokens than the student's is left out: neither its positions nor its ids are the
    student's.
    """
    if plan.stored is None:
        return []
    made, known = [], ("", vocabulary(tokenizer))
    for e in examples:
        paths = [path for id in e.rows if (path := feature.sidecar(plan.stored, id)).exists()]
        kept = feature.read(paths[0]) if paths else None
        tokens = len(Template.of(tokenizer).completion_ids(*e.chosen.said))
        if kept and kept.vocabulary in known and len(kept.tail) == tokens:
            made.append({"sequences": [sequence(tokenizer, e.prompt, e.chosen)], "kept": kept})
    return made


def objective(loss):
    """The mean of `loss(teacher logits, student logits, targets, progress)`, (n,), over the completions' positions."""

    def of_rows(model, rows: list[dict], progress: float):
        logits, targets = completion_logits(model, [r["sequences"][0] for r in rows])
        at = targets != -100
        teacher = torch.cat(
            [feature.completed(r["kept"], z[of_row]) for r, z, of_row in zip(rows, logits, at, strict=True)]
        )
        return loss(teacher, logits[at], targets[at], progress).mean(), {}

    return of_rows
