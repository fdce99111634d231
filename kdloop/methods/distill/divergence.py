"""White-box distillation: match the next-token distribution of a teacher with the student's vocabulary.

    L = (1 - lambda) E_{stored y}[D(p_T, p_S)] + lambda E_{y ~ p_S}[D(p_T, p_S)]        survey Eq. 10; GKD, Eq. 1

D is one of losses.py, position by position. The teacher may read another prompt than the student: with privileged
context in it, the same model can teach itself (self_training/self_teaching.py). No gradient goes through sampling.
TRL has these losses in its experimental GKD and distillation trainers, which compute logits of prompt and padding, too;
tests/methods/test_trl_parity.py holds ours to theirs.
"""

import random
from collections.abc import Callable, Collection
from functools import partial

from torch import Tensor

from kdloop.feedback.examples import Example
from kdloop.methods import losses
from kdloop.methods.distill import stored
from kdloop.methods.distill.white_box import Teacher, load
from kdloop.methods.lora import REMEDIES, Method, NothingToLearn, OnStep, Plan
from kdloop.methods.objective import Numbers, completion_logits, fit, sample, sequence, token_logps
from kdloop.methods.supervised import usable
from kdloop.student.template import Template
from storage.conversations import Completion, Message

Divergence = Callable[[Tensor, Tensor], Tensor]  # of teacher and student log-probabilities (..., vocabulary) -> (...)
# (teacher logits (n, vocabulary), student logits (n, vocabulary), targets (n,), progress from 0 to 1) -> (n,)
PositionLoss = Callable[[Tensor, Tensor, Tensor, float], Tensor]
Draw = Callable[..., tuple[list[list[int]], Numbers]]  # (model, teacher, rows) -> the student's samples, numbers to log

TEACHER = "a teacher with the student's vocabulary"
TO_READ = f"{TEACHER}, and completions to read"
OR_STORED = f"{TO_READ}; or what it stored beside its own (the source `features`)"


def any_prompt(example: Example) -> bool:
    return True


def distillation_loss(divergence: Divergence, temperature: float = 1.0, nll_weight: float = 0.0) -> PositionLoss:
    """(1 - w) T^2 D(p_T, p_S) at temperature T + w NLL(target), w = nll_weight. Hinton et al. 2015."""

    def loss(teacher: Tensor, student: Tensor, targets: Tensor, progress: float) -> Tensor:
        p, q = ((z / temperature).log_softmax(-1) for z in (teacher, student))
        distance = temperature**2 * divergence(p, q)
        if not nll_weight:
            return distance
        return (1 - nll_weight) * distance - nll_weight * token_logps(student[None], targets[None])[0]

    return loss


def taid_loss(steps: int) -> PositionLoss:
    """TAID (losses.Taid): towards a target between student and teacher that moves to the teacher within `steps`. In a
    round of tens of steps the paper's rate of 5e-4 never outruns the straight line, so it is at least 2 / steps."""
    schedule = losses.Taid()

    def loss(teacher: Tensor, student: Tensor, targets: Tensor, progress: float) -> Tensor:
        nonlocal schedule
        each = losses.cross_entropy(schedule.target(teacher, student), student.log_softmax(-1))
        schedule = schedule.after(each.mean().item(), round(progress * steps) + 1, steps, max(5e-4, 2 / steps))
        return each

    return loss


def objective(teacher: Teacher, loss: PositionLoss, on_policy: float, draw: Draw, seed: int):
    """The mean of `loss` over the positions of a micro-batch's completions; with probability `on_policy` these are
    samples that `draw` gives in place of the stored ones."""
    coin = random.Random(seed)

    def of_rows(model, rows: list[dict], progress: float):
        sequences = [r["sequences"][0] for r in rows]
        use_samples = coin.random() < on_policy
        numbers = {"on_policy": float(use_samples)}
        if use_samples:
            drawn, of_draw = draw(model, teacher, rows)
            sequences = [(prompt, c) for (prompt, _), c in zip(sequences, drawn, strict=True)]
            numbers |= of_draw
        teacher_reads = [(r["teacher_prompt"], c) for r, (_, c) in zip(rows, sequences, strict=True)]
        student, targets = completion_logits(model, sequences)
        at = targets != -100
        each = loss(teacher.logits(model, teacher_reads)[at], student[at], targets[at], progress)
        return each.mean(), numbers

    return of_rows


def own_samples(plan: Plan, ends: Collection[int]) -> Draw:
    """The student's own, of at most `plan.max_tokens`."""
    return lambda model, teacher, rows: (sample(model, [r["sequences"][0][0] for r in rows], plan.max_tokens, ends), {})


def train(
    model,
    tokenizer,
    examples: list[Example],
    plan: Plan,
    on_step: OnStep,
    loss: PositionLoss,
    on_policy: float = 0.0,
    draw: Callable[[Plan, Collection[int]], Draw] = own_samples,
    teacher_prompt: Callable[[Example], list[Message]] = lambda e: e.prompt,
) -> Numbers:
    """The teacher reads each completion along, after `teacher_prompt(example)`; `on_policy` is lambda of Eq. 10. Raises
    OtherVocabulary for a teacher with another one."""
    nothing = Completion("", "", "student", None, "")
    template = Template.of(tokenizer)
    rows = [
        {
            "sequences": [sequence(tokenizer, e.prompt, e.chosen or nothing)],
            "teacher_prompt": template.prompt_ids(teacher_prompt(e)),
        }
        for e in examples
    ]
    drawn = draw(plan, template.ends)
    return fit(model, rows, objective(load(plan, model), loss, on_policy, drawn, plan.seed), plan, on_step)


def train_on_text(
    model,
    tokenizer,
    examples: list[Example],
    plan: Plan,
    on_step: OnStep,
    loss: PositionLoss,
    teacher_needed: bool = True,
    **options,
) -> Numbers:
    """`train`, with its `options`, on stored completions. Where the plan names no teacher that reads along, the target
    is what teachers stored beside them (stored.py), and without that the untrained student.

    Raises NothingToLearn where none of these texts has a stored distribution and `teacher_needed`.
    """
    rows = [] if plan.teachers else stored.rows(tokenizer, examples, plan)
    if rows:
        return fit(model, rows, stored.objective(loss), plan, on_step)
    if plan.stored and teacher_needed and not plan.teachers:
        raise NothingToLearn(
            f"None of {len(examples)} texts has its teacher's distribution beside it; the method {REMEDIES['teachers']}"
        )
    return train(model, tokenizer, examples, plan, on_step, loss, **options)


def taid(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep, **options) -> Numbers:
    """`train_on_text` with a loss whose schedule knows the number of steps."""
    steps = max(1, round(len(examples) / plan.batch * plan.epochs))
    return train_on_text(model, tokenizer, examples, plan, on_step, taid_loss(steps), **options)


ON_TEXT = {"needs": OR_STORED, "requires": ("teachers", "stored")}
METHODS = {
    "forward_kl": Method(
        usable,
        partial(train_on_text, loss=distillation_loss(losses.forward_kl)),
        **ON_TEXT,
        loss="sum p log(p / q)",
        paper="survey Table 1",
        defaults="stored text",
        when="A teacher whose whole range is wanted: translation, rewriting.",
        differs_from_paper="nothing known",
    ),
    "reverse_kl": Method(
        usable,
        partial(train_on_text, loss=distillation_loss(losses.reverse_kl)),
        **ON_TEXT,
        loss="sum q log(q / p)",
        paper="survey Table 1",
        defaults="stored text",
        when="A student too small for all that the teacher can say: it takes what the teacher finds likely.",
        differs_from_paper="nothing known of Table 1; MiniLLM, the survey's system for it, is absent: no policy "
        "gradient",
    ),
    "jsd": Method(
        usable,
        partial(train_on_text, loss=distillation_loss(losses.gjsd)),
        **ON_TEXT,
        loss="1/2 KL(p | m) + 1/2 KL(q | m), m = (p + q) / 2",
        paper="survey Table 1",
        defaults="stored text",
        when="Between the two above, and bounded.",
        differs_from_paper="nothing known",
    ),
    "total_variation": Method(
        usable,
        partial(train_on_text, loss=distillation_loss(losses.total_variation)),
        **ON_TEXT,
        loss="1/2 sum |p - q|",
        paper="Wen et al. 2023 (f-Distill)",
        defaults="stored text",
        when="A teacher with a noisy tail: unlikely tokens count by their mass alone.",
        differs_from_paper="of tokens, on stored text; the paper's is of sequences, sampled from teacher and student",
    ),
    "skew_kl": Method(
        usable,
        partial(train_on_text, loss=distillation_loss(losses.skew_kl)),
        **ON_TEXT,
        loss="KL(p | a p + (1 - a) q)",
        paper="Ko et al. 2024 (DistiLLM)",
        defaults="a 0.1, stored text",
        when="Forward KL whose gradient stays small where the student gives almost nothing.",
        differs_from_paper="the loss alone: its adaptive share of own samples and its replay buffer are absent",
    ),
    "skew_reverse_kl": Method(
        usable,
        partial(train_on_text, loss=distillation_loss(losses.skew_reverse_kl)),
        **ON_TEXT,
        loss="KL(q | (1 - a) p + a q)",
        paper="Ko et al. 2024 (DistiLLM)",
        defaults="a 0.1, stored text",
        when="Reverse KL whose gradient stays small where the teacher gives almost nothing.",
        differs_from_paper="the loss alone: its adaptive share of own samples and its replay buffer are absent",
    ),
    "adaptive_kl": Method(
        usable,
        partial(train_on_text, loss=distillation_loss(losses.adaptive_kl)),
        **ON_TEXT,
        loss="w KL(p | q) + (1 - w) KL(q | p), w = the head's share of sum |p - q|",
        paper="Wu et al. 2024 (AKL)",
        defaults="head 0.5, stored text",
        when="Few steps: head and tail are fitted at once.",
        differs_from_paper="the head as in the authors' code: without the token that crosses 0.5, unless it is the "
        "first",
    ),
    "taid": Method(
        usable,
        taid,
        **ON_TEXT,
        loss="-sum p_t log q, p_t = softmax((1 - t) z_S + t z_T)",
        paper="Shing et al. 2025 (2501.16937)",
        defaults="t from 0.4 to 1, rate max(5e-4, 2 / steps), stored text",
        when="A teacher far from the student: the target starts near the student.",
        differs_from_paper="the rate: the paper's 5e-4 would leave a straight line in a training of tens of steps",
    ),
    "gkd": Method(
        usable,
        partial(train, loss=distillation_loss(losses.gjsd), on_policy=0.5),
        TO_READ,
        loss="(1 - l) E_stored[JSD] + l E_own[JSD]",
        paper="Agarwal et al. 2024, Eq. 1 and Algorithm 1",
        defaults="l 0.5",
        when="The student's own mistakes are what the teacher should correct.",
        differs_from_paper="own or stored text is drawn for each micro-batch, not for a whole step; no "
        "supervised training before",
        requires=("teachers",),
    ),
    "on_policy_kl": Method(
        any_prompt,
        partial(train, loss=distillation_loss(losses.reverse_kl), on_policy=1),
        f"{TEACHER}, and prompts alone",
        loss="E_own[KL(q | p)]",
        paper="Agarwal et al. 2024; TRL DistillationTrainer",
        defaults="l 1",
        when="Prompts without any completion, and a teacher that is much better.",
        differs_from_paper="no supervised training before; not MiniLLM: no policy gradient",
        requires=("teachers",),
    ),
}
