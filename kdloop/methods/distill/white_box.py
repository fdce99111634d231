"""A white-box teacher: one model or several, frozen, with the student's vocabulary; or the untrained student itself."""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from kdloop.methods.lora import NothingToLearn, Plan
from kdloop.methods.objective import Sequence, bare, completion_logits


class OtherVocabulary(NothingToLearn):
    "The teacher's vocabulary is not the student's"


@dataclass(frozen=True)
class Teacher:
    """Without `models` it is the student itself with its adapter switched off."""

    models: tuple = ()

    @torch.no_grad()
    def logits(self, student, sequences: list[Sequence]) -> Tensor:
        """(n, k, vocabulary) at the positions that predict the completions, padded on the left: the logits of one
        model, or the log of the mean distribution of several (BabyLlama, Timiryasov and Tastet 2023)."""
        off = nullcontext() if self.models else bare(student).disable_adapter()
        with off:
            each = [completion_logits(m, sequences)[0] for m in self.models or (student,)]
        if len(each) == 1:
            return each[0]
        return torch.stack([z.log_softmax(-1) for z in each]).logsumexp(0) - torch.tensor(float(len(each))).log()


def load(plan: Plan, student) -> Teacher:
    """The plan's teachers, frozen, in the student's dtype and on its device. Raises OtherVocabulary where their
    distributions could not be compared with the student's."""
    p = next(student.parameters())
    models = [AutoModelForCausalLM.from_pretrained(t, dtype=p.dtype).to(p.device) for t in plan.teachers]
    for model in models:
        if model.config.vocab_size != student.config.vocab_size:
            remedy = "take `uld`, or let the teacher write completions for `sft`"
            raise OtherVocabulary(f"The teacher's vocabulary is not the student's: {remedy}")
    return Teacher(tuple(m.eval().requires_grad_(False) for m in models))
