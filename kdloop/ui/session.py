"""Who is at the page: a random id in the browser, signed by this installation, kept in server-side state; what they may
do, and how often; and refusals as toasts."""

import hashlib
import hmac
import html
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable
from threading import Lock

import gradio as gr

from kdloop.settings import LOCAL, Settings, current
from kdloop.student import PromptTooLong
from kdloop.ui.verdicts import in_words
from kdloop.ui.words import tell
from storage import audit, checkpoints, files, snapshots
from storage.conversations import UnknownRow

REFUSED = (ValueError, PromptTooLong, UnknownRow)  # a domain function's refusals: their text is for people
PER_MINUTE = {
    "searches": 120,
    "downloads": 6,
    "erasures": 5,
    "sign-ins": 5,
    "parts of rounds": 2,
}  # typing searches; the rest is costly
SET_BY_OWNER = {"messages": "messages_a_minute", "votes": "votes_a_minute"}
PEOPLE_BEHIND_ONE_ADDRESS = 4  # a household, or a small office
PACE: dict[tuple[str, str], deque] = defaultdict(deque)  # (who, what) -> times; in memory, as a restart may forget it
MOST_PACED = 10_000  # entries, then all are dropped: memory stays bounded whoever asks
PACE_LOCK = Lock()
OWNER_HOURS = 12  # how long an owner stays signed in
BY_TOKEN, SIGNED_OUT = "admin token", "signed out"  # an owner's name, and a deed, in the log of what owners did
MIN_KEY_BYTES = 32  # of a signing key: `secret` writes 64 hexadecimal digits
TABLE = {"interactive": False, "datatype": "str", "wrap": True}  # a gr.Dataframe to read
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
# For deeds that may follow each other quickly: all count, in their order. Gradio's default drops what comes while the
# listener's last event is under way, and its "always_last" sends that one's event data again.
IN_ORDER = {"trigger_mode": "multiple", "concurrency_limit": 1, **PRIVATE}


def secret(settings: Settings) -> bytes:
    """This installation's signing key, made once. Raises ValueError for a file that holds less than a key: what a kill
    or a full disk leaves of one could be guessed."""
    path = settings.home / snapshots.SECRET
    key = path.read_bytes() if path.exists() else b""
    if not key.strip(b"\0 \t\r\n"):  # none yet, or nothing of it was written: then no token was signed with it
        key = secrets.token_hex(32).encode()
        files.write(path, key, mode=0o600)
    if len(key) < MIN_KEY_BYTES or len(set(key)) < MIN_KEY_BYTES // 4:
        raise ValueError(
            f"{path} holds {len(key)} bytes that are no signing key. Put back the whole file (a snapshot has it), or "
            "delete it: a new one is made, and who was here before is a stranger to their conversations"
        )
    return key


def sign(key: bytes, person: str) -> str:
    """`person`, a dot, and the first 32 hexadecimal digits of its HMAC-SHA256."""
    return f"{person}.{hmac.new(key, person.encode(), hashlib.sha256).hexdigest()[:32]}"


def unsigned(key: bytes, token) -> str:
    """What the token signs; "" where this key has not signed it."""
    text = str(token or "").partition(".")[0]
    return text if hmac.compare_digest(sign(key, text).encode(), str(token).encode()) else ""


def home_mark(settings: Settings) -> str:
    """The same as long as the home is; "" on a Space, whose disk each restart may empty."""
    return "" if settings.space else hmac.new(secret(settings), b"home", hashlib.sha256).hexdigest()[:16]


def owner_key(settings: Settings) -> bytes:
    """Signs owners' sessions: another admin token ends them all."""
    return hmac.new(secret(settings), settings.admin_token.encode(), hashlib.sha256).digest()


def owner_token(settings: Settings, person: str) -> str:
    """For the browser to keep: whose browser it is, the session's number, and when it expires."""
    number, expires = secrets.token_hex(4), int(time.time()) + 3600 * OWNER_HOURS
    return sign(owner_key(settings), f"{person}:{number}:{expires}")


def owner_session(settings: Settings, token, person: str) -> str | None:
    """The number of a session that has neither expired nor ended, and is this person's; else None."""
    if not settings.admin_token or not (text := unsigned(owner_key(settings), token)):
        return None
    whose, number, expires = text.split(":")
    lives = whose == person and time.time() < int(expires) <= time.time() + 3600 * OWNER_HOURS
    return number if lives and not audit.has(settings.db, SIGNED_OUT, number) else None


def loader(settings: Settings):
    """The handler of a page that loads: (the signed person for the browser to keep, their server-side state). `kept` is
    an owner's session."""
    key = secret(settings)

    def on_load(token, kept, request: gr.Request, profile: gr.OAuthProfile | None = None):
        me = unsigned(key, token) or secrets.token_hex(12)
        session = kept if kept and owner_session(settings, kept, me) else None
        owner = profile.username if profile and is_owner(settings, profile.username) else None
        owner = owner or (BY_TOKEN if session else None)
        return sign(key, me), {
            "session": session,
            "person": me,
            "conversation": None,
            "address": address(settings, request),
            "owner": owner,
        }

    return on_load


def is_owner(settings: Settings, username: str) -> bool:
    """Only where the Hub vouches for the name: elsewhere Gradio's sign-in cookie can be forged by anyone."""
    return settings.oauth and username in [name.strip() for name in settings.admins.split(",") if name.strip()]


def address(settings: Settings, request: gr.Request) -> str:
    """The caller's; on a Space, the one that its own proxy, the last, has added to the header."""
    forwarded = request.headers.get("x-forwarded-for", "") if settings.space else ""
    return forwarded.split(",")[-1].strip() or request.client.host


def person(state: dict) -> str:
    if not state or not state.get("person"):
        raise refused("Reload the page")
    return state["person"]


def paced(settings: Settings, state: dict, what: str) -> str:
    """The person, unless they, or all at their address, do more of `what` in a minute than people can."""
    me = person(state)
    limit(me, what, a_minute(settings, what))
    if state.get("address", "127.0.0.1") not in LOCAL:  # behind a proxy of the owner's, everybody looks local
        limit_address(settings, state["address"], what)
    return me


def limit_address(settings: Settings, address: str, what: str) -> None:
    limit(address, what, PEOPLE_BEHIND_ONE_ADDRESS * a_minute(settings, what))


def a_minute(settings: Settings, what: str) -> int:
    return getattr(current(settings), SET_BY_OWNER[what]) if what in SET_BY_OWNER else PER_MINUTE[what]


def limit(who: str, what: str, most: int) -> None:
    """Count one `what` of theirs, and refuse it where there were `most` in the last minute."""
    if wait := seconds_to_wait(who, what, most):
        raise refused("At most {most} {what} a minute: wait {wait:.0f} s", most=most, what=tell(what), wait=wait)


def seconds_to_wait(who: str, what: str, most: int) -> float:
    """0, and one `what` of theirs is counted; or how long to wait, where there were `most` in the last minute."""
    with PACE_LOCK:
        at, times = time.monotonic(), PACE[who, what]
        while times and at - times[0] > 60:
            times.popleft()
        if len(times) >= most:
            return 61 - (at - times[0])
        times.append(at)
        if len(PACE) > MOST_PACED:
            PACE.clear()
        return 0.0


def sign_in(settings: Settings, token: str, state: dict) -> dict:
    """The state of an owner, for whoever knows the admin token."""
    limit(state.get("address", ""), "sign-ins", PER_MINUTE["sign-ins"])
    person(state)
    if not settings.admin_token:
        raise refused("Set KDLOOP_ADMIN_TOKEN and start again to sign in as the owner")
    if not hmac.compare_digest(str(token or "").encode(), settings.admin_token.encode()):
        raise refused("Wrong admin token")
    state["owner"] = BY_TOKEN
    return state


def allowed(settings: Settings, state: dict) -> str:
    """Who acts as the owner: whoever sits at this computer, where nobody else reaches it; elsewhere who signed in."""
    me, session = person(state), state.get("session")
    if session and not owner_session(settings, session, me):  # signed out in another tab, or too long ago
        state["owner"] = state["session"] = None
    if state.get("owner"):
        return state["owner"]
    if not settings.shared:
        return "this computer"
    raise refused("Sign in as the owner first, on the Admin tab")


def owns(settings: Settings, state: dict) -> bool:
    try:
        return bool(allowed(settings, state))
    except gr.Error:
        return False


def erasure_notice(settings: Settings, affected: list[int]) -> str:
    """What a person is told after an erasure; `affected` are ids of checkpoints that had learned from their data."""
    names = [k.name for k in checkpoints.lineage(settings.db) if k.id in affected]
    text = tell("Deleted. Versions that had learned from it: {names}", names=", ".join(names) or "–")
    if names:
        text += f". {tell('Their weights keep a trace of it, until an owner has them trained again without it')}"
    if not settings.snapshots:
        return text
    return f"{text}. {tell('Now a snapshot without it is taken, and the older ones are deleted.')}"


def named(function: Callable, name: str) -> Callable:
    function.__name__ = name  # Gradio names endpoints by it
    return function


def refused(text: str, **values) -> gr.Error:
    """A toast that says what to do instead."""
    return gr.Error(tell(text, **values), print_exception=False)


def refusal(error: Exception) -> gr.Error:
    """A domain error as a toast; its text may hold what a person typed, so it is escaped (toasts render HTML)."""
    return gr.Error(html.escape(in_words(str(error))).replace("\n", "<br>"), print_exception=False)


def done(act: Callable, *given):
    """What it returns; its refusals as toasts."""
    try:
        return act(*given)
    except (ValueError, OSError) as error:
        raise refusal(error) from error


def short(text: str, most: int) -> str:
    """What a box of so many characters gives, whoever sent it."""
    return str(text or "").strip()[:most]


def warn(error: Exception) -> None:
    """The same where the handler continues."""
    gr.Warning((error if isinstance(error, gr.Error) else refusal(error)).message)
