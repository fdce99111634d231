"""Self-chat: the teacher plays both sides of a conversation that begins with one of the pack's prompts.

D = { (x_1, y_1, ..., x_t, y_t) | y_i ~ p_T(y | x_1..x_i), x_i+1 ~ p_T(x | I + x_1..y_i) }     survey Eqs. 4 and 5
"""

import re
from collections.abc import Sequence

from kdloop.knowledge.expansion import NoveltyFilter, held_out
from kdloop.knowledge.labeling import ask, prompts_restricted, request_in, unusable
from kdloop.knowledge.rows import SourceContext
from kdloop.packs import Task
from kdloop.raters.features import embed
from kdloop.raters.teacher import by_teacher
from storage.conversations import Message, as_prompt

NEXT = """Here is a conversation of a person with an assistant.

{dialogue}

Write what the person says next, on the same subject, as a message to the assistant. Give the message alone."""
MIN_TOPIC_COSINE = 0.3  # MiniLM, to the first message; a convention
ROLES = re.compile(r"(^|\n)\W*(user|human|person|assistant|ai|system)\W*:|<\|im_(start|end)\|>", re.IGNORECASE)


def self_chat(context: SourceContext, tasks: Sequence[Task], turns: int = 3, near: float = MIN_TOPIC_COSINE) -> int:
    """Baize (Xu et al. 2023) and UltraChat (Ding et al. 2023): up to `turns` user messages, each answered.

    A conversation ends before a message that names a role, changes the subject (cosine below `near`), repeats an
    earlier message, or is close to a held-out prompt. It becomes one row, whose prompt is all but its last answer; one
    with a single answer is dropped.
    """
    novelty, latest = NoveltyFilter(held_out(context)), {}
    living = {i: as_prompt(t.prompt) for i, t in enumerate(tasks)}
    for turn in range(turns):
        answers = ask(context, list(living.values()))
        pairs = zip(living.items(), answers, strict=True)
        answered = {i: (m, a) for (i, m), a in pairs if a.ok and is_one_message(a.text)}
        latest |= answered
        living = continued(context, answered, novelty, near) if answered and turn + 1 < turns else {}
        if not living:
            break
    talks = {i: talk for i, talk in latest.items() if len(talk[0]) > 1}
    terms = prompts_restricted(context)  # teachers wrote all but the first message
    for messages, answer in talks.values():
        draft = by_teacher(answer, terms, origin="self_chat", topic=messages[0]["content"])
        context.write(messages, draft, source="teacher", rater=answer.teacher.name)
    return len(talks)


def continued(context: SourceContext, talks: dict, novelty: NoveltyFilter, near: float) -> dict[int, list[Message]]:
    """The conversations with an acceptable next user message, which is their last one."""
    so_far = {i: [*m, {"role": "assistant", "content": a.text}] for i, (m, a) in talks.items()}
    requests = [as_prompt(NEXT.format(dialogue=render(m))) for m in so_far.values()]
    new = [request_in(a) for a in ask(context, requests, temperature=0.7)]
    cosines = (embed([m[0]["content"] for m in so_far.values()]) * embed(new)).sum(1)
    return {
        i: [*messages, *as_prompt(message)]
        for (i, messages), message, cosine in zip(so_far.items(), new, cosines, strict=True)
        if is_one_message(message) and cosine > near and novelty.is_new(message) and not repeats(messages, message)
    }


def repeats(messages: Sequence[Message], message: str) -> bool:
    return not NoveltyFilter(m["content"] for m in messages if m["role"] == "user").is_new(message)


def is_one_message(text: str) -> bool:
    """Not empty, no refusal, and by one speaker."""
    return not unusable(text) and not ROLES.search(text)


def render(messages: Sequence[Message]) -> str:
    names = {"user": "Person"}
    return "\n\n".join(f"{names.get(m['role'], m['role'].capitalize())}: {m['content']}" for m in messages)
