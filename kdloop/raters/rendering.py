"""Renders a conversation as one text for a judge: all messages that people saw, under headings that no message can
forge."""

import re

from storage.conversations import Message

HEADINGS = r"prompt|completion|conversation|message|system|developer|user|person|human|assistant|tool"
HEADING = re.compile(rf"[\[［【〔⟦]([^\S\n]*(?:{HEADINGS})\b[^\[\]［］\n]{{0,20}})[\]］】〕⟧]", re.IGNORECASE)


def conversation(prompt: str | list[Message]) -> str:
    """One user message as it is; several messages, or one of another role, each under its [System], [User] or
    [Assistant]."""
    if isinstance(prompt, str):
        return escape(prompt)
    if [m["role"] for m in prompt] == ["user"]:
        return escape(prompt[0]["content"])
    return "\n\n".join(f"[{m['role'].capitalize()}]\n{escape(m['content'])}" for m in prompt)


def escape(text: str) -> str:
    """The text with round brackets around whatever looks like a heading."""
    return HEADING.sub(r"(\1)", text)
