"""Speculative knowledge distillation: the student samples, and the teacher replaces tokens that it finds unlikely.

At each position y ~ p_S; where y is outside the teacher's top k, y ~ p_T instead; then D(p_T, p_S) on the result (Xu et
al. 2024, 2410.11325, Algorithm 1). k = the vocabulary is on-policy distillation, k = 1 nearly the teacher's own text.
"""

from collections.abc import Collection
from functools import partial

import torch
from torch import Tensor

from kdloop.methods import losses
from kdloop.methods.distill.divergence import TEACHER, Draw, any_prompt, distillation_loss, train
from kdloop.methods.distill.white_box import Teacher
from kdloop.methods.lora import Method, Plan
from kdloop.methods.objective import Numbers, sample


def interleaved(plan: Plan, ends: Collection[int], top_k: int = 25, block: int = 8) -> Draw:
    """Samples of student and teacher, and {"accepted": share of the tokens that are the student's}.

    `block` tokens at a time, which has the same distribution as token by token: the teacher reads a block at once, and
    what the student sampled after a replaced token is thrown away. `top_k` 25 is the paper's.
    """

    def draw(model, teacher: Teacher, rows: list[dict]) -> tuple[list[list[int]], Numbers]:
        samples, replaced, tokens = [[] for _ in rows], 0, 0
        while open_ := [i for i, s in enumerate(samples) if len(s) < plan.max_tokens and not {*s[-1:]} & {*ends}]:
            heads = [rows[i]["sequences"][0][0] + samples[i] for i in open_]
            drafts = sample(model, heads, block, ends)
            read = [(rows[i]["teacher_prompt"] + samples[i], draft) for i, draft in zip(open_, drafts, strict=True)]
            for i, draft, z in zip(open_, drafts, teacher.logits(model, read), strict=True):
                verified = verify(draft, z[-len(draft) :], top_k)
                samples[i] = (samples[i] + verified)[: plan.max_tokens]
                replaced, tokens = replaced + (verified != draft), tokens + len(verified)
        return samples, {"accepted": 1 - replaced / tokens}

    return draw


def verify(draft: list[int], teacher: Tensor, top_k: int) -> list[int]:
    """The draft of n tokens up to the first one outside the top k of the teacher's (n, vocabulary) logits, which a
    sample from the teacher replaces."""
    likely = teacher.topk(min(top_k, teacher.size(-1))).indices
    in_top_k = (likely == torch.tensor(draft, device=likely.device)[:, None]).any(-1).tolist()
    if all(in_top_k):
        return draft
    first = in_top_k.index(False)
    drawn = torch.multinomial(teacher[first].softmax(-1), 1)
    return [*draft[:first], drawn.item()]


METHODS = {
    "speculative_kd": Method(
        any_prompt,
        partial(train, loss=distillation_loss(losses.forward_kl), on_policy=1, draw=interleaved),
        f"{TEACHER}, and prompts alone",
        loss="E_y[KL(p | q)], y by the student, tokens outside the teacher's top k by the teacher",
        paper="Xu et al. 2024 (2410.11325)",
        defaults="k 25",
        when="As on_policy_kl, with a student whose own samples are too poor to learn from.",
        differs_from_paper="forward KL is one of the paper's choices; no supervised training before",
        requires=("teachers",),
    ),
}
