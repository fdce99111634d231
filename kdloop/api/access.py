"""Who calls: the key of a program, or a program on this computer, where nobody else can reach the app.

A browser sends requests to this computer for any page that it shows. So a request counts as this computer's only where
its Host is a name of it (a page that had its own name resolve to 127.0.0.1 keeps that name there), no proxy has passed
it on, and it comes from no page of another origin; the last is refused with a key, too: CORS is off.
"""

import base64
import hashlib
import hmac
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from kdloop.api.refusals import Refusal
from kdloop.settings import LOCAL, Settings
from kdloop.ui.session import seconds_to_wait, secret
from storage import keys
from storage.keys import Key

HERE = "api"  # the origin of what programs on this computer ask without a key
PROXIED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
NO_KEY = (
    "This server wants a key: send the header 'Authorization: Bearer kd-...'. Its owner makes one on the Admin tab, or "
    "by `python -m kdloop key new NAME`"
)


@dataclass(frozen=True)
class Caller:
    key: Key | None = None

    @property
    def origin(self) -> str:
        return f"{HERE} {self.key.id}" if self.key else HERE

    @property
    def is_owner(self) -> bool:
        return not self.key or bool(self.key.owner)

    def person(self, settings: Settings, user: str) -> str:
        """The pseudonym of somebody whom the caller calls `user`: another one for every key."""
        return hmac.new(secret(settings), f"{self.origin}\0{user}".encode(), hashlib.sha256).hexdigest()[:24]

    def limit(self, what: str) -> None:
        """Count one `what` of this key's. Raises Refusal above its limit."""
        if self.key and (wait := seconds_to_wait(self.origin, what, self.key.a_minute)):
            text = f"This key may do {self.key.a_minute} {what} a minute: wait {wait:.0f} s"
            raise Refusal(text, status=429, code="rate_limit_exceeded", wait=wait)


def admit(settings: Settings, headers: Headers) -> Caller:
    """Raises Refusal: 403 for a page of another origin, 401 without a valid key."""
    if is_foreign(headers):
        raise Refusal("Pages of other origins may not ask this server", status=403, code="foreign_origin")
    given = presented(headers.get("authorization", ""))
    if given and (key := keys.find_key(settings.db, given)):
        keys.note_use(settings.db, key)
        return Caller(key)
    if is_here(settings, headers) and not given.startswith(keys.PREFIX):
        return Caller()
    if given:
        raise Refusal("This key is unknown here, or revoked", status=401, code="invalid_api_key")
    raise Refusal(NO_KEY, status=401, code="invalid_api_key")


def presented(authorization: str) -> str:
    """The key: a bearer's, or the password of basic authentication, as Langfuse's clients send their secret key."""
    kind, _, given = authorization.partition(" ")
    if kind.lower() == "basic":
        with suppress(ValueError):  # what is neither base64 nor text is no key
            return base64.b64decode(given, validate=True).decode().partition(":")[2]
    return given.strip() if kind.lower() == "bearer" else ""


def is_here(settings: Settings, headers: Headers) -> bool:
    return (
        not settings.shared
        and host_name(f"//{headers.get('host', '')}") in LOCAL
        and not any(name in headers for name in PROXIED)
    )


def is_foreign(headers: Headers) -> bool:
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is None:
        return headers.get("sec-fetch-site", "none") not in ("none", "same-origin", "same-site")
    both_here = host_name(origin) in LOCAL and host_name(f"//{host}") in LOCAL
    return not both_here and origin.partition("://")[2] != host


def host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
