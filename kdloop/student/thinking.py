"""A student's own thoughts: what lies between a thought and its answer, and what it has written divided there.

A template renders an assistant's `reasoning_content` before its content; the texts around it are the family's marks.
Where the marks are control tokens they are found by their ids, so that letters that spell one are text.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from kdloop.student import Thought

SWITCHES = ("enable_thinking", "thinking")  # names of a template's option
KNOWN = (("<think>", "</think>"), ("<|channel>thought", "<channel|>"))  # marks where a template renders no thought
THINKS = re.compile(r"<think>|</think>|<\|?channel\|?>\s*(?:thought|analysis)|<\|START_THINKING\|>|\[THINK\]")

Written = TypeVar("Written", str, list)  # a text, or token ids


@dataclass(frozen=True)
class Thoughts:
    """`opening` is what the student writes before a thought ("" where its prompt ends with that), `closing` what it
    writes between thought and answer, `lead` before an answer without a thought. `rendered`: the last answer's thought
    is in what the template renders, or begins in the prompt; else it is not trained."""

    opening: str
    closing: str
    lead: str = ""
    rendered: bool = True


class Divider:
    """Divides what a student has written into (thought, text). `decode` leaves special tokens out; `controls` are the
    ids of control tokens."""

    def __init__(self, marks: Thoughts, encode: Callable, decode: Callable[[list[int]], str], controls: set[int]):
        self.decode, self.controls = decode, controls
        three = marks.opening, marks.lead, marks.closing
        self.ids = [list(map(encode, forms(mark))) for mark in three]
        self.by_ids = all(controls & set(ids) for variants in self.ids for ids in variants)
        shown = [[mark.strip()] if mark.strip() else [] for mark in three]  # where a server sends special tokens
        hidden = [[decode(encode(mark)).strip() for mark in variants] for variants in shown]
        visible = all(map(all, hidden))  # else what is left of the marks says too little
        self.words = [a + b for a, b in zip(shown, hidden, strict=True)] if visible else shown
        self.in_text = visible or bool(marks.opening)

    def of_ids(self, ids: list[int], ended: bool) -> tuple[str, str]:
        """Of token ids; where the turn has not `ended`, what may become a mark is left out."""
        if not self.by_ids:
            return self.of_text(self.decode(ids), ended)
        blank = (id not in self.controls and not self.decode([id]).strip() for id in ids)
        first = next((i for i, is_blank in enumerate(blank) if not is_blank), len(ids))
        thought, text = divided(ids[first:], *self.ids, ended=ended)
        return self.decode(thought).lstrip(), self.decode(text).lstrip()

    def of_text(self, text: str, ended: bool) -> tuple[str, str]:
        """The same of a decoded text, as servers send it."""
        if not self.in_text:
            return "", text
        thought, text = divided(text.lstrip(), *self.words, ended=ended)
        return thought.lstrip(), text.lstrip()


def forms(mark: str) -> list[str]:
    """A mark as a student may write it: blanks around it vary."""
    return list(dict.fromkeys(filter(None, (mark.rstrip(), mark.strip()))))


def divided(
    written: Written, openings: list[Written], leads: list[Written], closings: list[Written], ended: bool
) -> tuple[Written, Written]:
    """(thought, text), without the marks between them."""
    none, begins = written[:0], [mark for mark in openings if written[: len(mark)] == mark]
    if openings and not begins:
        if found := [mark for mark in leads if written[: len(mark)] == mark]:
            return none, written[len(found[0]) :]
        may_begin = not ended and any(mark[: len(written)] == written for mark in (*openings, *leads))
        return none, none if may_begin else written
    inside = written[len(begins[0]) :] if begins else written
    for mark in closings:
        if (at := position(inside, mark)) is not None:
            return inside[:at], inside[at + len(mark) :]
    return (inside if ended else inside[: len(inside) - begun(inside, closings)]), none


def position(written: Written, mark: Written) -> int | None:
    """Where the mark begins."""
    if isinstance(written, str):
        return at if (at := written.find(mark)) >= 0 else None
    return next((i for i, id in enumerate(written) if id == mark[0] and written[i : i + len(mark)] == mark), None)


def begun(written: Written, marks: list[Written]) -> int:
    """How much of its end may be the beginning of a mark."""
    sizes = (n for mark in marks for n in range(len(mark) - 1, 0, -1) if written[-n:] == mark[:n])
    return max(sizes, default=0)


def so_far(thought: str, text: str, told: str) -> Iterator[str]:
    """What an engine's stream yields of a step; `told` is the thought that it yielded before."""
    if thought != told:
        yield Thought(thought)
    if text or thought == told:
        yield text
