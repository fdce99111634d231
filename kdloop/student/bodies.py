"""Bodies that servers send with status 200, parsed as a completion or refused in a sentence: proxies send HTML pages,
routers send errors, and some servers leave out required fields of OpenAI's API."""

from openai.types import Completion, CompletionChoice

from kdloop.student import EngineUnavailable

MAX_QUOTE = 200  # characters of a server's body in an error message
MAX_TOKENS = 10_000_000  # a greater count is an error of the server's


def unavailable(cause: str) -> EngineUnavailable:
    cause = " ".join(cause.split())[:MAX_QUOTE].rstrip(".")
    return EngineUnavailable(f"The student's server does not answer ({cause}). Try again in a minute")


def completion(body) -> Completion:
    """The body, if it is a completion. Raises EngineUnavailable for an HTML page, an error, a body without choices."""
    if not isinstance(body, Completion):
        raise unavailable(f"instead of a completion it sent {body!r}")
    if error := (body.model_extra or {}).get("error"):
        raise unavailable(str(error.get("message", error) if isinstance(error, dict) else error))
    choices = body.choices if isinstance(body.choices, list) else []
    if not choices or not all(isinstance(c, CompletionChoice) for c in choices):
        raise unavailable(f"a body without choices: {body!r}")
    return body


def choices(body: Completion) -> list[tuple[str, str | None]]:
    """(text, finish reason) of each choice; a chunk of a stream may have none. Raises EngineUnavailable for a choice
    without a text."""
    if not isinstance(body, Completion) or not isinstance(body.choices or [], list):
        raise unavailable(f"instead of a completion it sent {body!r}")
    pairs = [(getattr(c, "text", c), getattr(c, "finish_reason", None)) for c in body.choices or []]
    if bad := [text for text, _ in pairs if not isinstance(text, str | None)]:
        raise unavailable(f"instead of a text it sent {bad[0]!r}")
    return [(text or "", reason) for text, reason in pairs]


def join_surrogates(text: str) -> str:
    """The text with pairs of surrogates as the characters that they encode. A single one is left out: a string with it
    cannot be encoded as UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")


def completion_tokens(body: Completion) -> int | None:
    """The server's count of the completion's tokens, its end included; None where it gives none, or an impossible
    one."""
    count = getattr(getattr(body, "usage", None), "completion_tokens", None)
    return count if type(count) is int and 0 < count <= MAX_TOKENS else None
