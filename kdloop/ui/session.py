"""Who is at the page: a random id in the browser, signed by this installation, kept in server-side state."""

import hashlib
import hmac
import secrets
import time
from collections import defaultdict, deque
from functools import partial
from threading import Lock

import gradio as gr

from kdloop.settings import Settings
from kdloop.student import PromptTooLong
from storage.conversations import UnknownRow

REFUSED = (ValueError, PromptTooLong, UnknownRow)  # what a domain function refuses, said to the person as it is
PER_MINUTE = {"messages": 20, "votes": 60}
PACE: dict[tuple[str, str], deque] = defaultdict(deque)  # of this process only: a brake, not a record
PACE_LOCK = Lock()
LOCAL = ("127.0.0.1", "localhost", "::1")
TABLE = {"interactive": False, "datatype": "str", "wrap": True}  # a gr.Dataframe to read
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}


def secret(settings: Settings) -> bytes:
    """This installation's signing key, made once."""
    path = settings.home / "secret"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path.read_bytes()


def sign(key: bytes, person: str) -> str:
    return f"{person}.{hmac.new(key, person.encode(), hashlib.sha256).hexdigest()[:32]}"


def loader(settings: Settings):
    key = secret(settings)

    def on_load(token):
        person = str(token or "").partition(".")[0]
        if not hmac.compare_digest(sign(key, person).encode(), str(token).encode()):
            person = secrets.token_hex(12)
        return sign(key, person), {"person": person, "conversation": None}

    return on_load


def person(state: dict) -> str:
    if not state or not state.get("person"):
        raise gr.Error("Reload the page", print_exception=False)
    return state["person"]


def paced(who: str, what: str) -> str:
    """`who` again, unless they do more of `what` in a minute than a person can."""
    with PACE_LOCK:
        at, times = time.monotonic(), PACE[who, what]
        while times and at - times[0] > 60:
            times.popleft()
        if len(times) >= PER_MINUTE[what]:
            wait = 61 - (at - times[0])
            raise gr.Error(f"At most {PER_MINUTE[what]} {what} a minute: wait {wait:.0f} s", print_exception=False)
        times.append(at)
        if len(PACE) > 10_000:
            PACE.clear()
    return who


def allowed(settings: Settings, state: dict, token: str) -> None:
    """On this machine alone, whoever sits at it; elsewhere the admin token."""
    person(state)
    if settings.admin_token:
        if not hmac.compare_digest(str(token or "").encode(), settings.admin_token.encode()):
            raise gr.Error("Wrong admin token", print_exception=False)
    elif settings.host not in LOCAL:
        raise gr.Error("Set KDLOOP_ADMIN_TOKEN to start or cancel rounds from the page", print_exception=False)


def named(function: partial, name: str) -> partial:
    function.__name__ = name  # Gradio names endpoints by it
    return function


def refusal(error: Exception) -> gr.Error:
    """A domain error as a toast; its text may hold what a person typed, so it is escaped (toasts render HTML)."""
    import html

    return gr.Error(html.escape(str(error)), print_exception=False)
