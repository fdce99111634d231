"""The student teaches itself: what it can do when it is told more, it learns to do untold.

    L = E_y[D(pi_0(. | told), pi(. | x))]

The teacher is the untrained student, told a demonstration (SDFT), a critique (SDPO) or a system prompt (Prompt Baking);
the student reads the plain prompt. SPIN needs no telling: its own sample is the rejected one. TRL's experimental
SDFT and SDPO trainers do the first two; with divergence.py they are a line each, on the same tokens as all else. The
first two are after their papers, not the whole of them: `differs_from_paper` says what is missing.
"""

import re
from dataclasses import replace
from functools import partial

from kdloop.feedback.examples import Example
from kdloop.methods import dpo, losses
from kdloop.methods.distill import divergence
from kdloop.methods.distill.divergence import any_prompt, plain, usable
from kdloop.methods.lora import Method, OnStep, Plan
from kdloop.methods.objective import sample
from kdloop.student.template import Template
from storage.conversations import Completion, Message

DEMONSTRATION = "{question}\n\nHere is an example of a good answer:\n{chosen}\n\nNow answer in your own words."
CRITIQUE = "{question}\n\nAn earlier answer was:\n{rejected}\n\nWhat was said of it: {critique}\n\nAnswer better."
TURN = re.compile(r"^(User|Assistant):", re.MULTILINE)
SAMPLE_BATCH = 16


def criticised(example: Example) -> bool:
    return example.rejected is not None and bool(example.critique)


def asked(e: Example, words: str, **said: str) -> list[Message]:
    return [*e.prompt[:-1], {"role": "user", "content": words.format(question=e.prompt[-1]["content"], **said)}]


def with_demonstration(e: Example) -> list[Message]:
    return asked(e, DEMONSTRATION, chosen=e.chosen.text)


def with_critique(e: Example) -> list[Message]:
    return asked(e, CRITIQUE, rejected=e.rejected.text, critique=e.critique)


def with_system(system: str, e: Example) -> list[Message]:
    return [*turns(system), *(m for m in e.prompt if m["role"] != "system")]


def turns(system: str) -> list[Message]:
    """A system prompt, and the turns that show how it is meant: what lines with "User:" and "Assistant:" begin.

    `re.split` with a group gives the text before the first mark, then each mark and the text after it in turn.
    """
    head, *rest = TURN.split(system)
    parts = [("system", head)]
    while rest:
        role, text, *rest = rest
        parts.append((role.lower(), text))
    return [{"role": role, "content": text.strip()} for role, text in parts if text.strip()]


def said(tokenizer, ids: list[int]) -> Completion:
    """Sampled ids as a completion of the student."""
    template = Template.of(tokenizer)
    ids, ended = template.until_end(ids)
    text = template.text(ids).strip()
    return Completion("", "", "student", None, text, "finished" if ended else "cut")


def write(model, tokenizer, prompts: list[list[Message]], plan: Plan) -> list[Completion]:
    """One completion a prompt by the model as it is now."""
    heads = [Template.of(tokenizer).prompt_ids(p) for p in prompts]
    ends, drawn = Template.of(tokenizer).ends, {}
    order = sorted(range(len(heads)), key=lambda i: len(heads[i]))  # one long prompt would pad all of its batch
    for at in range(0, len(order), SAMPLE_BATCH):
        rows = order[at : at + SAMPLE_BATCH]
        drawn |= zip(rows, sample(model, [heads[i] for i in rows], plan.max_tokens, ends), strict=True)
    return [said(tokenizer, drawn[i]) for i in range(len(heads))]


def bake(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """The prompted student writes, the unprompted one matches its distribution there. A recipe's `strength` is the
    dial: how far of the way a round goes."""
    told = partial(with_system, plan.system)
    with model.disable_adapter():
        written = write(model, tokenizer, [told(e) for e in examples], plan)
    rows = [replace(e, chosen=k) for e, k in zip(examples, written, strict=True) if k.text]
    return divergence.train(model, tokenizer, rows, plan, on_step, plain(losses.forward_kl), told=told)


def spin(model, tokenizer, examples: list[Example], plan: Plan, on_step: OnStep) -> dict[str, float]:
    """DPO of what people like over what the student, as it is now, writes itself."""
    written = write(model, tokenizer, [e.prompt for e in examples], plan)
    rows = [
        replace(e, rejected=k) for e, k in zip(examples, written, strict=True) if k.text and k.text != e.chosen.text
    ]
    return dpo.train(model, tokenizer, rows, plan, on_step)


METHODS = {
    "sdft": Method(
        usable,
        partial(divergence.train, loss=plain(losses.reverse_kl), on_policy=1, told=with_demonstration),
        needs="liked, chosen or written completions",
        loss="E_own[KL(q | p)], p told the completion as an example",
        paper="after SDFT, Shenfeld et al. 2026",
        defaults="own samples",
        when="New skills from demonstrations with little forgetting: the student keeps to its own words.",
        differs_from_paper="the teacher is the untrained student throughout, also where the training starts from a "
        "champion; the paper's is a moving average of the student",
    ),
    "sdpo": Method(
        criticised,
        partial(divergence.train, loss=plain(losses.gjsd), on_policy=1, told=with_critique),
        needs="rejected completions with a critique in words",
        loss="E_own[JSD(p, q)], p told the rejected completion and what was said of it",
        paper="after SDPO, Hübotter et al. 2026",
        defaults="own samples",
        when="People who say what is wrong: each word of it becomes a signal for every token.",
        differs_from_paper="the critique is of another, stored completion of the prompt, not of the sample that is "
        "trained on; no reward, and no successful sample is shown to the teacher, which is the untrained student "
        "throughout",
    ),
    "bake": Method(
        any_prompt,
        bake,
        needs="a system prompt, best with turns that show how it is meant, and prompts",
        loss="E_y[KL(p | q)], y and p by the student told the system prompt",
        paper="Bhargava et al. 2024 (2409.13697)",
        defaults="a recipe's strength 1; less is half-baked",
        when="A rule that should hold without being said each time.",
        differs_from_paper="one sample a prompt, of at most a round's tokens; turns may show how the prompt is meant",
        lacks=lambda plan: "" if plan.system else "needs a system prompt: KDLOOP_BAKE",
    ),
    "spin": Method(
        usable,
        spin,
        needs="liked, chosen or written completions",
        loss="dpo's, the rejected completion being the student's own sample",
        paper="Chen et al. 2024 (SPIN)",
        defaults="as dpo",
        when="Corrections or a teacher's texts without pairs.",
        differs_from_paper="one iteration a round, on this round's samples alone: the paper adds the iteration before; "
        "dpo's anchor",
    ),
}
