"""What a row's fields hold: texts, messages, numbers, times. What is wrong with one is said with its name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from storage.conversations import Message
from storage.imports import Rated, Rating, Said

ROLES = {"user": "user", "human": "user", "prompter": "user", "assistant": "assistant", "gpt": "assistant"}
ROLES |= {"chatgpt": "assistant", "bot": "assistant", "model": "assistant", "system": "system", "developer": "system"}
TOOLS = ("tool", "function", "function_call", "function_response", "observation")
USES_TOOLS, HAS_MEDIA = "uses tools", "has images or other media"
EMPTY, SAME, NOBODY = "a completion without a text", "both completions are the same", "nobody rated it"
NO_PROMPT, APART = "no message of a person before the completion", "two conversations that go apart before their end"


class Wrong(ValueError):
    "A field of a row has a value that it cannot have: `str(error)` names the field"


class Dropped(Exception):
    "A row that is in order and that nothing can be learned from: `str(error)` is the reason"


@dataclass(frozen=True)
class Format:
    """`fits(row)`: does it look like one? `read(row)` yields what it says; raises Wrong and Dropped, and KeyError for
    a field that is missing."""

    title: str
    fits: Callable[[dict], bool]
    read: Callable[[dict], Iterator[Rated]]


def text(value: Any, field: str) -> str:
    """A string as it is: what looks like a control token is text."""
    if not isinstance(value, str):
        raise Wrong(f"{field} is {kind(value)}, not a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Wrong(f"{field} has half a character (a lone surrogate)") from None
    return value


def kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def listed(value: Any, field: str) -> list:
    if not isinstance(value, list):
        raise Wrong(f"{field} is {kind(value)}, not a list")
    return value


def mapping(value: Any, field: str) -> dict:
    if not isinstance(value, dict):
        raise Wrong(f"{field} is {kind(value)}, not an object")
    return value


def number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong(f"{field} is {kind(value)}, not a number")
    if (isinstance(value, int) and abs(value) > 2**63) or not isfinite(value):
        raise Wrong(f"{field} is no finite number")
    return float(value)


def choice(value: Any, field: str, known: dict) -> Any:
    if isinstance(value, dict | list) or value not in known:
        raise Wrong(f"{field} is {value!r:.80}; known are {', '.join(map(repr, known))}")
    return known[value]


def scaled(value: Any, field: str, low: float, high: float) -> float:
    """From 0 to 1."""
    n = number(value, field)
    if not low <= n <= high:
        raise Wrong(f"{field} is {n:g}, not between {low:g} and {high:g}")
    return (n - low) / (high - low)


def time(value: Any, field: str) -> str:
    """ISO 8601, or seconds, milliseconds or nanoseconds since 1970; "" for none."""
    if value in (None, ""):
        return ""
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
        elif isinstance(value, datetime):
            at = value
        else:
            seconds = number(value, field)
            at = datetime.fromtimestamp(seconds / (1e9 if seconds > 1e17 else 1e3 if seconds > 1e11 else 1), UTC)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="milliseconds")
    except Wrong:
        raise
    except (ValueError, OverflowError, OSError):
        raise Wrong(f"{field} is {value!r:.80}, not a time") from None


def content(value: Any, field: str) -> str:
    """A message's text: plain, or OpenAI's parts of it."""
    if not isinstance(value, list):
        return "" if value is None else text(value, field)
    parts = [mapping(part, f"{field}[{i}]") for i, part in enumerate(value)]
    if any(part.get("type", "text") != "text" or part.get("image") for part in parts):
        raise Dropped(HAS_MEDIA)
    return "".join(text(part.get("text"), f"{field}[{i}].text") for i, part in enumerate(parts))


def message(value: Any, field: str, role: str = "role", said: str = "content", roles: dict = ROLES) -> Message:
    m = mapping(value, field)
    who = text(m[role] if role in m else missing(field, role), f"{field}.{role}")
    if who in TOOLS or m.get("tool_calls") or m.get("function_call"):
        raise Dropped(USES_TOOLS)
    if m.get("images"):
        raise Dropped(HAS_MEDIA)
    if who not in roles:
        raise Wrong(f"{field}.{role} is {who!r:.40}; known are {', '.join(roles)}")
    words = content(m[said] if said in m else missing(field, said), f"{field}.{said}")
    thought = m.get("reasoning_content") or m.get("thinking") or ""
    more = {"reasoning_content": text(thought, f"{field}.reasoning_content")} if thought else {}
    return {"role": roles[who], "content": words} | (more if roles[who] == "assistant" else {})


def missing(field: str, name: str):
    raise Wrong(f"{field} has no {name}")


def messages(value: Any, field: str, *names, **roles) -> list[Message]:
    return [message(m, f"{field}[{i}]", *names, **roles) for i, m in enumerate(listed(value, field))]


def plain(row: dict) -> None:
    """Raises Dropped for a row with tools or media."""
    if row.get("tools") or row.get("functions"):
        raise Dropped(USES_TOOLS)
    if any(row.get(name) for name in ("images", "image", "videos", "audios")):
        raise Dropped(HAS_MEDIA)


def said(m: Message, name: str = "") -> Said:
    """An assistant's message as a completion."""
    return Said(m["content"], name, m.get("reasoning_content", ""))


def rated(prompt: list[Message], completions: list[Said], ratings: list[Rating], held_out: bool = False) -> Rated:
    """Raises Dropped where nothing can be learned from it."""
    if not prompt or prompt[-1]["role"] != "user" or not prompt[-1]["content"].strip():
        raise Dropped(NO_PROMPT)
    if not ratings:
        raise Dropped(NOBODY)
    if not all(k.text.strip() for k in completions):
        raise Dropped(EMPTY)
    if len(completions) > 1 and len({k.text for k in completions}) == 1:
        raise Dropped(SAME)
    return Rated(prompt, tuple(completions), tuple(ratings), held_out)


def pair(prompt: list[Message], better: Said, worse: Said, held_out: bool = False, **about) -> Rated:
    return rated(prompt, [better, worse], [Rating(0, 1, **about)], held_out)


def liked(prompt: list[Message], one: Said, like: bool = True, held_out: bool = False, **about) -> Rated:
    side = {"chosen": 0} if like else {"rejected": 0}
    return rated(prompt, [one], [Rating(**side, channel="thumb", **about)], held_out)


def last_said(talk: list[Message]) -> tuple[list[Message], Message]:
    """(what came before, the last message, which is the assistant's). Raises Dropped."""
    while talk and talk[-1]["role"] != "assistant":
        talk = talk[:-1]
    if not talk:
        raise Dropped("no completion")
    return talk[:-1], talk[-1]
