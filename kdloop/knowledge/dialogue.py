"""Dialogue: the teacher plays both sides of a conversation that begins with one of the pack's prompts.

D = { (x_1, y_1, ..., x_t, y_t) | y_i ~ p_T(y | x_1..x_i), x_i+1 ~ p_T(x | I + x_1..y_i) }     survey Eqs. 4 and 5
"""

import re
from collections.abc import Sequence

from kdloop.knowledge.expansion import Gate, held_out
from kdloop.knowledge.labeling import alone, ask, bound, unusable
from kdloop.knowledge.rows import SourceContext
from kdloop.packs import Task
from kdloop.raters.features import embed
from kdloop.raters.teacher import by_teacher
from storage.conversations import Message, as_prompt

NEXT = """Here is a conversation of a person with an assistant.

{dialogue}

Write what the person says next, on the same subject, as a message to the assistant. Give the message alone."""
NEAR_TOPIC = 0.3  # MiniLM cosine of a message to the one that began the conversation
ROLES = re.compile(r"(^|\n)\W*(user|human|person|assistant|ai|system)\W*:|<\|im_(start|end)\|>", re.IGNORECASE)


def self_chat(context: SourceContext, tasks: Sequence[Task], turns: int = 3, near: float = NEAR_TOPIC) -> int:
    """Baize (Xu et al. 2023) and UltraChat (Ding et al. 2023): up to `turns` messages of a person, each answered.

    A conversation ends before a message that names a role, leaves the subject, repeats an earlier one, or is near to
    what is held out. It is one row, whose prompt holds all that came before its last answer. With a single answer it is
    no conversation.
    """
    gate, latest, living = Gate(held_out(context)), {}, {i: as_prompt(t.prompt) for i, t in enumerate(tasks)}
    for turn in range(turns):
        answers = ask(context, list(living.values()))
        fine = {i: (m, a) for (i, m), a in zip(living.items(), answers, strict=True) if a.ok and is_one_message(a.text)}
        latest |= fine
        living = followed(context, fine, gate, near) if fine and turn + 1 < turns else {}
        if not living:
            break
    talks = {i: talk for i, talk in latest.items() if len(talk[0]) > 1}
    terms = bound(context)  # teachers have written all of it but the first message
    for messages, answer in talks.values():
        said = by_teacher(answer, terms, origin="self_chat", topic=messages[0]["content"])
        context.write(messages, said, source="teacher", rater=answer.teacher.name)
    return len(talks)


def followed(context: SourceContext, talks: dict, gate: Gate, near: float) -> dict[int, list[Message]]:
    """The conversations that a fitting message of the person continues, each ending with that message."""
    so_far = {i: [*m, {"role": "assistant", "content": a.text}] for i, (m, a) in talks.items()}
    asked = [as_prompt(NEXT.format(dialogue=shown(m))) for m in so_far.values()]
    new = [alone(a) for a in ask(context, asked, temperature=0.7)]
    alike = (embed([m[0]["content"] for m in so_far.values()]) * embed(new)).sum(1)
    return {
        i: [*messages, *as_prompt(message)]
        for (i, messages), message, cosine in zip(so_far.items(), new, alike, strict=True)
        if is_one_message(message) and cosine > near and gate.is_new(message) and not repeats(messages, message)
    }


def repeats(messages: Sequence[Message], message: str) -> bool:
    return not Gate(m["content"] for m in messages if m["role"] == "user").is_new(message)


def is_one_message(text: str) -> bool:
    """Neither a refusal nor empty, and of one speaker."""
    return not unusable(text) and not ROLES.search(text)


def shown(messages: Sequence[Message]) -> str:
    names = {"user": "Person"}
    return "\n\n".join(f"{names.get(m['role'], m['role'].capitalize())}: {m['content']}" for m in messages)
