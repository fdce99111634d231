"""Demonstrations: ShareGPT, OpenAI's chat JSONL (TRL's `messages`), Alpaca; and LLaMA-Factory's ranked forms of them.

The last thing that the assistant says is the completion, and counts as liked: somebody put it there to be learned.
"""

from collections.abc import Iterator

from kdloop.feedback.imports import fields
from kdloop.feedback.imports.fields import Dropped, Format, last_said, liked, message, messages, pair, said, text
from kdloop.feedback.imports.trl import BINARY, is_held_out
from storage.conversations import Message
from storage.imports import Rated, Said

FROM = ("from", "value")


def openai(row: dict) -> Iterator[Rated]:
    """A message of weight 0 is there to be read, not to be learned (OpenAI's fine-tuning format): the completion is the
    last one of the others."""
    fields.plain(row)
    before, last = last_said(messages(row["messages"], "messages"))
    while row["messages"][len(before)].get("weight", 1) == 0:
        before, last = last_said(before)
    yield liked(before, said(last, text(row.get("model") or "", "model")), held_out=is_held_out(row))


def sharegpt(row: dict) -> Iterator[Rated]:
    """With `chosen` and `rejected` a preference, with `kto_tag` a label."""
    fields.plain(row)
    talk = messages(row["conversations"], "conversations", *names_in(row["conversations"]))
    talk = [*system_of(row), *talk]
    if "chosen" in row and "rejected" in row:
        sides = (message(row[side], side, *names_in([row[side]])) for side in ("chosen", "rejected"))
        yield pair(talk, *map(said, sides))
        return
    before, last = last_said(talk)
    yield liked(before, said(last, text(row.get("model") or "", "model")), kto(row))


def names_in(talk) -> tuple[str, str]:
    first = talk[0] if isinstance(talk, list) and talk and isinstance(talk[0], dict) else {}
    return ("role", "content") if "role" in first and "from" not in first else FROM


def system_of(row: dict) -> list[Message]:
    told = text(row.get("system") or "", "system")
    return [{"role": "system", "content": told}] if told else []


def kto(row: dict) -> bool:
    return fields.choice(row["kto_tag"], "kto_tag", BINARY) if row.get("kto_tag") is not None else True


def alpaca(row: dict) -> Iterator[Rated]:
    """An instruction, an input below it, the output; `history` holds earlier pairs of both."""
    fields.plain(row)
    asked = "\n".join(filter(None, (text(row["instruction"], "instruction"), text(row.get("input") or "", "input"))))
    before = [*system_of(row), *history(row.get("history") or []), {"role": "user", "content": asked}]
    if "chosen" in row and "rejected" in row:
        yield pair(before, *(Said(text(row[side], side)) for side in ("chosen", "rejected")))
        return
    if "output" not in row:
        raise Dropped("no completion")
    yield liked(before, Said(text(row["output"], "output")), kto(row))


def history(pairs) -> list[Message]:
    talk = []
    for i, both in enumerate(fields.listed(pairs, "history")):
        if len(fields.listed(both, f"history[{i}]")) != 2:
            raise fields.Wrong(f"history[{i}] has {len(both)} parts, not an instruction and its output")
        for role, words in zip(("user", "assistant"), both, strict=True):
            talk.append({"role": role, "content": text(words, f"history[{i}]")})
    return talk


FORMATS = {
    "sharegpt": Format("ShareGPT", lambda r: "conversations" in r, sharegpt),
    "alpaca": Format("Alpaca", lambda r: "instruction" in r and bool({"output", "chosen"} & r.keys()), alpaca),
    "openai": Format("OpenAI chats", lambda r: "messages" in r and "chosen" not in r, openai),
}
