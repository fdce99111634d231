"""A white-box teacher with the student's vocabulary: match its next-token distribution, position by position.

    L = (1 - lambda) E_{stored y}[D(p_T, p_S)] + lambda E_{y ~ p_S}[D(p_T, p_S)]        survey Eq. 10; GKD, Eq. 1

The teacher is one model or the mean of several (BabyLlama's), or the student itself as it was before any training.
`told` is what the teacher reads in place of the prompt: knowing more, the same model can teach itself
(self_training/self_teaching.py). D is one of losses.py. No gradient goes through sampling.
"""

import random
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from kdloop.feedback.examples import Example
from kdloop.methods import losses
from kdloop.methods.distill import stored
from kdloop.methods.lora import Method, NothingToLearn, OnStep, Plan, no_teacher
from kdloop.methods.objective import Numbers, Sequence, bare, completion_logits, fit, sample, sequence, token_logps
from kdloop.student.template import Template
from storage.conversations import Completion, Message

TEACHER = "a teacher with the student's vocabulary"
Divergence = Callable[[Tensor, Tensor], Tensor]
PositionLoss = Callable[[Tensor, Tensor, Tensor, float], Tensor]
Draw = Callable[..., tuple[list[list[int]], Numbers]]  # (model, teacher, rows) -> own completions, numbers to log


class OtherVocabulary(NothingToLearn):
    "The teacher's vocabulary is not the student's: take `uld`, or let the teacher write completions for `sft`"


def usable(example: Example) -> bool:
    return example.chosen is not None


def any_prompt(example: Example) -> bool:
    return True


@dataclass(frozen=True)
class Teacher:
    """No models: the student itself, its adapter switched off."""

    models: tuple = ()

    @torch.no_grad()
    def logits(self, student, sequences: list[Sequence]) -> Tensor:
        """(n, k, vocabulary): log of the mean distribution of several teachers, the logits of one."""
        off = nullcontext() if self.models else bare(student).disable_adapter()
        with off:
            each = [completion_logits(m, sequences)[0] for m in self.models or (student,)]
        if len(each) == 1:
            return each[0]
        return torch.stack([z.log_softmax(-1) for z in each]).logsumexp(0) - torch.tensor(float(len(each))).log()


def load(plan: Plan, model) -> Teacher:
    """The plan's teachers, frozen. Raises OtherVocabulary where a distribution could not be compared."""
    p = next(model.parameters())
    loaded = [AutoModelForCausalLM.from_pretrained(t, dtype=p.dtype).to(p.device) for t in plan.teachers]
    for teacher in loaded:
        if teacher.config.vocab_size != model.config.vocab_size:
            raise OtherVocabulary(OtherVocabulary.__doc__)
    return Teacher(tuple(t.eval().requires_grad_(False) for t in loaded))


# What a position loses: (teacher logits, student logits, targets, progress from 0 to 1) -> (n,).


def plain(divergence: Divergence, temperature: float = 1.0, label: float = 0.0) -> PositionLoss:
    """T^2 D(p_T, p_S) at temperature T, mixed with the label's NLL: (1 - label) and label are their weights."""

    def loss(teacher: Tensor, student: Tensor, targets: Tensor, progress: float) -> Tensor:
        p, q = ((z / temperature).log_softmax(-1) for z in (teacher, student))
        apart = temperature**2 * divergence(p, q)
        return (1 - label) * apart - label * token_logps(student[None], targets[None])[0] if label else apart

    return loss


def scheduled(steps: int) -> PositionLoss:
    """TAID: toward a target between student and teacher that moves to the teacher. In a round of tens of steps the
    paper's rate never outruns the straight line, so it is at least 2 / steps."""
    state = losses.Taid()

    def loss(teacher: Tensor, student: Tensor, targets: Tensor, progress: float) -> Tensor:
        nonlocal state
        each = losses.cross_entropy(state.target(teacher, student), student.log_softmax(-1))
        state = state.after(each.mean().item(), round(progress * steps) + 1, steps, max(5e-4, 2 / steps))
        return each

    return loss


def objective(teacher: Teacher, loss: PositionLoss, on_policy: float, draw: Draw, seed: int):
    """The mean of `loss` over the positions of the completions."""
    coin = random.Random(seed)

    def of_rows(model, rows: list[dict], progress: float):
        sequences = [r["sequences"][0] for r in rows]
        own = coin.random() < on_policy
        numbers = {"on_policy": float(own)}
        if own:
            drawn, of_draw = draw(model, teacher, rows)
            sequences = [(prompt, c) for (prompt, _), c in zip(sequences, drawn, strict=True)]
            numbers |= of_draw
        told = [(r["told"], c) for r, (_, c) in zip(rows, sequences, strict=True)]
        student, targets = completion_logits(model, sequences)
        at = targets != -100
        each = loss(teacher.logits(model, told)[at], student[at], targets[at], progress)
        return each.mean(), numbers

    return of_rows


def own_samples(plan: Plan, ends: Collection[int]) -> Draw:
    return lambda model, teacher, rows: (sample(model, [r["sequences"][0][0] for r in rows], plan.max_tokens, ends), {})


def train(
    model,
    tokenizer,
    examples: list[Example],
    plan: Plan,
    on_step: OnStep,
    loss: PositionLoss,
    on_policy: float = 0.0,
    draw=own_samples,
    told: Callable[[Example], list[Message]] = lambda e: e.prompt,
) -> dict[str, float]:
    """The teacher reads along. `on_policy` is lambda, `draw` how own samples come about, `told(example)` what the
    teacher reads."""
    nothing = Completion("", "", "student", None, "")
    rows = [
        {
            "sequences": [sequence(tokenizer, e.prompt, e.chosen or nothing)],
            "told": Template.of(tokenizer).prompt_ids(told(e)),
        }
        for e in examples
    ]
    drawn = draw(plan, Template.of(tokenizer).ends)
    return fit(model, rows, objective(load(plan, model), loss, on_policy, drawn, plan.seed), plan, on_step)


def on_text(
    model,
    tokenizer,
    examples: list[Example],
    plan: Plan,
    on_step: OnStep,
    loss: PositionLoss,
    needs_teacher: bool = True,
    **how,
) -> Numbers:
    """As `train`, whose `how` is, where the teacher reads along; else what it stored beside its texts stands in for it.

    Raises NothingToLearn where it stored nothing for these texts and the method `needs_teacher`.
    """
    rows = [] if plan.teachers else stored.rows(tokenizer, examples, plan)
    if rows:
        return fit(model, rows, stored.objective(loss), plan, on_step)
    if plan.stored and needs_teacher and (lack := no_teacher(plan)):
        raise NothingToLearn(
            f"None of {len(examples)} texts has its teacher's distribution beside it; the method {lack}"
        )
    return train(model, tokenizer, examples, plan, on_step, loss, **how)


def taid(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep, **how) -> Numbers:
    steps = max(1, round(len(examples) / plan.batch * plan.epochs))
    return on_text(model, tokenizer, examples, plan, on_step, scheduled(steps), **how)


def no_teacher_nor_stored(plan: Plan) -> str:
    return "" if plan.stored else no_teacher(plan)


TO_READ = f"{TEACHER}, and completions to read"
OR_STORED = f"{TO_READ}; or what it stored beside its own (the source `features`)"


def on_stored_text(divergence, loss: str, paper: str, when: str, differs: str, defaults="stored text") -> Method:
    words = {"loss": loss, "paper": paper, "defaults": defaults, "when": when, "differs_from_paper": differs}
    return Method(usable, partial(on_text, loss=plain(divergence)), OR_STORED, **words, lacks=no_teacher_nor_stored)


METHODS = {
    "forward_kl": on_stored_text(
        losses.forward_kl,
        "sum p log(p / q)",
        "survey Table 1",
        "A teacher whose whole range is wanted: translation, rewriting.",
        "nothing known",
    ),
    "reverse_kl": on_stored_text(
        losses.reverse_kl,
        "sum q log(q / p)",
        "survey Table 1",
        "A student too small for all that the teacher can say: it takes what the teacher finds likely.",
        "nothing known of Table 1; MiniLLM, the survey's system for it, is absent: no policy gradient",
    ),
    "jsd": on_stored_text(
        losses.gjsd,
        "1/2 KL(p | m) + 1/2 KL(q | m), m = (p + q) / 2",
        "survey Table 1",
        "Between the two above, and bounded.",
        "nothing known",
    ),
    "total_variation": on_stored_text(
        losses.total_variation,
        "1/2 sum |p - q|",
        "Wen et al. 2023 (f-Distill)",
        "A teacher with a noisy tail: unlikely tokens count by their mass alone.",
        "of tokens, on stored text; the paper's is of sequences, sampled from teacher and student",
    ),
    "skew_kl": on_stored_text(
        losses.skew_kl,
        "KL(p | a p + (1 - a) q)",
        "Ko et al. 2024 (DistiLLM)",
        "Forward KL whose gradient stays small where the student gives almost nothing.",
        "the loss alone: its adaptive share of own samples and its replay buffer are absent",
        "a 0.1, stored text",
    ),
    "skew_reverse_kl": on_stored_text(
        losses.skew_reverse_kl,
        "KL(q | (1 - a) p + a q)",
        "Ko et al. 2024 (DistiLLM)",
        "Reverse KL whose gradient stays small where the teacher gives almost nothing.",
        "the loss alone: its adaptive share of own samples and its replay buffer are absent",
        "a 0.1, stored text",
    ),
    "adaptive_kl": on_stored_text(
        losses.adaptive_kl,
        "w KL(p | q) + (1 - w) KL(q | p), w = the head's share of sum |p - q|",
        "Wu et al. 2024 (AKL)",
        "Few steps: head and tail are fitted at once.",
        "the head as in the authors' code: without the token that crosses 0.5, unless it is the first",
        "head 0.5, stored text",
    ),
    "taid": Method(
        usable,
        taid,
        OR_STORED,
        loss="-sum p_t log q, p_t = softmax((1 - t) z_S + t z_T)",
        paper="Shing et al. 2025 (2501.16937)",
        defaults="t from 0.4 to 1, rate max(5e-4, 2 / steps), stored text",
        when="A teacher far from the student: the target starts near the student.",
        differs_from_paper="the rate: the paper's 5e-4 would leave a straight line in a training of tens of steps",
        lacks=no_teacher_nor_stored,
    ),
    "gkd": Method(
        usable,
        partial(train, loss=plain(losses.gjsd), on_policy=0.5),
        TO_READ,
        loss="(1 - l) E_stored[JSD] + l E_own[JSD]",
        paper="Agarwal et al. 2024, Eq. 1 and Algorithm 1",
        defaults="l 0.5",
        when="The student's own mistakes are what the teacher should correct.",
        differs_from_paper="own or stored text is drawn for each micro-batch, not for a whole step; no "
        "supervised training before",
        lacks=no_teacher,
    ),
    "on_policy_kl": Method(
        any_prompt,
        partial(train, loss=plain(losses.reverse_kl), on_policy=1),
        f"{TEACHER}, and prompts alone",
        loss="E_own[KL(q | p)]",
        paper="Agarwal et al. 2024; TRL DistillationTrainer",
        defaults="l 1",
        when="Prompts without any completion, and a teacher that is much better.",
        differs_from_paper="no supervised training before; not MiniLLM: no policy gradient",
        lacks=no_teacher,
    ),
}
