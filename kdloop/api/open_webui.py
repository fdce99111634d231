"""Ratings that people gave in Open WebUI, taken from its export and matched with what was served to it.

Neither its event of a rating nor its stored message has the receipt (0.12.4), so a completion is known by who got it,
by its text, and by the question before it. Asked again, the export changes nothing that has not changed there.
"""

import json
from collections import Counter
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from kdloop.api.access import Caller
from kdloop.feedback import collect
from kdloop.settings import Settings
from storage import keys, receipts

EXPORT = "api/v1/evaluations/feedbacks/all/export"
MAX_BYTES = 2**28
SECONDS = 60


def fetch(url: str, key: str) -> list:
    """The export of an Open WebUI at `url`, by the key of one of its admins. Raises ValueError where it gives none."""
    request = Request(f"{url.rstrip('/')}/{EXPORT}", headers={"Authorization": f"Bearer {key}"})
    if request.type not in ("http", "https"):
        raise ValueError(f"{url!r} is not the address of an Open WebUI: http://HOST:PORT")
    try:
        with urlopen(request, timeout=SECONDS) as response:
            records = json.loads(response.read(MAX_BYTES))
    except (URLError, TimeoutError) as error:
        raise ValueError(f"{url} gives no feedback: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{url} gives something else than feedback: {error}") from error
    if not isinstance(records, list):
        raise ValueError(f"{url} gives something else than a list of feedback")
    return records


def take(settings: Settings, records: list) -> Counter:
    """How many ratings were recorded, and how many not, by reason."""
    return Counter(take_one(settings, record) for record in records)


def take_one(settings: Settings, record) -> str:
    rating, said = at(record, "data", "rating"), at(record, "meta", "message_id")
    messages = at(record, "snapshot", "chat", "chat", "history", "messages")
    answer, question = at(messages, said, "content"), at(messages, at(messages, said, "parentId"), "content")
    if str(rating) not in ("1", "-1") or not isinstance(answer, str):
        return "without a thumb or a text"
    found = served(settings, at(record, "user_id"), answer.strip(), question)
    if not found:
        return "not served here"
    about = at(record, "data", "comment"), at(record, "data", "reason")
    why = ". ".join(text.strip() for text in about if isinstance(text, str) and text.strip())
    try:
        collect.thumb(settings.db, *found, str(rating) == "1", why[: collect.MAX_CHARACTERS])
    except ValueError as error:
        return str(error)
    return "recorded"


def served(settings: Settings, user, answer: str, question) -> tuple[str, str] | None:
    """(person, completion): the newest one with this text, in reply to this question where that is known."""
    callers = [Caller(), *map(Caller, keys.all_keys(settings.db))]
    names = [user, ""] if isinstance(user, str) else [""]  # the second where Open WebUI does not say who asks
    people = [caller.person(settings, name) for name in names for caller in callers]
    asked = question.strip() if isinstance(question, str) else None
    return receipts.by_text(settings.db, people, answer, asked)


def at(value, *path):
    """What lies there; None where something else does."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) and isinstance(name, str) else None
    return value


def run(settings: Settings, url: str, key_file: Path) -> Counter:
    return take(settings, fetch(url, key_file.read_text(encoding="utf-8").strip()))
