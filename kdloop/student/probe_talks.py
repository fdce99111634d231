"""The conversations that a chat template is asked to show (probes.py), with words that no template has."""

from kdloop.student.template import ASSISTANT, THOUGHT, USER
from storage.conversations import as_prompt

NAME, ABOUT, ARGUMENT, VALUE, RESULT = "fetch_heron", "Osprey", "bittern", "Dunlin", "Kestrel"
VALUE_2, RESULT_2, NEXT = "Avocet", "Plover", "Curlew"
PARTS = {
    USER: "the user's message",
    ASSISTANT: "the assistant's message",
    NEXT: "the next message",
    NAME: "the tool's name",
    ABOUT: "the tool's description",
    ARGUMENT: "the parameter",
    VALUE: "the argument",
    VALUE_2: "the second call",
    RESULT: "the result",
    RESULT_2: "the second result",
    THOUGHT: "the thought",
}


def said(text: str | None, **more) -> dict:
    return {"role": "assistant", "content": text, **more}


def call(as_text: bool = False, value: str = VALUE, id: str = "call00001") -> dict:
    arguments = f'{{"{ARGUMENT}": "{value}"}}' if as_text else {ARGUMENT: value}
    return {"type": "function", "id": id, "function": {"name": NAME, "arguments": arguments}}


def result(text: str = RESULT, id: str = "call00001") -> dict:
    return {"role": "tool", "name": NAME, "tool_call_id": id, "content": text}


def definition() -> dict:
    has = {"type": "object", "properties": {ARGUMENT: {"type": "string", "description": "a"}}, "required": [ARGUMENT]}
    return {"type": "function", "function": {"name": NAME, "description": ABOUT, "parameters": has}}


def answering(as_text: bool, content: str | None) -> list[dict]:
    return [*as_prompt(USER), said(content, tool_calls=[call(as_text)]), result()]


def history(as_text: bool, content: str | None) -> list[dict]:
    return [*answering(as_text, content), said(ASSISTANT), *as_prompt(NEXT)]


def two_calls(as_text: bool, content: str | None) -> list[dict]:
    calls = [call(as_text), call(as_text, VALUE_2, "call00002")]
    return [*as_prompt(USER), said(content, tool_calls=calls), result(), result(RESULT_2, "call00002")]


def missing(text: str, *words: str) -> str:
    """Which of the words are not there after those before them, as a text."""
    lost = []
    for word in words:
        _, found, after = text.partition(word)
        text, lost = (after, lost) if found else (text, [*lost, PARTS[word]])
    return " and ".join(lost)
