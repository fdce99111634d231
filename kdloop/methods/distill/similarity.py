"""Hidden states: bring the student's features at the positions of the completion close to a teacher's.

    L = mean over mapped layers of D(f_T, W f_S) + NLL(y)        survey Eq. 11 and Table 2; FitNets, Romero et al. 2015

The student's layer i is mapped to the teacher's floor(i L_T / L_S). Where the widths differ, W is a linear projection,
learned beside the adapter and thrown away afterwards; else the identity. The labels' NLL trains what comes after the
last hidden state to read the new features.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdloop.feedback.examples import Example
from kdloop.methods import losses
from kdloop.methods.distill.divergence import TO_READ
from kdloop.methods.distill.white_box import Teacher, load
from kdloop.methods.lora import Method, OnStep, Plan
from kdloop.methods.objective import Sequence, bare, fit, forward, sequence
from kdloop.methods.supervised import usable

FEATURE_WEIGHT = 1.0  # against the labels' NLL of 1: not tuned


def features(model, sequences: list[Sequence]) -> tuple[list[Tensor], Tensor, Tensor]:
    """((n, width) hidden states of every layer from 1, (n, vocabulary) logits, (n,) targets) at the n positions that
    predict the completions' tokens."""
    output, targets = forward(model, sequences, output_hidden_states=True)
    at, k = targets != -100, targets.size(1)
    states = [h[:, -k - 1 : -1][at].float() for h in output.hidden_states[1:]]
    return states, output.logits[:, :-1][at].float(), targets[at]


def projections(student: int, teacher: int, layers: int) -> nn.ModuleList:
    """W of each layer, from the student's width to the teacher's."""
    equal = student == teacher
    return nn.ModuleList(nn.Identity() if equal else nn.Linear(student, teacher, bias=False) for _ in range(layers))


def objective(teacher: Teacher, distance):
    """`distance(teacher features, student features)`: (n, width) twice -> (n,), averaged over positions and layers."""

    def of_rows(model, rows: list[dict], progress: float):
        sequences = [r["sequences"][0] for r in rows]
        student_features, logits, targets = features(model, sequences)
        with torch.no_grad():
            teacher_features, _, _ = features(teacher.models[0], sequences)
        pairs = [
            (teacher_features[t - 1], bare(model).projections[s - 1](student_features[s - 1]))
            for s, t in losses.layer_map(len(student_features), len(teacher_features))
        ]
        feature_loss = torch.stack([distance(f_t, f_s).mean() for f_t, f_s in pairs]).mean()
        return FEATURE_WEIGHT * feature_loss + cross_entropy(logits, targets), {"features": feature_loss.item()}

    return of_rows


def train(
    model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep, distance=losses.cosine
) -> dict[str, float]:
    """The plan's first teacher teaches."""
    teacher, student = load(plan, model), model.config
    model.projections = projections(
        student.hidden_size, teacher.models[0].config.hidden_size, student.num_hidden_layers
    )
    rows = [{"sequences": [sequence(tokenizer, e.prompt, e.chosen)]} for e in examples]
    try:
        return fit(model, rows, objective(teacher, distance), plan, on_step)
    finally:
        del model.projections


DIFFERS = (
    "all layers in place of one hint layer, and in one stage with the labels; a distance of its own in place of the "
    "squared one. TED's task-aware filters are absent"
)
COMMON = {
    "needs": TO_READ,
    "paper": "survey Table 2; Romero et al. 2015 (FitNets)",
    "defaults": "every layer, weight 1; W learned where the widths differ, else the identity",
    "differs_from_paper": DIFFERS,
    "requires": ("teachers",),
}
METHODS = {
    "hidden_l2": Method(
        usable,
        partial(train, distance=losses.l2),
        loss="mean over layers of ||f_T - W f_S||_2 + NLL(y)",
        when="A teacher of the same family that is deeper or wider.",
        **COMMON,
    ),
    "hidden_l1": Method(
        usable,
        partial(train, distance=losses.l1),
        loss="mean over layers of ||f_T - W f_S||_1 + NLL(y)",
        when="As hidden_l2, where few dimensions are far off.",
        **COMMON,
    ),
    "hidden_cosine": Method(
        usable,
        partial(train, distance=losses.cosine),
        loss="mean over layers of 1 - cos(f_T, W f_S) + NLL(y)",
        when="As hidden_l2, where the scale of features differs.",
        **COMMON,
    ),
    "hidden_mmd": Method(
        usable,
        partial(train, distance=losses.mmd),
        loss="mean over layers of MMD^2(f_T, W f_S) + NLL(y)",
        when="The features as a set should be alike, not each of them.",
        **COMMON,
    ),
}
