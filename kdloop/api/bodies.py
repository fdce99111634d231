"""Bodies of requests: read within limits, and checked field by field. What would change an answer and is not supported
is refused by name, so that nobody takes one answer for another."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request

from kdloop.api.refusals import Refusal
from kdloop.student import Sampling
from storage.conversations import Message

MAX_BYTES = 2**19  # of a body
MAX_MESSAGES = 256
MAX_CHOICES = 8  # `n`
MAX_STOPS, MAX_STOP_LENGTH = 4, 200
MAX_USER = 256  # characters
READ_SECONDS = 30  # within which a body has to come
GREEDY_BELOW = 1e-4  # temperatures and top_p: smaller ones would overflow in 32 bits
UNHEEDED = {  # fields that change no answer, and what a client offers that nobody requires
    *("metadata", "service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"),
    *("parallel_tool_calls", "tools", "functions", "verbosity"),
}
NEUTRAL = {  # fields that are not supported, with the values at which they change nothing
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "min_p": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "top_logprobs": (0,),
}
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
TASK, ANSWER_TASK = "### Task:", "Respond to the user query"  # of Open WebUI: the second, with documents, is a chat


@dataclass(frozen=True)
class Asked:
    """A request for completions. `stored` is False where the client says so, or asks for a title or the like."""

    model: str
    messages: list[Message]
    sampling: Sampling
    stream: bool
    include_usage: bool
    stop: tuple[str, ...]
    seed: int | None
    n: int
    user: str
    logprobs: bool
    stored: bool


async def read(request: Request, kinds: tuple[type, ...] = (dict,)) -> Any:
    """The JSON object of the body, or what else `kinds` allows. Raises Refusal for one that is too long, too slow, or
    none."""
    if "protobuf" in request.headers.get("content-type", ""):
        raise Refusal("This server reads JSON, not protobuf: OTEL_EXPORTER_OTLP_PROTOCOL=http/json", status=415)
    try:
        raw = await asyncio.wait_for(collect(request), READ_SECONDS)
    except TimeoutError:
        raise Refusal(f"The body did not come within {READ_SECONDS} s", status=408) from None
    except ClientDisconnect:
        raise Refusal("The request was closed", status=499) from None
    return parsed(raw, kinds)


async def collect(request: Request) -> bytes:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BYTES:
            raise Refusal(f"The body is longer than {MAX_BYTES} bytes", status=413)
    return bytes(raw)


def parsed(raw: bytes, kinds: tuple[type, ...] = (dict,)) -> Any:
    def refuse(name: str):
        raise ValueError(f"{name} is no JSON")

    try:
        body = json.loads(raw, parse_constant=refuse)
        json.dumps(body, ensure_ascii=False).encode()  # half a character, as "\ud800", can be stored nowhere
    except (ValueError, RecursionError) as error:
        raise Refusal(f"The body is not valid JSON in UTF-8: {str(error)[:200]}") from None
    if not isinstance(body, kinds):
        raise Refusal("The body is not a JSON object")
    return {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else body


def chat(body: dict, max_tokens: int) -> Asked:
    """`max_tokens` is the owner's limit: of more, a completion is cut there. Raises Refusal naming the first field."""
    known = {*Asked.__dataclass_fields__, *UNHEEDED, *NEUTRAL, "store", "stream_options", "temperature", "top_p"}
    known |= {"top_k", "max_tokens", "max_completion_tokens"}
    for name in body:
        if name not in known - {"sampling", "include_usage", "stored"}:
            raise Refusal(f"{name[:80]!r} is not supported", name[:80], code="unsupported_parameter")
        if name in NEUTRAL and body[name] not in NEUTRAL[name]:
            raise Refusal(f"{name} is not supported at this value", name, code="unsupported_value")
    messages, options = read_messages(body.get("messages")), body.get("stream_options", {})
    if not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}:
        raise Refusal("stream_options has include_usage alone", "stream_options")
    is_task = (said := messages[-1]["content"].strip()).startswith(TASK) and ANSWER_TASK not in said[:80]
    return Asked(
        model=text(body, "model", "kdloop", 200),
        messages=messages,
        sampling=sampling(body, max_tokens),
        stream=flag(body, "stream"),
        include_usage=flag(options, "include_usage"),
        stop=stops(body.get("stop", [])),
        seed=number(body, "seed", None, -(2**63), 2**63 - 1, whole=True),
        n=number(body, "n", 1, 1, MAX_CHOICES, whole=True),
        user=text(body, "user", "", MAX_USER),
        logprobs=flag(body, "logprobs"),
        stored=flag(body, "store", True) and not is_task,
    )


def sampling(body: dict, most: int) -> Sampling:
    """The student's own defaults where nothing is said."""
    usual = Sampling(most)
    limits = [number(body, name, most, 1, 2**31, whole=True) for name in ("max_tokens", "max_completion_tokens")]
    temperature = number(body, "temperature", usual.temperature, 0, 2)
    top_p, top_k = number(body, "top_p", usual.top_p, 0, 1), number(body, "top_k", usual.top_k, 1, 1000, whole=True)
    if temperature < GREEDY_BELOW or top_p < GREEDY_BELOW:
        temperature, top_p = 0.0, usual.top_p
    return Sampling(min(most, *limits), temperature, top_p, top_k)


def read_messages(given) -> list[Message]:
    """Texts alone: a system's, people's and the student's, the last one a person's."""
    if not isinstance(given, list) or not given:
        raise Refusal("messages is a list of at least one message", "messages")
    if len(given) > MAX_MESSAGES:
        raise Refusal(f"There are {len(given)} messages; at most {MAX_MESSAGES} are read", "messages")
    messages = [read_message(m, f"messages[{i}]") for i, m in enumerate(given)]
    if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise Refusal("The last message has to be the user's, with some words", "messages")
    return messages


def read_message(given, param: str) -> Message:
    if not isinstance(given, dict):
        raise Refusal("A message is an object with role and content", param)
    role = given.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise Refusal(f"Messages of this role are not supported; there are: {', '.join(ROLES)}", f"{param}.role")
    thought = given.get("reasoning_content") if role == "assistant" else None
    more = {k for k, v in given.items() if v and k not in ("role", "content", "reasoning_content")}
    if more or not isinstance(thought, str | None):
        name = sorted(more)[0][:80] if more else "reasoning_content"
        raise Refusal("Messages are texts here: this field of one is not supported", f"{param}.{name}")
    content = given.get("content")
    if content is None and role == "assistant":
        content = ""
    said = {"role": ROLES[role], "content": read_content(content, f"{param}.content")}
    return said | ({"reasoning_content": thought} if thought else {})


def read_content(content, param: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise Refusal("A message's content is a text, or a list of text parts", param)
    for i, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise Refusal("Only parts of the type text are supported", f"{param}[{i}].type")
    return "\n".join(part["text"] for part in content)


def stops(given) -> tuple[str, ...]:
    each = [given] if isinstance(given, str) else given
    if not isinstance(each, list) or len(each) > MAX_STOPS or not all(isinstance(s, str) and s for s in each):
        raise Refusal(f"stop is a text, or a list of at most {MAX_STOPS}", "stop")
    if any(len(s) > MAX_STOP_LENGTH for s in each):
        raise Refusal(f"A stop has at most {MAX_STOP_LENGTH} characters", "stop")
    return tuple(each)


def number(body: dict, name: str, default, least: float, most: float, whole: bool = False):
    value = body.get(name, default)
    if value is default:
        return value
    if whole and type(value) is float and value.is_integer():
        value = int(value)
    kinds = (int,) if whole else (int, float)
    if type(value) not in kinds or not least <= value <= most:  # NaN neither
        raise Refusal(f"{name} is {'a whole number' if whole else 'a number'} from {least:g} to {most:g}", name)
    return value


def flag(body: dict, name: str, default: bool = False) -> bool:
    if type(value := body.get(name, default)) is not bool:
        raise Refusal(f"{name} is true or false", name)
    return value


def text(body: dict, name: str, default: str | None, most: int) -> str | None:
    value = body.get(name, default)
    if value is not default and (not isinstance(value, str) or len(value) > most):
        raise Refusal(f"{name} is a text of at most {most} characters", name)
    return value
