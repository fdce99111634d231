"""The body that an OpenAI-compatible server sends -> the completion in it, if there is one.

Proxies, routers and gateways send bodies with status 200 that hold no completion: HTML pages, errors, nothing at all,
`choices: null`. So no field is assumed to exist or to have the right type, and nothing here raises: a body without a
completion becomes a failed one, with the reason and whether a retry may help. Content is a text or a list of parts;
token counts are None if missing or implausible.
"""

import json
from dataclasses import dataclass, replace

from kdloop.raters import thoughts
from kdloop.student import Sample

# Values of finish_reason: OpenAI's, and those of other servers
FINISHED_REASONS = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed", "end", "done")
CUT_REASONS = ("length", "max_tokens", "max_output_tokens", "model_length", "")  # "" is unknown: assume no end of turn
REFUSAL_REASONS = ("content_filter", "safety", "recitation", "refusal", "tool_calls", "tool_use", "function_call")
MAX_TOKENS = 10_000_000  # beyond any context window: a greater count is an error of the server
THOUGHT_FIELDS = ("reasoning_content", "reasoning", "reasoning_details", "thinking")  # of a message
ERROR_CHARACTERS = 500  # of an error kept with the call: enough to read, too few for a whole HTML page


@dataclass(frozen=True)
class Completion:
    """`status` is finished, cut, or failed with an `error`. A `transient` failure comes from the gateway, not from the
    model: it is not cached. `retry` is False if the same request is bound to fail again."""

    text: str = ""
    thought: str = ""
    status: str = "failed"
    error: str = ""
    transient: bool = False
    retry: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    logprobs: list | None = None


def read(content: bytes, thinks: bool = False) -> Completion:
    """`thinks`: the model's template opens a thought, so a completion cut before the closing tag is all thought."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested too deep to parse
        return transient_failure(f"a body that is not JSON: {content[:80].decode(errors='replace')!r}")
    if not isinstance(body, dict):
        return transient_failure(f"a body that is no object: {content[:80].decode(errors='replace')!r}")
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    error = body.get("error") or choice.get("error") or (None if choice else body.get("message") or body.get("detail"))
    prompt_tokens, completion_tokens = token_counts(body.get("usage"))
    found = from_error(error) if error else from_choice(choice, thinks, computed=bool(completion_tokens))
    return replace(found, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)


def from_error(error: object) -> Completion:
    """An error with status 200. Its 4xx codes are permanent, but for the four that mean "later"."""
    code = count(error.get("code")) if isinstance(error, dict) else None
    message = error.get("message") or error if isinstance(error, dict) else error
    permanent = code is not None and 400 <= code < 500 and code not in (408, 409, 425, 429)
    return transient_failure(f"an error: {message}", retry=not permanent)


def from_choice(choice: dict, thinks: bool, computed: bool) -> Completion:
    """`computed`: the body counts completion tokens, so an empty completion is the model's own."""
    message = message_of(choice)
    if not isinstance(message, dict) or not isinstance(message.get("content"), str | list | dict | None):
        return transient_failure("a body without a message, or a message that is no text")
    reason, content = str(choice.get("finish_reason") or "").strip().lower(), message.get("content")
    refusal = message.get("refusal") or refusal_of(content)
    if refusal or reason in REFUSAL_REASONS:
        return permanent_failure(f"{reason} {text_of(refusal)}".strip())
    if reason not in (*FINISHED_REASONS, *CUT_REASONS):
        return transient_failure(f"ended by {reason!r}")
    status = "finished" if reason in FINISHED_REASONS else "cut"
    thought, (inline, text) = thought_of(message), thoughts.split(text_of(content))
    if thinks and status == "cut" and not (thought or inline):
        inline, text = text, ""
    thought = "\n\n".join(filter(None, (thought, clean(inline))))
    text, status = without_broken_end(text, status)
    if is_broken(text):
        return permanent_failure("a text with half a character in it")
    if text:
        return Completion(text, thought, status, logprobs=logprobs(choice.get("logprobs")))
    if thought:
        return permanent_failure("a thought alone", thought)
    empty = permanent_failure if computed and reason else transient_failure
    return empty("an empty completion")


def message_of(choice: dict) -> object:
    """Also where proxies send a whole message as a stream's `delta`, or in the `text` of the older completions API."""
    text = choice.get("text")
    return choice.get("message") or choice.get("delta") or ({"content": text} if isinstance(text, str) else None)


def transient_failure(why: str, retry: bool = True) -> Completion:
    """The gateway sent something else in place of a completion."""
    return Completion(error=clean(why)[:ERROR_CHARACTERS], transient=True, retry=retry)


def permanent_failure(why: str, thought: str = "") -> Completion:
    """The model itself gave no completion, and would give none again."""
    return Completion(error=f"no completion ({clean(why)})"[:ERROR_CHARACTERS], thought=thought)


def thought_of(message: dict) -> str:
    """The thought that a server's reasoning parser has separated: a field of the message, or parts of its content."""
    parts = message.get("content") if isinstance(message.get("content"), list) else []
    thinking = [text_of(p.get("thinking") or p.get("text")) for p in parts if of_type(p, "thinking")]
    fields = [text_of(message.get(name)) for name in THOUGHT_FIELDS]
    return clean(next(filter(None, ("".join(thinking), *fields)), "")).strip()


def text_of(content: object) -> str:
    """The text of a content: itself, or that of its text parts, without images, tool calls and thoughts. For a
    thought's own parts, the thought."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(text_of, content))
    if isinstance(content, dict) and content.get("type", "text") in ("text", "output_text", "reasoning.text"):
        text = content.get("text")
        return text_of(text.get("value") if isinstance(text, dict) else text)
    return ""


def refusal_of(content: object) -> str:
    """The text of a refusal among a content's parts; "" if there is none."""
    parts: list = content if isinstance(content, list) else [content]
    return next((text_of(p.get("refusal")) or "refused" for p in parts if of_type(p, "refusal")), "")


def of_type(part: object, kind: str) -> bool:
    return isinstance(part, dict) and part.get("type") == kind


def without_broken_end(text: str, status: str) -> tuple[str, str]:
    """(text, status) without half a character at the end (a lone surrogate, or U+FFFD), which makes it a cut one."""
    kept = thoughts.strip_blanks(text.rstrip("\ufffd" if status == "cut" else ""))
    while is_broken(kept[-1:]):
        kept, status = thoughts.strip_blanks(kept[:-1]), "cut"
    return kept, status


def is_broken(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


def clean(text: str) -> str:
    """The text with question marks in place of what UTF-8 cannot encode."""
    return text.encode(errors="replace").decode()


def token_counts(usage: object) -> tuple[int | None, int | None]:
    """(prompt, completion) tokens, each None if unknown."""
    usage = usage if isinstance(usage, dict) else {}
    prompt, completion, total = (count(usage.get(f"{of}_tokens")) for of in ("prompt", "completion", "total"))
    if completion is None and None not in (prompt, total) and total >= prompt:
        completion = total - prompt
    return prompt, completion


def count(value: object) -> int | None:
    """A whole number from 0 to MAX_TOKENS, also if sent as a string; else None."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        return None
    return int(number) if 0 <= number <= MAX_TOKENS and number.is_integer() else None


def logprobs(value: object) -> list | None:
    """One object per token, in the chat API's format; None for other formats and for text that SQLite cannot store."""
    content = value.get("content") if isinstance(value, dict) else None
    valid = isinstance(content, list) and all(isinstance(token, dict) for token in content)
    return content if valid and not is_broken(json.dumps(content, ensure_ascii=False)) else None


def local(sample: Sample) -> Completion:
    """A local model's sample as a Completion. Its engine has divided it by the marks of its template; what thoughts it
    has in its text beside them are its own."""
    inline, text = ("", sample.text) if sample.thought else thoughts.split(sample.text)
    text, status = without_broken_end(text, sample.status)
    return Completion(text, sample.thought or inline, status)
