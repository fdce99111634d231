"""Distillation without loading the teacher: its top-k distribution is stored beside its text (knowledge/feature.py).

    L = E_{stored y}[D(p_k, p_S)],  p_k = the teacher's top k; the mass of the tail is distributed as the student's is

Divergences and their relatives use it where the plan names no teacher that reads along (divergence.py).
"""

import torch

from kdloop.feedback.examples import Example
from kdloop.knowledge import feature
from kdloop.methods.lora import Plan
from kdloop.methods.objective import completion_logits, sequence
from kdloop.student.identity import vocabulary
from kdloop.student.template import Template


def rows(tokenizer, examples: list[Example], plan: Plan) -> list[dict]:
    """{"sequences", "kept": a feature.Features} of each example whose chosen completion has a stored distribution; none
    where the plan has no folder.

    One of another vocabulary, or of another number of tokens (the text was edited), is left out: its positions and ids
    are not the student's.
    """
    if plan.stored is None:
        return []
    found, vocabularies = [], ("", vocabulary(tokenizer))  # "": written before vocabularies were recorded
    for e in examples:
        paths = [path for id in e.rows if (path := feature.sidecar(plan.stored, id)).exists()]
        kept = feature.read(paths[0]) if paths else None
        tokens = len(Template.of(tokenizer).completion_ids(*e.chosen.said))
        if kept and kept.vocabulary in vocabularies and len(kept.tail) == tokens:
            found.append({"sequences": [sequence(tokenizer, e.prompt, e.chosen)], "kept": kept})
    return found


def objective(loss):
    """The mean of a divergence.PositionLoss over the positions of the completions."""

    def of_rows(model, rows: list[dict], progress: float):
        logits, targets = completion_logits(model, [r["sequences"][0] for r in rows])
        at = targets != -100
        teacher = torch.cat(
            [feature.completed(r["kept"], z[of_row]) for r, z, of_row in zip(rows, logits, at, strict=True)]
        )
        return loss(teacher, logits[at], targets[at], progress).mean(), {}

    return of_rows
