"""Separates the thoughts of reasoning models from their completions: thoughts are neither shown nor trained on.

Servers with a reasoning parser send the thought in a field of its own (completions.py). Others leave it in the text:
between tags, before a closing tag alone (if the chat template opens the thought), or cut before its end.
"""

import re

NAMES = r"(?:\w+:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|inner_monologue)"
OPEN = re.compile(
    rf"<{NAMES}\s*>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>|<\|channel>thought\b"
    r"|(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary)<\|message\|>|(?-i:\Aanalysis(?=[A-Z]))",
    re.IGNORECASE,
)
CLOSE = re.compile(
    rf"</{NAMES}\s*>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>|<channel\|>"
    r"|(?:<\|end\|>\s*)?(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>|(?-i:assistantfinal)",
    re.IGNORECASE,
)
LINE = re.compile(rf"^[ \t]*(?:{OPEN.pattern})", re.IGNORECASE | re.MULTILINE)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
WRAPPED = re.compile(
    r"<(answer|final_answer|output|response)>(.*)</\1>|<\|begin_of_solution\|>(.*)<\|end_of_solution\|>", re.DOTALL
)
ENDS = re.compile(r"\s*<\|(?:return|end|END_RESPONSE)\|>\Z|\A<\|START_RESPONSE\|>")
BLANKS = re.compile(r"\A[\s\ufeff\u200b\u2060]+|[\s\ufeff\u200b\u2060]+\Z")  # str.strip keeps U+FEFF
MAX_THOUGHTS = 64  # per completion: bounds the time for a text that is a long run of tags


def split(text: str) -> tuple[str, str]:
    """(thought, completion): the thought without tags, several of them joined; "" if there is none.

    A tag that is only mentioned opens no thought: one in code, or in mid-line with no thought before it. A thought
    without an end takes all that follows, so a completion that was cut while thinking is "".
    """
    rest, thoughts = strip_blanks(text), []
    while span := next_thought(rest):
        thought, before, after = rest[slice(*span)], rest[: span[0]].rstrip(), strip_blanks(rest[span[1] :])
        thoughts.append(without_tags(thought))
        rest = strip_blanks(f"{before}\n\n{after}") if len(thoughts) < MAX_THOUGHTS else ""
    if thoughts:
        rest = strip_blanks(ENDS.sub("", rest))
        wrapped = WRAPPED.fullmatch(rest)
        rest = strip_blanks(wrapped[2] or wrapped[3] or "") if wrapped else rest
    return "\n\n".join(filter(None, thoughts)), rest


def strip_blanks(text: str) -> str:
    return BLANKS.sub("", text)


def next_thought(text: str) -> tuple[int, int] | None:
    """(start, end) of the first thought with its tags; None if there is none."""
    plain = CODE.sub(hide, text)
    close, first = CLOSE.search(plain), OPEN.search(plain)
    if close and (first is None or close.start() < first.start()):
        return 0, close.end()
    if opening := OPEN.match(plain) or LINE.search(plain):
        close = CLOSE.search(plain, opening.end()) or CLOSE.search(text, opening.end())
        return opening.start(), close.end() if close else len(text)
    return None


def hide(code: re.Match) -> str:
    """Blanks in place of code that mentions a tag. Code that opens inside a thought and ends after it is kept."""
    fence = code[0].startswith("```")
    return " " * len(code[0]) if OPEN.search(code[0]) or not fence else code[0]


def join(thought: str, completion: str) -> str:
    """The inverse of `split`: thought and completion as one text."""
    return f"<think>\n{without_tags(thought)}\n</think>\n\n{completion}" if thought else completion


def without_tags(thought: str) -> str:
    return CLOSE.sub("", OPEN.sub("", thought)).strip()
