"""Times as the reader's clock shows them: their browser tells its time zone in a cookie. Where it does not, UTC is
said."""

from datetime import UTC, datetime
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from gradio.context import LocalContext

COOKIE = "kdloop-zone"
SCRIPT = """
() => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone
  document.cookie = `COOKIE=${encodeURIComponent(zone)};path=/;max-age=31536000;SameSite=Lax`
}
""".replace("COOKIE", COOKIE)


def zone() -> ZoneInfo | None:
    """Of whose request is handled; None where their browser has told none that is known here."""
    request = LocalContext.request.get(None)
    told = request.headers.get("cookie", "") if request else ""
    named = dict(part.strip().partition("=")[::2] for part in told.split(";")).get(COOKIE, "")
    try:
        return ZoneInfo(unquote(named)) if named else None
    except (ValueError, KeyError, OSError):  # no zone's name: anybody can send anything
        return None


def local(at: str | None, form: str = "%Y-%m-%d %H:%M") -> str:
    """An ISO time, in UTC unless it says otherwise; "" for None."""
    if not at:
        return ""
    then, here = datetime.fromisoformat(at), zone()
    then = then.replace(tzinfo=then.tzinfo or UTC)
    return then.astimezone(here).strftime(form) if here else then.astimezone(UTC).strftime(f"{form} UTC")
