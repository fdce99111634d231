"""TRL's formats: preferences with explicit and implicit prompts, KTO's labels, prompts with completions; conversational
or plain text. And OpenAI's file of preferences, which says the same under other names.

Two plain texts without a prompt share it as their beginning, up to the end of a word; a dialogue of "Human:" and
"Assistant:" (as of hh-rlhf) is read as its messages.
"""

import re
from collections.abc import Iterator
from typing import Any

from kdloop.feedback.imports import fields
from kdloop.feedback.imports.fields import APART, NO_PROMPT, Dropped, Format, Wrong, liked, messages, pair, said, text
from storage.conversations import Message, as_prompt
from storage.imports import Rated

TURNS = re.compile(r"\n\n(Human|Assistant):[ ]?")
BINARY = {True: True, False: False}  # 1 and 0 are the same keys


def preference(row: dict) -> Iterator[Rated]:
    fields.plain(row)
    better, worse = row["chosen"], row["rejected"]
    if isinstance(better, list) or isinstance(worse, list):
        before, sides = conversational(row.get("prompt"), better, worse)
    else:
        before, sides = textual(row.get("prompt"), text(better, "chosen"), text(worse, "rejected"))
    names = (text(row.get(f"{side}_model") or row.get(f"{side}-model") or "", side) for side in ("chosen", "rejected"))
    yield pair(before, *(said(m, name) for m, name in zip(sides, names, strict=True)), held_out=is_held_out(row))


def conversational(prompt: Any, better: Any, worse: Any) -> tuple[list[Message], list[Message]]:
    """(the prompt; the last message of both). A prompt that is a text beside whole conversations is their beginning."""
    sides = [messages(side, name) for side, name in ((better, "chosen"), (worse, "rejected"))]
    if not all(sides):
        raise Dropped("no completion")
    if not all(side[-1]["role"] == "assistant" for side in sides):
        raise Dropped("no completion")
    before = []
    if isinstance(prompt, list):
        before = messages(prompt, "prompt")
    elif prompt is not None and sides[0][0]["role"] == "assistant":
        before = as_prompt(text(prompt, "prompt"))
    if sides[0][:-1] != sides[1][:-1]:
        raise Dropped(APART)
    return [*before, *sides[0][:-1]], [side[-1] for side in sides]


def textual(prompt: Any, better: str, worse: str) -> tuple[list[Message], list[Message]]:
    if isinstance(prompt, list):
        return messages(prompt, "prompt"), [answer(side) for side in (better, worse)]
    if prompt is not None:
        return spoken(text(prompt, "prompt")), [answer(side) for side in (better, worse)]
    if all(TURNS.match(side) for side in (better, worse)):
        return conversational(None, *(dialogue(side) for side in (better, worse)))
    shared = common_words(better, worse)
    if not shared.strip():
        raise Dropped(NO_PROMPT)
    return as_prompt(shared), [answer(side[len(shared) :]) for side in (better, worse)]


def common_words(a: str, b: str) -> str:
    """The beginning that both share, up to the end of a word; without the white space after it, which is the
    completions'."""
    different = (n for n, both in enumerate(zip(a, b, strict=False)) if both[0] != both[1])
    shared = a[: next(different, min(len(a), len(b)))]
    if any(rest and not rest[0].isspace() for rest in (a[len(shared) :], b[len(shared) :])):
        shared = shared[: max((m.start() for m in re.finditer(r"\s+", shared)), default=0)]
    return shared.rstrip()


def spoken(prompt: str) -> list[Message]:
    """A prompt as messages: a dialogue, or one message."""
    if not TURNS.match(prompt):
        return as_prompt(prompt)
    told = dialogue(prompt)
    return told[:-1] if told[-1] == answer("") else told


def dialogue(talk: str) -> list[Message]:
    parts = TURNS.split(talk)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": what} for who, what in zip(parts[::2], parts[1::2], strict=True)]


def answer(words: str) -> Message:
    return {"role": "assistant", "content": words}


def label(row: dict) -> Iterator[Rated]:
    """KTO: one completion and whether it is a good one."""
    fields.plain(row)
    before, last = prompt_and_completion(row)
    yield liked(before, said(last), fields.choice(row["label"], "label", BINARY), is_held_out(row))


def completion(row: dict) -> Iterator[Rated]:
    fields.plain(row)
    before, last = prompt_and_completion(row)
    yield liked(before, said(last), held_out=is_held_out(row))


def prompt_and_completion(row: dict) -> tuple[list[Message], Message]:
    prompt, words = row["prompt"], row["completion"]
    before = messages(prompt, "prompt") if isinstance(prompt, list) else spoken(text(prompt, "prompt"))
    if not isinstance(words, list):
        return before, answer(text(words, "completion"))
    talk = messages(words, "completion")
    if not talk or talk[-1]["role"] != "assistant":
        raise Dropped("no completion")
    return [*before, *talk[:-1]], talk[-1]


def is_held_out(row: dict) -> bool:
    """kdloop's own exports say what was held out from training."""
    return row.get("split") == "held_out"


def openai_preference(row: dict) -> Iterator[Rated]:
    asked = fields.mapping(row["input"], "input")
    if asked.get("tools"):
        raise Dropped(fields.USES_TOOLS)
    if "messages" not in asked:
        raise Wrong("input has no messages")
    sides = [messages(row[name], name) for name in ("preferred_output", "non_preferred_output")]
    before = messages(asked["messages"], "input.messages")
    if not all(len(side) == 1 for side in sides):
        raise Dropped(APART)
    yield pair(before, *(said(side[0]) for side in sides))


FORMATS = {
    "openai_preference": Format(
        "OpenAI's preferences",
        lambda r: {"input", "preferred_output", "non_preferred_output"} <= r.keys(),
        openai_preference,
    ),
    "trl_preference": Format("TRL, preferences", lambda r: {"chosen", "rejected"} <= r.keys(), preference),
    "trl_kto": Format("TRL, KTO", lambda r: {"prompt", "completion", "label"} <= r.keys(), label),
    "trl_completion": Format(
        "TRL, prompts and completions", lambda r: {"prompt", "completion"} <= r.keys(), completion
    ),
}
