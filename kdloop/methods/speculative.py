"""Speculative knowledge distillation: the student writes, and the teacher replaces what it would never have said.

For each position y ~ pi; where y is outside the teacher's top k, y ~ the teacher's top k instead; then D(p_T, p_S) on
what came of it. k = the vocabulary is on-policy distillation, k = 1 nearly the teacher's own text.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from kdloop.methods.divergence import FORWARD_KL, Draw, Teacher, white_box
from kdloop.methods.lora import Plan
from kdloop.methods.objective import Numbers, sample


def interleaved(plan: Plan, ends: Collection[int], top_k: int = 25, block: int = 8) -> Draw:
    """Speculative KD: the student writes; the first token outside the teacher's top k is the teacher's instead.

    A block at a time, which draws the same as token by token: the teacher reads a block at once, and what the student
    wrote after a replaced token is thrown away. Xu et al. 2024 (2410.11325), Algorithm 1.
    """

    def draw(model, teacher: Teacher, rows: list[dict]) -> tuple[list[list[int]], Numbers]:
        written, replaced, tokens = [[] for _ in rows], 0, 0
        while open_ := [i for i, w in enumerate(written) if len(w) < plan.max_tokens and not {*w[-1:]} & {*ends}]:
            heads = [rows[i]["sequences"][0][0] + written[i] for i in open_]
            drafts = sample(model, heads, block, ends)
            read = [(rows[i]["told"] + written[i], draft) for i, draft in zip(open_, drafts, strict=True)]
            for i, draft, z in zip(open_, drafts, teacher.logits(model, read), strict=True):
                taken = accepted(draft, z[-len(draft) :], top_k)
                written[i] = (written[i] + taken)[: plan.max_tokens]
                replaced, tokens = replaced + (taken != draft), tokens + len(taken)
        return written, {"accepted": 1 - replaced / tokens}

    return draw


def accepted(draft: list[int], teacher: Tensor, top_k: int) -> list[int]:
    """The draft up to its first token outside the teacher's top k, which a draw from the teacher replaces."""
    likely = teacher.topk(min(top_k, teacher.size(-1))).indices
    fits = (likely == torch.tensor(draft, device=likely.device)[:, None]).any(-1).tolist()
    if all(fits):
        return draft
    first = fits.index(False)
    drawn = torch.multinomial(teacher[first, likely[first]].softmax(-1), 1)
    return [*draft[:first], likely[first, drawn].item()]


METHODS = {
    "speculative_kd": white_box(
        FORWARD_KL,
        "E_y[KL(p | q)], y by the student, tokens outside the teacher's top k by the teacher",
        "Xu et al. 2024 (2410.11325)",
        "As on_policy_kl, with a student whose own samples are too poor to learn from.",
        "k 25",
        on_policy=1,
        draw=interleaved,
    ),
}
