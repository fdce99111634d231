"""The body of an OpenAI-compatible server -> the completion in it, if there is one.

Proxies, routers and gateways answer with status 200 what is no completion: pages, errors, empty bodies, choices that
are null. Nothing of a body is taken for granted, and none of it raises: what is no completion says why, and whether
that may pass. Content is a text or a list of parts; counts of tokens are None where they are missing or make no sense.
"""

import json
from dataclasses import dataclass, replace

from kdloop.raters import thoughts
from kdloop.student import Sample
from kdloop.student.prompts import prompt_ids
from storage.conversations import Message

# OpenAI's, and what others say instead
FINISHED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed", "end", "done")
CUT = ("length", "max_tokens", "max_output_tokens", "model_length", "")  # "": not told; no end of turn is made up
REFUSED = ("content_filter", "safety", "recitation", "refusal", "tool_calls", "tool_use", "function_call")
MOST_TOKENS = 10_000_000  # a greater count is none
THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details", "thinking")  # fields of a message
ERROR_CHARACTERS = 500


@dataclass(frozen=True)
class Completion:
    """`status`: finished, cut, or failed, with an `error`. A failure is `passing` where asking again may help, and then
    it is no answer to keep; `retry` is False where the same request must fail again, though nothing was computed."""

    text: str = ""
    thought: str = ""
    status: str = "failed"
    error: str = ""
    passing: bool = False
    retry: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    logprobs: list | None = None


def read(content: bytes, thinks: bool = False) -> Completion:
    """`thinks`: the model's template opens a thought, so that what was cut without a closing tag is one."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, nested deeper than anybody means
        return failed(f"a body that is not JSON: {content[:80].decode(errors='replace')!r}")
    if not isinstance(body, dict):
        return failed(f"a body that is no object: {content[:80].decode(errors='replace')!r}")
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    error = body.get("error") or choice.get("error") or (None if choice else body.get("message") or body.get("detail"))
    prompt_tokens, completion_tokens = counted(body.get("usage"))
    found = erred(error) if error else of_choice(choice, thinks, computed=bool(completion_tokens))
    return replace(found, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)


def erred(error: object) -> Completion:
    """An error with status 200; those of 4xx stay, but for the four that say "later"."""
    code = count(error.get("code")) if isinstance(error, dict) else None
    said = error.get("message") or error if isinstance(error, dict) else error
    stays = code is not None and 400 <= code < 500 and code not in (408, 409, 425, 429)
    return failed(f"an error: {said}", retry=not stays)


def of_choice(choice: dict, thinks: bool, computed: bool) -> Completion:
    """`computed`: the body counts tokens of a completion, so that an empty one is the model's own."""
    message = message_of(choice)
    if not isinstance(message, dict) or not isinstance(message.get("content"), str | list | dict | None):
        return failed("a body without a message, or a message that is no text")
    reason, content = str(choice.get("finish_reason") or "").strip().lower(), message.get("content")
    refusal = message.get("refusal") or refused(content)
    if refusal or reason in REFUSED:
        return final(f"{reason} {texts(refusal)}".strip())
    if reason not in (*FINISHED, *CUT):
        return failed(f"ended by {reason!r}")
    status = "finished" if reason in FINISHED else "cut"
    thought, (within, said) = thought_of(message), thoughts.split(texts(content))
    if thinks and status == "cut" and not (thought or within):
        within, said = said, ""
    thought = "\n\n".join(filter(None, (thought, clean(within))))
    said, status = whole(said, status)
    if is_broken(said):
        return final("a text with half a character in it")
    if said:
        return Completion(said, thought, status, logprobs=logprobs(choice.get("logprobs")))
    if thought:
        return final("a thought alone", thought)
    return final("an empty completion") if computed and reason else failed("an empty completion")


def message_of(choice: dict) -> object:
    """Where proxies put what is whole as if it were a piece of a stream, or as servers did before there were chats, it
    is the message all the same."""
    text = choice.get("text")
    return choice.get("message") or choice.get("delta") or ({"content": text} if isinstance(text, str) else None)


def failed(why: str, retry: bool = True) -> Completion:
    return Completion(error=clean(why)[:ERROR_CHARACTERS], passing=True, retry=retry)


def final(why: str, thought: str = "") -> Completion:
    """The model has answered, and would answer the same again."""
    return Completion(error=f"no completion ({clean(why)})"[:ERROR_CHARACTERS], thought=thought)


def thought_of(message: dict) -> str:
    """What a server has put apart: a field of the message, or parts of its content."""
    parts = message.get("content") if isinstance(message.get("content"), list) else []
    apart = [texts(p.get("thinking") or p.get("text")) for p in parts if of_type(p, "thinking")]
    fields = [texts(message.get(name)) for name in THOUGHTS]
    return clean(next(filter(None, ("".join(apart), *fields)), "")).strip()


def texts(content: object) -> str:
    """The text of a content: itself, or that of its parts that are said; images, calls and thoughts are not. Of a
    thought's own parts, the thought."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(texts, content))
    if isinstance(content, dict) and content.get("type", "text") in ("text", "output_text", "reasoning.text"):
        text = content.get("text")
        return texts(text.get("value") if isinstance(text, dict) else text)
    return ""


def refused(content: object) -> str:
    """The refusal among a content's parts."""
    parts: list = content if isinstance(content, list) else [content]
    return next((texts(p.get("refusal")) or "refused" for p in parts if of_type(p, "refusal")), "")


def of_type(part: object, kind: str) -> bool:
    return isinstance(part, dict) and part.get("type") == kind


def whole(text: str, status: str) -> tuple[str, str]:
    """A text that was cut within a character loses that half (a lone surrogate, or the sign for what cannot be
    read), and is cut."""
    kept = thoughts.bare(text.rstrip("\ufffd" if status == "cut" else ""))
    while is_broken(kept[-1:]):
        kept, status = thoughts.bare(kept[:-1]), "cut"
    return kept, status


def is_broken(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


def clean(text: str) -> str:
    """What cannot be written as UTF-8 becomes question marks."""
    return text.encode(errors="replace").decode()


def counted(usage: object) -> tuple[int | None, int | None]:
    """(prompt's, completion's) tokens, each None where it is not told."""
    usage = usage if isinstance(usage, dict) else {}
    prompt, completion, total = (count(usage.get(f"{of}_tokens")) for of in ("prompt", "completion", "total"))
    if completion is None and None not in (prompt, total) and total >= prompt:
        completion = total - prompt
    return prompt, completion


def count(value: object) -> int | None:
    """A whole number of 0 and above, be it written as a text."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        return None
    return int(number) if 0 <= number <= MOST_TOKENS and number.is_integer() else None


def logprobs(told: object) -> list | None:
    """Of the chat's kind, one object a token; None for the older kind, and for what the database cannot hold."""
    content = told.get("content") if isinstance(told, dict) else None
    fine = isinstance(content, list) and all(isinstance(token, dict) for token in content)
    return content if fine and not is_broken(json.dumps(content, ensure_ascii=False)) else None


def local(sample: Sample, tokenizer, prompt: list[Message]) -> Completion:
    """A model's own completion, as of a body; where its template opens a thought, the completion begins within it."""
    rendered = tokenizer.decode(prompt_ids(tokenizer, prompt)[-16:])
    thought, said = thoughts.split(f"<think>{sample.text}" if thoughts.opened(rendered) else sample.text)
    said, status = whole(said, sample.status)
    return Completion(said, thought, status)
