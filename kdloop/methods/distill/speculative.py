"""Speculative knowledge distillation: the student writes, and the teacher replaces what it would never have said.

For each position y ~ pi; where y is outside the teacher's top k, y ~ the teacher instead; then D(p_T, p_S) on the
result. k = the vocabulary is on-policy distillation, k = 1 nearly the teacher's own text.
"""

from collections.abc import Collection
from functools import partial

import torch
from torch import Tensor

from kdloop.methods import losses
from kdloop.methods.distill.divergence import TEACHER, Draw, Teacher, any_prompt, plain, train
from kdloop.methods.lora import Method, Plan, no_teacher
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
    drawn = torch.multinomial(teacher[first].softmax(-1), 1)
    return [*draft[:first], drawn.item()]


METHODS = {
    "speculative_kd": Method(
        any_prompt,
        partial(train, loss=plain(losses.forward_kl), on_policy=1, draw=interleaved),
        f"{TEACHER}, and prompts alone",
        loss="E_y[KL(p | q)], y by the student, tokens outside the teacher's top k by the teacher",
        paper="Xu et al. 2024 (2410.11325)",
        defaults="k 25",
        when="As on_policy_kl, with a student whose own samples are too poor to learn from.",
        differs_from_paper="forward KL is one of the paper's choices; no supervised training before",
        lacks=no_teacher,
    ),
}
