"""What a server sends with status 200, read as a completion or refused in a sentence: proxies send pages, routers send
errors, and some leave out what OpenAI's API promises."""

from openai.types import Completion, CompletionChoice

from kdloop.student import EngineUnavailable

SHOWN = 200  # characters of what a server said
MOST_TOKENS = 10_000_000  # a greater count is none


def unavailable(said: str) -> EngineUnavailable:
    said = " ".join(said.split())[:SHOWN].rstrip(".")
    return EngineUnavailable(f"The student's server does not answer ({said}). Try again in a minute")


def completion(told) -> Completion:
    """The body, if it is a completion. Raises EngineUnavailable for what comes in its place with status 200: a page, an
    error, a body without choices."""
    if not isinstance(told, Completion):
        raise unavailable(f"instead of a completion it sent {told!r}")
    if error := (told.model_extra or {}).get("error"):
        raise unavailable(str(error.get("message", error) if isinstance(error, dict) else error))
    chosen = told.choices if isinstance(told.choices, list) else []
    if not chosen or not all(isinstance(c, CompletionChoice) for c in chosen):
        raise unavailable(f"a body without choices: {told!r}")
    return told


def choices(told: Completion) -> list[tuple[str, str | None]]:
    """(text, why it ended) of each choice; of a stream's chunk there may be none. Raises EngineUnavailable for what has
    no text."""
    if not isinstance(told, Completion) or not isinstance(told.choices or [], list):
        raise unavailable(f"instead of a completion it sent {told!r}")
    found = [(getattr(c, "text", c), getattr(c, "finish_reason", None)) for c in told.choices or []]
    if bad := [text for text, _ in found if not isinstance(text, str | None)]:
        raise unavailable(f"instead of a text it sent {bad[0]!r}")
    return [(text or "", reason) for text, reason in found]


def joined(text: str) -> str:
    """Halves of a character (surrogates) that came one after the other, as the character. One alone is left out:
    nothing that holds it could be written down."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")


def tokens_counted(told: Completion) -> int | None:
    """How many tokens a completion has by the server, its end included; None where it does not say, or says what no
    count can be."""
    counted = getattr(getattr(told, "usage", None), "completion_tokens", None)
    return counted if type(counted) is int and 0 < counted <= MOST_TOKENS else None
