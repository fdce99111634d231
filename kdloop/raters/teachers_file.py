"""Reads and validates the teachers' file: one [[teacher]] table for each teacher."""

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

TERMS = ("allowed", "forbidden")


@dataclass(frozen=True)
class Teacher:
    """One [[teacher]]: an endpoint (`url`) or a local model (`directory`). Prices are per million tokens, `timeout` is
    in seconds, a budget of 0 is no limit.

    `terms` says whether the provider's terms allow training other models on its completions; if they forbid it,
    `confirmed` is the owner's statement to have the right nevertheless. `thinks`: the model's template opens a thought
    that its server leaves in the text, so a thought cut before its end has no tag.
    """

    name: str
    model: str = ""
    url: str = ""
    directory: str = ""
    key_file: str = ""
    weight: float = 1.0
    licence: str = ""
    terms: str = ""
    confirmed: bool = False
    price_in: float = 0.0
    price_out: float = 0.0
    budget: float = 0.0
    timeout: float = 60.0
    retries: int = 3
    concurrency: int = 4
    thinks: bool = False

    @property
    def restricted(self) -> int:
        return int(self.terms == "forbidden")

    @property
    def may_teach(self) -> bool:
        return self.terms == "allowed" or self.confirmed

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """In the currency of the prices."""
        return (prompt_tokens * self.price_in + completion_tokens * self.price_out) / 1e6


def read(path: Path) -> list[Teacher]:
    """The teachers of a TOML file. Raises ValueError with the file's name and what is wrong with it."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("teacher", [])
    except ValueError as error:  # no TOML, no UTF-8
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise ValueError(f"{path}: write each teacher as a [[teacher]] table")
    return [from_table(path, t) for t in tables]


def from_table(path: Path, table: dict) -> Teacher:
    types = {f.name: type(f.default) for f in fields(Teacher) if f.name != "name"} | {"name": str}
    if unknown := set(table) - set(types):
        raise ValueError(f"{path}: unknown {', '.join(sorted(unknown))}; a teacher has {', '.join(sorted(types))}")
    if not table.get("name"):
        raise ValueError(f"{path}: each teacher needs a name")
    for name, value in table.items():
        expected = types[name]
        if type(value) is not expected and not (expected is float and type(value) is int):
            raise ValueError(f"{path}: {name} = {value!r}, but it has to be a {expected.__name__}")
        if expected in (int, float) and not 0 <= value < math.inf:
            raise ValueError(f"{path}: {name} = {value}, but it has to be a number of 0 and above")
    return Teacher(**table)


def check(t: Teacher) -> None:
    """Raises ValueError for a teacher without one address, without terms, or without a readable key."""
    if bool(t.url) == bool(t.directory):
        raise ValueError(f"Teacher {t.name!r} needs either a url or a directory")
    if t.terms not in TERMS:
        raise ValueError(f"Teacher {t.name!r}: read its provider's terms and say terms = {' or '.join(TERMS)}")
    if t.url and not is_url(t.url):
        raise ValueError(f"Teacher {t.name!r}: url = {t.url!r}, but it has to be like http://HOST:PORT/v1")
    key(t)


def is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def key(teacher: Teacher) -> str:
    """The API key; "none" without a key file. Raises ValueError if the file holds no key that fits into a header."""
    if not teacher.key_file:
        return "none"
    try:
        text = Path(teacher.key_file).expanduser().read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError) as error:
        raise ValueError(f"Teacher {teacher.name!r}: no key can be read from {teacher.key_file}: {error}") from None
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError(f"Teacher {teacher.name!r}: {teacher.key_file} holds no key: one line of ASCII")
    return text
