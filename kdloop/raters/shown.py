"""What a judge is shown of a conversation, as one text: all messages that people saw, between borders that no message
can forge."""

import re

from storage.conversations import Message

NAMES = r"prompt|completion|conversation|message|system|developer|user|person|human|assistant|tool"
BORDER = re.compile(rf"[\[［【〔⟦]([^\S\n]*(?:{NAMES})\b[^\[\]［］\n]{{0,20}})[\]］】〕⟧]", re.IGNORECASE)


def conversation(prompt: str | list[Message]) -> str:
    """A lone message as it is; several, or one of another role, each below its role: [System], [User], [Assistant]."""
    if isinstance(prompt, str):
        return quoted(prompt)
    if [m["role"] for m in prompt] == ["user"]:
        return quoted(prompt[0]["content"])
    return "\n\n".join(f"[{m['role'].capitalize()}]\n{quoted(m['content'])}" for m in prompt)


def quoted(text: str) -> str:
    """The text, in which what looks like a border stands in round brackets."""
    return BORDER.sub(r"(\1)", text)
