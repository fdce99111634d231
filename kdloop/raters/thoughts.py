"""Thoughts of reasoning models, told apart from what they say: nobody is shown them, and no student learns them.

Servers with a reasoning parser give the thought in a field of its own (completions.py). The others leave it in the
text: between tags, behind a tag that the model's template has opened (then only the closing one is there), or cut
before its end.
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
OPENED = re.compile(rf"(?:{OPEN.pattern})\s*\Z", re.IGNORECASE)
LINE = re.compile(rf"^[ \t]*(?:{OPEN.pattern})", re.IGNORECASE | re.MULTILINE)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
WRAPPED = re.compile(
    r"<(answer|final_answer|output|response)>(.*)</\1>|<\|begin_of_solution\|>(.*)<\|end_of_solution\|>", re.DOTALL
)
ENDS = re.compile(r"\s*<\|(?:return|end|END_RESPONSE)\|>\Z|\A<\|START_RESPONSE\|>")
BLANKS = re.compile(r"\A[\s\ufeff\u200b\u2060]+|[\s\ufeff\u200b\u2060]+\Z")  # byte order marks are no white space
MOST = 64  # thoughts of one completion: a text of nothing else must not keep us busy


def split(text: str) -> tuple[str, str]:
    """(thought, what is said): the thought without its tags, several in a row joined; "" where there is none.

    What is only named is no thought: a tag in code, or in mid-line with nothing thought before it. A thought that does
    not end takes all that follows, so a completion that was cut while thinking says "".
    """
    said, thoughts = bare(text), []
    while span := next_thought(said):
        thought, before, after = said[slice(*span)], said[: span[0]].rstrip(), bare(said[span[1] :])
        thoughts.append(without_tags(thought))
        said = bare(f"{before}\n\n{after}") if len(thoughts) < MOST else ""
    if thoughts:
        said = bare(ENDS.sub("", said))
        whole = WRAPPED.fullmatch(said)
        said = bare(whole[2] or whole[3] or "") if whole else said
    return "\n\n".join(filter(None, thoughts)), said


def bare(text: str) -> str:
    return BLANKS.sub("", text)


def next_thought(text: str) -> tuple[int, int] | None:
    """(begin, end) of the first thought with its tags."""
    plain = CODE.sub(hide, text)
    close, first = CLOSE.search(plain), OPEN.search(plain)
    if close and (first is None or close.start() < first.start()):
        return 0, close.end()
    if opening := OPEN.match(plain) or LINE.search(plain):
        close = CLOSE.search(plain, opening.end()) or CLOSE.search(text, opening.end())
        return opening.start(), close.end() if close else len(text)
    return None


def hide(code: re.Match) -> str:
    """Blanks instead of code that names a tag. A fence that was not closed within a thought, and so ends after it, is
    none."""
    fence = code[0].startswith("```")
    return " " * len(code[0]) if OPEN.search(code[0]) or not fence else code[0]


def joined(thought: str, said: str) -> str:
    """One text that `split` takes apart again."""
    return f"<think>\n{without_tags(thought)}\n</think>\n\n{said}" if thought else said


def without_tags(thought: str) -> str:
    return CLOSE.sub("", OPEN.sub("", thought)).strip()


def opened(prompt: str) -> bool:
    """Does a rendered prompt end with a tag that opens a thought? Then the completion begins within it."""
    return OPENED.search(prompt[-80:]) is not None
