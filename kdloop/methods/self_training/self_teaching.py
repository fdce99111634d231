"""The student teaches itself: what it can do with privileged context, it learns to do without.

    L = E_y[D(pi_0(. | x, c), pi(. | x))]        c: privileged context, which the teacher alone reads

The teacher is the untrained student, and c a demonstration (SDFT), a critique (SDPO) or a system prompt (Prompt
Baking). SPIN has no c: its own sample is the rejected completion. TRL's experimental SDFT and SDPO trainers do the
first two; with divergence.py they are an entry each, on the tokens that are served. The first two are after their
papers, not the whole of them: `differs_from_paper` says what is missing.
"""

import re
from dataclasses import replace
from functools import partial

from kdloop.feedback.examples import Example
from kdloop.methods import dpo, losses
from kdloop.methods.distill import divergence
from kdloop.methods.distill.divergence import any_prompt, distillation_loss
from kdloop.methods.lora import Method, OnStep, Plan
from kdloop.methods.objective import as_completion, sample
from kdloop.methods.supervised import usable
from kdloop.student.template import Template
from storage.conversations import Completion, Message

DEMONSTRATION = "{question}\n\nHere is an example of a good answer:\n{chosen}\n\nNow answer in your own words."
CRITIQUE = "{question}\n\nAn earlier answer was:\n{rejected}\n\nWhat was said of it: {critique}\n\nAnswer better."
ROLE = re.compile(r"^(User|Assistant):", re.MULTILINE)
SHORTENS_THOUGHTS = ("sdft", "sdpo")
CAUTION = ". The student thinks before it answers: {method} may cost long thinkers what they can do (arXiv 2607.05184)"
SAMPLE_BATCH = 16  # prompts, of similar length


def caution(method: str, tokenizer) -> str:
    """What to tell of a method whose teacher has privileged context, and so needs no long thought; "" for others."""
    warned = method in SHORTENS_THOUGHTS and Template.of(tokenizer).thinks
    return CAUTION.format(method=method) if warned else ""


def has_critique(example: Example) -> bool:
    return example.rejected is not None and bool(example.critique)


def with_context(e: Example, words: str, **context: str) -> list[Message]:
    """The prompt, its last message put into `words` with the context."""
    return [*e.prompt[:-1], {"role": "user", "content": words.format(question=e.prompt[-1]["content"], **context)}]


def with_demonstration(e: Example) -> list[Message]:
    return with_context(e, DEMONSTRATION, chosen=e.chosen.text)


def with_critique(e: Example) -> list[Message]:
    return with_context(e, CRITIQUE, rejected=e.rejected.text, critique=e.critique)


def with_system(system: str, e: Example) -> list[Message]:
    """The prompt after the messages of `system`, in place of a system message of its own."""
    return [*turns(system), *(m for m in e.prompt if m["role"] != "system")]


def turns(system: str) -> list[Message]:
    """A system prompt with few-shot turns as messages: lines that begin with "User:" or "Assistant:" start a turn."""
    texts = ROLE.split(system)  # with a group in the pattern: text, role, text, role, text ...
    roles = ["system", *texts[1::2]]
    messages = [{"role": r.lower(), "content": t.strip()} for r, t in zip(roles, texts[::2], strict=True)]
    return [m for m in messages if m["content"]]


def write(model, tokenizer, prompts: list[list[Message]], plan: Plan) -> list[Completion]:
    """One sampled completion per prompt by the model as it is now, of at most `plan.max_tokens`."""
    heads = [Template.of(tokenizer).prompt_ids(p) for p in prompts]
    ends, drawn = Template.of(tokenizer).ends, {}
    order = sorted(range(len(heads)), key=lambda i: len(heads[i]))  # one long prompt would pad all of its batch
    for at in range(0, len(order), SAMPLE_BATCH):
        rows = order[at : at + SAMPLE_BATCH]
        drawn |= zip(rows, sample(model, [heads[i] for i in rows], plan.max_tokens, ends), strict=True)
    return [as_completion(tokenizer, drawn[i]) for i in range(len(heads))]


def bake(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """The untrained student samples with the system prompt; the student without it matches the distributions there. A
    recipe's `strength` is the share of the way that is taken in the end."""
    prompted = partial(with_system, plan.system)
    with model.disable_adapter():
        samples = write(model, tokenizer, [prompted(e) for e in examples], plan)
    examples = [replace(e, chosen=k) for e, k in zip(examples, samples, strict=True) if k.text]
    loss = distillation_loss(losses.forward_kl)
    return divergence.train(model, tokenizer, examples, plan, on_step, loss, teacher_prompt=prompted)


def spin(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """DPO of what people like over what the student, as it is now, samples itself."""
    samples = write(model, tokenizer, [e.prompt for e in examples], plan)
    pairs = [
        replace(e, rejected=k) for e, k in zip(examples, samples, strict=True) if k.text and k.text != e.chosen.text
    ]
    return dpo.train(model, tokenizer, pairs, plan, on_step)


METHODS = {
    "sdft": Method(
        usable,
        partial(
            divergence.train,
            loss=distillation_loss(losses.reverse_kl),
            on_policy=1,
            teacher_prompt=with_demonstration,
        ),
        needs="liked, chosen or written completions",
        loss="E_own[KL(q | p)], p with the completion as an example in its prompt",
        paper="after SDFT, Shenfeld et al. 2026",
        defaults="own samples",
        when="New skills from demonstrations with little forgetting: it is trained on the student's own samples. Not "
        "for a student that thinks long (2607.05184).",
        differs_from_paper="the teacher is the untrained student throughout, also where the training starts from a "
        "champion; the paper's is a moving average of the student",
    ),
    "sdpo": Method(
        has_critique,
        partial(divergence.train, loss=distillation_loss(losses.gjsd), on_policy=1, teacher_prompt=with_critique),
        needs="rejected completions with a critique in words",
        loss="E_own[JSD(p, q)], p with the rejected completion and its critique in its prompt",
        paper="after SDPO, Hübotter et al. 2026",
        defaults="own samples",
        when="People who say what is wrong: a critique becomes a signal at every token. Not for a student that thinks "
        "long (2607.05184).",
        differs_from_paper="the critique is of another, stored completion of the prompt, not of the sample that is "
        "trained on; no reward, and no successful sample is shown to the teacher, which is the untrained student "
        "throughout",
    ),
    "bake": Method(
        any_prompt,
        bake,
        needs="a system prompt, best with few-shot turns, and prompts",
        loss="E_y[KL(p | q)], y and p by the untrained student with the system prompt",
        paper="Bhargava et al. 2024 (2409.13697)",
        defaults='a recipe\'s strength 1; 0.5 is "half-baked"',
        when="A rule that should hold without a system prompt that says it.",
        differs_from_paper="one sample per prompt, of at most a round's tokens; the prompt may hold few-shot turns",
        requires=("system",),
    ),
    "spin": Method(
        usable,
        spin,
        needs="liked, chosen or written completions",
        loss="dpo's, the rejected completion being the student's own sample",
        paper="Chen et al. 2024 (SPIN)",
        defaults="as dpo",
        when="Corrections or a teacher's texts without pairs.",
        differs_from_paper="one iteration per round, on its own samples alone: the paper adds those of the one before; "
        "dpo's anchor",
    ),
}
