"""Hidden states: bring the student's features at the completion's positions close to a teacher's.

    L = mean over mapped layers of D(f_T, W f_S) + NLL(y)        survey Eq. 11 and Table 2; FitNets, Romero et al. 2015

The student's layer i is held to the teacher's floor(i L_T / L_S). Where the widths differ, W is a linear projection,
learned beside the adapter and thrown away afterwards; else the identity. The label's NLL keeps the head in step.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdloop.feedback.examples import Example
from kdloop.methods import losses
from kdloop.methods.distill.divergence import TO_READ, Teacher, load, usable
from kdloop.methods.lora import Method, OnStep, Plan, no_teacher
from kdloop.methods.objective import Sequence, bare, fit, forward, sequence

FEATURES = 1.0  # weight of the features against the label's NLL of 1


def features(model, sequences: list[Sequence]) -> tuple[list[Tensor], Tensor, Tensor]:
    """((n, width) of every layer from 1, logits and targets) at the positions that predict the completions."""
    output, targets = forward(model, sequences, output_hidden_states=True)
    at, k = targets != -100, targets.size(1)
    states = [h[:, -k - 1 : -1][at].float() for h in output.hidden_states[1:]]
    return states, output.logits[:, :-1][at].float(), targets[at]


def projections(student: int, teacher: int, layers: int) -> nn.ModuleList:
    """One map a layer from the student's width to the teacher's."""
    equal = student == teacher
    return nn.ModuleList(nn.Identity() if equal else nn.Linear(student, teacher, bias=False) for _ in range(layers))


def objective(teacher: Teacher, distance):
    def of_rows(model, rows: list[dict], progress: float):
        sequences = [r["sequences"][0] for r in rows]
        own, logits, targets = features(model, sequences)
        with torch.no_grad():
            theirs, _, _ = features(teacher.models[0], sequences)
        pairs = [
            (theirs[t - 1], bare(model).projections[s - 1](own[s - 1]))
            for s, t in losses.layer_map(len(own), len(theirs))
        ]
        apart = torch.stack([distance(f_t, f_s).mean() for f_t, f_s in pairs]).mean()
        return FEATURES * apart + cross_entropy(logits, targets), {"features": apart.item()}

    return of_rows


def train(
    model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep, distance=losses.cosine
) -> dict[str, float]:
    teacher, own = load(plan, model), model.config
    theirs = teacher.models[0].config
    model.projections = projections(own.hidden_size, theirs.hidden_size, own.num_hidden_layers)
    rows = [{"sequences": [sequence(tokenizer, e.prompt, e.chosen)]} for e in examples]
    try:
        return fit(model, rows, objective(teacher, distance), plan, on_step)
    finally:
        del model.projections


def hidden(distance, equation: str, when: str) -> Method:
    return Method(
        usable,
        partial(train, distance=distance),
        needs=TO_READ,
        loss=f"mean over layers of {equation} + NLL(y)",
        paper="survey Table 2; Romero et al. 2015 (FitNets)",
        defaults="every layer, weight 1; W learned where the widths differ, else the identity",
        when=when,
        differs_from_paper="all layers in place of one hint layer, and in one stage with the labels; a distance of "
        "its own in place of the squared one. TED's task-aware filters are absent",
        lacks=no_teacher,
    )


METHODS = {
    "hidden_l2": hidden(losses.l2, "||f_T - W f_S||_2", "A teacher of the same family that is deeper or wider."),
    "hidden_l1": hidden(losses.l1, "||f_T - W f_S||_1", "As hidden_l2, where few dimensions are far off."),
    "hidden_cosine": hidden(losses.cosine, "1 - cos(f_T, W f_S)", "As hidden_l2, where the scale of features differs."),
    "hidden_mmd": hidden(losses.mmd, "MMD^2(f_T, W f_S)", "The features as a set should be alike, not each of them."),
}
