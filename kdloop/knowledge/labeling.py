"""Labeling: the teacher answers the student's prompts.

    D = { (x, y) | x ~ X, y ~ p_T(y | I + c + x) }                 survey Eq. 3; I is a template, c demonstrations

A row keeps the template's name, so that it renders again to what was sent; the student learns the plain prompt.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from kdloop.knowledge.rows import Refused, SourceContext
from kdloop.packs import Task
from kdloop.raters import harm, verdicts, verifiers
from kdloop.raters.teacher import Answer, Teachers, by_teacher
from storage.conversations import Draft, Message, as_prompt

TEMPLATES = {
    "plain": "{question}",
    "explain": "{question}\n\nExplain the answer so that a curious beginner understands it.",  # Orca (2023)
    "step_by_step": "{question}\n\nThink step by step, then give the answer.",  # Kojima et al. 2022
    "rationale": "{question}\n\nFirst give the reason in one or two sentences. Then 'Answer:' and the answer alone.",
    "equations": "{question}\n\nWrite only the equations that lead to the answer, one a line, the answer last.",
}
RATIONALE_PREFIX = "[rationale] "  # Distilling step-by-step (Hsieh et al. 2023): a second task from one item
REFUSALS = re.compile(
    r"^\W*(i(['’]m| am) sorry|sorry,? (but )?i can(no|['’])t|i can(no|['’])t|as an ai|i(['’]m| am) (not able|unable))",
    re.IGNORECASE,
)
ANSWER = re.compile(r"[*_#\s]*\bAnswer[*_]*\s*[:：][*_]*")
FENCED = re.compile(r"```\w*\s*\n(.*?)\n?```", re.DOTALL)
QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "‘": "’", "`": "`"}
MOST_WORDS = 300


def render(
    template: str, question: str, shots: Sequence[Sequence[str]] = (), before: Sequence[Message] = ()
) -> list[Message]:
    """What is sent: demonstrations as earlier turns, what came `before` the question, and the question in its template.
    A system message stays the first. Raises ValueError by name."""
    if template not in TEMPLATES:
        raise ValueError(f"No template {template!r}; there are {', '.join(TEMPLATES)}")
    turns = [m for q, a in shots for m in (as_prompt(q)[0], {"role": "assistant", "content": a})]
    system = [m for m in before if m["role"] == "system"]
    earlier = [m for m in before if m["role"] != "system"]
    return [*system, *turns, *earlier, *as_prompt(TEMPLATES[template].format(question=question))]


def labels(
    context: SourceContext,
    tasks: Sequence[Task],
    template: str = "plain",
    shots: Sequence[Sequence[str]] = (),
    teacher: str = "",
    temperature: float = 0.7,
    most_words: int = MOST_WORDS,
    most_harm: float = 1.0,
) -> int:
    """One liked completion by a teacher for each prompt; refusals, over-long texts and failed checks are left out.

    With the template "rationale" each item gives two rows: the prompt with the answer, whose row keeps the reason (the
    second target of the method `step_by_step`), and `[rationale] ` prompt with the reason, for other methods.
    With `most_harm` below 1 prompts that are likelier harmful by the pack's weights, or of which nobody can tell, are
    not answered (raters/harm.py; the paper's threshold is 0.5).
    Raises Refused where no teacher may be used, or where none of them answered.
    """
    tasks = harmless(context, tasks, most_harm) if most_harm < 1 else tasks
    prompts = [render(template, t.prompt, shots, t.before) for t in tasks]
    how = {"template": template, "shots": [list(s) for s in shots]}
    rows = 0
    for task, answer in zip(tasks, ask(context, prompts, teacher, temperature=temperature), strict=True):
        if not answer.ok or unusable(answer.text, most_words):
            continue
        said = by_teacher(answer, **how)
        parts = second_target(said) if template == "rationale" else [("", said)]
        if parts and task.verifiable and not verifiers.passed(task, parts[0][1].text):
            continue
        reasons = [part.text for _, part in parts[1:]]
        for (prefix, part), why in zip(parts, [*reasons, ""], strict=True):
            asked = [*task.before, *as_prompt(prefix + task.prompt)]
            context.write(asked, part, source="teacher", rater=answer.teacher.name, critique=why)
            rows += 1
    return rows


def harmless(context: SourceContext, tasks: Sequence[Task], most: float) -> list[Task]:
    weights = harm.weights_of(context.pack.harm)
    known = zip(tasks, harm.trees(teaching(context), [t.messages for t in tasks]), strict=True)
    return [t for t, tree in known if tree is not None and weights.harmful(tree) <= most]


def second_target(said: Draft) -> list[tuple[str, Draft]]:
    """(prefix of the prompt, completion) of the answer and of its reason; none where the two cannot be told apart."""
    *_, mark = [None, *ANSWER.finditer(said.text)]
    reason, answer = (said.text[: mark.start()].strip(), said.text[mark.end() :].strip()) if mark else ("", "")
    if not (reason and answer):
        return []
    return [("", replace(said, text=answer)), (RATIONALE_PREFIX, replace(said, text=reason))]


def unusable(text: str, most_words: int = MOST_WORDS) -> bool:
    return bool(REFUSALS.match(text)) or not 0 < len(text.split()) <= most_words


def in_template(prompt: Sequence[Message], template: str, **values) -> list[Message]:
    """The same conversation, whose last message is put into a template as its `question`."""
    return [*prompt[:-1], *as_prompt(template.format(question=prompt[-1]["content"], **values))]


def alone(answer: Answer) -> str:
    """A request that a teacher was to give alone, on one line, out of a fence or the quotation marks around it; "" for
    one that was cut: half a question is none."""
    if answer.status != "finished":
        return ""
    fences = FENCED.findall(answer.text)
    text = " ".join((fences[0] if len(fences) == 1 else answer.text).split())
    inner = text[1:-1]
    quoted = len(text) > 2 and QUOTES.get(text[0]) == text[-1] and not {text[0], text[-1]} & set(inner)
    return inner.strip() if quoted else text


def yes_or_no(text: str) -> bool | None:
    """None where it begins with neither, or with both."""
    first, *then = re.findall(r"\w+", verdicts.plain(text).lower())[:3] or [""]
    other = {"yes": "no", "no": "yes"}.get(first)
    return None if other is None or other in then else first == "yes"


def teaching(context: SourceContext) -> Teachers:
    """The teachers whose completions may be trained on. Raises Refused where there is none."""
    if context.teachers is None:
        raise Refused("This source needs a teacher: KDLOOP_TEACHERS names a file of them")
    allowed = [t for t in context.teachers.all if t.may_teach]
    if not allowed:
        names = ", ".join(t.name for t in context.teachers.all)
        raise Refused(
            f"The terms of {names} forbid training other models on their completions. If you have the right to do it, "
            "say confirmed = true in the teachers' file"
        )
    return context.teachers if len(allowed) == len(context.teachers.all) else Teachers(context.db, allowed)


def bound(context: SourceContext) -> int:
    """Of prompts that teachers wrote: 1 where the terms of one forbid to train on what it writes. Which of them wrote
    which prompt is not asked: they see each other's."""
    return max(t.restricted for t in teaching(context).all)


def ask(context: SourceContext, prompts: list[list[Message]], teacher: str = "", **sampling) -> list[Answer]:
    """One answer a prompt, some of them failed. Raises Refused where all failed: nothing would be learned, silently."""
    teachers = teaching(context)
    seeds = [context.round.seed * 10_007 + i for i in range(len(prompts))]
    of = teachers.named(teacher) if teacher else None
    answers = teachers.ask(prompts, replace(context.sampling, **sampling), seeds, of=of)
    if prompts and not any(a.ok for a in answers):
        raise Refused(f"No teacher answered; {answers[0].teacher.name} said: {answers[0].error}")
    return answers
