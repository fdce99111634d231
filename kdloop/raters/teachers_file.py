"""The file of teachers: one [[teacher]] table each, what may stand in it, and what is wrong with one that does not."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from kdloop.packs import tomllib

TERMS = ("allowed", "forbidden")


@dataclass(frozen=True)
class Teacher:
    """One [[teacher]] of the teachers' file. `url` or `directory`; prices per million tokens; budget 0 is no limit.

    `terms` is what the provider's terms say about training other models on its completions; where they forbid it,
    `confirmed` is the owner's word to have the right all the same. `thinks` says that the model's template opens a
    thought that its server leaves in the text: one that was cut before its end has no tag to be known by.
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
        return (prompt_tokens * self.price_in + completion_tokens * self.price_out) / 1e6


def read(path: Path) -> list[Teacher]:
    """Raises ValueError naming the file, and what is wrong with it."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("teacher", [])
    except ValueError as error:  # no TOML, no UTF-8
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise ValueError(f"{path}: write each teacher as a [[teacher]] table")
    return [from_table(path, t) for t in tables]


def from_table(path: Path, table: dict) -> Teacher:
    known = {f.name: type(f.default) for f in fields(Teacher) if f.name != "name"} | {"name": str}
    if unknown := set(table) - set(known):
        raise ValueError(f"{path}: unknown {', '.join(sorted(unknown))}; a teacher has {', '.join(sorted(known))}")
    if not table.get("name"):
        raise ValueError(f"{path}: each teacher needs a name")
    for name, value in table.items():
        kind = known[name]
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ValueError(f"{path}: {name} = {value!r}, but it has to be a {kind.__name__}")
        if kind in (int, float) and not 0 <= value < math.inf:
            raise ValueError(f"{path}: {name} = {value}, but it has to be a number of 0 and above")
    return Teacher(**table)


def check(t: Teacher) -> None:
    """Raises ValueError for one that could not be asked, or may not be without its terms having been read."""
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
    """Raises ValueError where the file holds none that a request could carry."""
    if not teacher.key_file:
        return "none"
    try:
        text = Path(teacher.key_file).expanduser().read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError) as error:
        raise ValueError(f"Teacher {teacher.name!r}: no key can be read from {teacher.key_file}: {error}") from None
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError(f"Teacher {teacher.name!r}: {teacher.key_file} holds no key: one line of ASCII")
    return text
