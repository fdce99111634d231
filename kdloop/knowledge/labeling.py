"""Labeling: the teacher answers the student's prompts.

    D = { (x, y) | x ~ X, y ~ p_T(y | I + c + x) }                 survey Eq. 3; I is a template, c demonstrations

A row keeps the template's name, so that the request can be rendered again; the student is trained on the plain prompt.
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
MAX_WORDS = 300  # longer answers are cut by the student's token limit anyway


def render(
    template: str, question: str, shots: Sequence[Sequence[str]] = (), before: Sequence[Message] = ()
) -> list[Message]:
    """The request: demonstrations as earlier turns, the conversation `before` the question, and the question in its
    template; a system message stays first. Raises ValueError for an unknown template."""
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
    most_words: int = MAX_WORDS,
    most_harm: float = 1.0,
) -> int:
    """A teacher's liked completion per prompt, without refusals, texts of more than `most_words`, and failed checks.

    The template "rationale" gives two rows per prompt (Hsieh et al. 2023): the prompt with the answer, whose row keeps
    the reason (the second target of the method `step_by_step`), and `[rationale] ` + prompt with the reason, for other
    methods. With `most_harm` below 1, prompts whose p(harmful) is greater or unknown are skipped (raters/harm.py; the
    paper's threshold is 0.5). Raises Refused where no teacher may be used, or none of them answers.
    """
    tasks = harmless(context, tasks, most_harm) if most_harm < 1 else tasks
    prompts = [render(template, t.prompt, shots, t.before) for t in tasks]
    how = {"template": template, "shots": [list(s) for s in shots]}
    rows = 0
    for task, answer in zip(tasks, ask(context, prompts, teacher, temperature=temperature), strict=True):
        if not answer.ok or unusable(answer.text, most_words):
            continue
        draft = by_teacher(answer, **how)
        parts = second_target(draft) if template == "rationale" else [("", draft)]
        if parts and task.verifiable and not verifiers.passed(task, parts[0][1].text):
            continue
        reasons = [part.text for _, part in parts[1:]]
        for (prefix, part), why in zip(parts, [*reasons, ""], strict=True):
            target_prompt = [*task.before, *as_prompt(prefix + task.prompt)]
            context.write(target_prompt, part, source="teacher", rater=answer.teacher.name, critique=why)
            rows += 1
    return rows


def harmless(context: SourceContext, tasks: Sequence[Task], most: float) -> list[Task]:
    """The tasks whose p(harmful) is known and at most `most`."""
    weights = harm.weights_of(context.pack.harm)
    judged = zip(tasks, harm.trees(allowed_teachers(context), [t.messages for t in tasks]), strict=True)
    return [t for t, tree in judged if tree is not None and weights.harmful(tree) <= most]


def second_target(draft: Draft) -> list[tuple[str, Draft]]:
    """(prefix of the prompt, completion) of the answer and of its reason; empty if the text does not hold both."""
    *_, mark = [None, *ANSWER.finditer(draft.text)]
    reason, answer = (draft.text[: mark.start()].strip(), draft.text[mark.end() :].strip()) if mark else ("", "")
    if not (reason and answer):
        return []
    return [("", replace(draft, text=answer)), (RATIONALE_PREFIX, replace(draft, text=reason))]


def unusable(text: str, most_words: int = MAX_WORDS) -> bool:
    """A refusal, an empty text, or one of more than `most_words` words."""
    return bool(REFUSALS.match(text)) or not 0 < len(text.split()) <= most_words


def in_template(prompt: Sequence[Message], template: str, **values) -> list[Message]:
    """The conversation with its last message put into a template as `question`."""
    return [*prompt[:-1], *as_prompt(template.format(question=prompt[-1]["content"], **values))]


def request_in(answer: Answer) -> str:
    """The one request in an answer, on one line, without a code fence or quotation marks around it; "" if it was
    cut."""
    if answer.status != "finished":
        return ""
    fences = FENCED.findall(answer.text)
    text = " ".join((fences[0] if len(fences) == 1 else answer.text).split())
    inner = text[1:-1]
    quoted = len(text) > 2 and QUOTES.get(text[0]) == text[-1] and not {text[0], text[-1]} & set(inner)
    return inner.strip() if quoted else text


def yes_or_no(text: str) -> bool | None:
    """None unless the text begins with exactly one of the two."""
    first, *then = re.findall(r"\w+", verdicts.plain(text).lower())[:3] or [""]
    other = {"yes": "no", "no": "yes"}.get(first)
    return None if other is None or other in then else first == "yes"


def allowed_teachers(context: SourceContext) -> Teachers:
    """The teachers whose completions may be trained on. Raises Refused if there are none."""
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


def prompts_restricted(context: SourceContext) -> int:
    """1 if the terms of any teacher forbid training on its texts: for prompts that teachers wrote, as each of them sees
    the others' prompts."""
    return max(t.restricted for t in allowed_teachers(context).all)


def ask(context: SourceContext, prompts: list[list[Message]], teacher: str = "", **sampling) -> list[Answer]:
    """One answer per prompt; single ones may have failed. Raises Refused if all have: the round must not go on
    silently."""
    teachers = allowed_teachers(context)
    seeds = [context.round.seed * 10_007 + i for i in range(len(prompts))]
    of = teachers.named(teacher) if teacher else None
    answers = teachers.ask(prompts, replace(context.sampling, **sampling), seeds, of=of)
    if prompts and not any(a.ok for a in answers):
        raise Refused(f"No teacher answered; {answers[0].teacher.name} said: {answers[0].error}")
    return answers
