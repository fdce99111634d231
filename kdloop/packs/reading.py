"""A pack's files as `Pack` and `Task`s, with every mistake in them found by file, line and field."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage import files
from storage.conversations import Message, as_prompt

PARTS = ("train", "gate", "heldout")
MAX_PROMPT = 20_000  # characters, of any text in a line
MAX_GENERATED = 20_000  # prompts of a [source]
MAX_OPTION = 1000  # a number among its options: with more digits or terms a generator would not come to an end
TEXT, NUMBER, TABLE, TEXTS, TABLES = "a text", "a whole number", "a table", "a list of texts", "a list of tables"
PACK_FIELDS = {
    "about": TEXT,
    "licence": TEXT,
    "origin": TEXT,
    "disclaimer": TEXT,
    "rubric": TEXT,
    "principles": TEXTS,
    "topics": TEXTS,
    "checks": TABLES,
    "max_tokens": NUMBER,
    "harm": TABLE,
    "source": TABLE,
    "fresh": TABLE,
}
SOURCE_FIELDS = {
    "dataset": TEXT,
    "generator": TEXT,
    "size": NUMBER,
    "seed": NUMBER,
    "decides": TEXT,
    "options": TABLE,
}
FRESH_FIELDS = {"templates": TEXTS, "subjects": TEXTS}
LINE_FIELDS = {"prompt": TEXT, "answer": TEXT, "checks": TABLES, "kind": TEXT, "group": TEXT}


@dataclass(frozen=True)
class Task:
    """A prompt with its reference answer and checks. `before` is the conversation that precedes a follow-up
    question; tasks of one `group` are one thing asked in several ways, as a pair in both orders."""

    prompt: str
    answer: str = ""
    checks: tuple[dict, ...] = ()
    before: tuple[Message, ...] = ()
    group: str = ""

    @property
    def messages(self) -> list[Message]:
        return [*self.before, *as_prompt(self.prompt)]

    @property
    def verifiable(self) -> bool:
        return bool(self.checks)


@dataclass(frozen=True)
class Pack:
    """`checks` apply to every prompt, beside the prompt's own. `max_tokens` is for completions of its prompts; None is
    the setting's.
    """

    name: str
    about: str = ""
    licence: str = ""  # of its data, as the Hub and SPDX write it
    origin: str = ""  # where its data is from
    disclaimer: str = ""  # belongs beside every completion of a student that has learned from it
    rubric: str = ""
    principles: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    checks: tuple[dict, ...] = ()
    max_tokens: int | None = None
    harm: dict | None = None  # weights of raters/harm.py
    source: dict | None = None
    fresh: dict | None = None  # templates and subjects of further gate prompts (`gate_pool`)


@dataclass(frozen=True)
class Problem:
    """What is wrong in a pack's file; `line` is 0 where the file is TOML."""

    file: str
    line: int
    field: str
    what: str

    def __str__(self) -> str:
        at = [self.file, self.line and f"line {self.line}", self.field]
        return f"{', '.join(str(part) for part in at if part)}: {self.what}"


def pack_in(name: str, folder: Path) -> Pack:
    """Raises ValueError for the first mistake in pack.toml."""
    values, problems = read_toml(folder)
    if problems:
        raise ValueError(f"Pack {name}: {problems[0]}")
    return Pack(name, **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def tasks_in(pack: Pack, folder: Path, part: str) -> tuple[Task, ...]:
    """() where the part has no file. Raises ValueError for the first mistake in it."""
    rows, problems = read_part(folder, part)
    if problems:
        raise ValueError(f"Pack {pack.name}: {problems[0]}")
    return tuple(
        Task(r["prompt"], r.get("answer", ""), (*pack.checks, *r.get("checks", ())), group=r.get("group", ""))
        for r in rows.values()
    )


def read_toml(folder: Path) -> tuple[dict, list[Problem]]:
    """pack.toml's fields, and what is wrong with them."""
    path = folder / "pack.toml"
    try:
        values = tomllib.loads(files.read_text(path))
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, tables in tables in tables
        return {}, [Problem(path.name, 0, "", f"not TOML: {error}")]
    return values, list(toml_problems(values))


def toml_problems(values: dict) -> Iterator[Problem]:
    def problem(field: str, what: str) -> Problem:
        return Problem("pack.toml", 0, field, what)

    yield from (problem(*found) for found in wrong_fields(values, PACK_FIELDS))
    if not 0 < number(values.get("max_tokens", 1)) <= 10_000:
        yield problem("max_tokens", "from 1 to 10000")
    yield from (problem(f"checks {i}", what) for i, what in wrong_checks(values.get("checks", ())))
    if isinstance(source := values.get("source"), dict):
        yield from (problem(f"source.{field}", what) for field, what in wrong_fields(source, SOURCE_FIELDS))
        yield from (problem(f"source.{field}", what) for field, what in wrong_source(source))
    if isinstance(fresh := values.get("fresh"), dict):
        yield from (problem(f"fresh.{field}", what) for field, what in wrong_fields(fresh, FRESH_FIELDS))
        yield from (problem(f"fresh.{field}", "is missing") for field in set(FRESH_FIELDS) - set(fresh))
        for template in fresh.get("templates", ()):
            if isinstance(template, str) and template.count("{}") != 1:
                yield problem("fresh.templates", f"{template!r} needs one {{}}, where the subject goes")


def wrong_source(source: dict) -> Iterator[tuple[str, str]]:
    """Fields of a generator that are of the right type, but would not work, or not come to an end."""
    if ("dataset" in source) == ("generator" in source):
        yield "dataset", "name either a dataset of reasoning-gym or one generator of kdloop/packs/generators"
    if not 0 < number(source.get("size", 1)) <= MAX_GENERATED:
        yield "size", f"from 1 to {MAX_GENERATED}"
    options = source.get("options")
    for name, value in options.items() if isinstance(options, dict) else ():
        inside = value if isinstance(value, list) else [value]
        if any(isinstance(v, (dict, list)) or abs(number(v)) > MAX_OPTION for v in inside):
            yield f"options.{name}", f"texts and numbers up to {MAX_OPTION}, or a list of them"


def read_part(folder: Path, part: str) -> tuple[dict[int, dict], list[Problem]]:
    """The rows of a part by their line, and what is wrong with the lines that are not among them."""
    path, rows, problems = folder / f"{part}.jsonl", {}, []
    if not path.exists():
        return {}, []
    try:
        lines = files.read_text(path).split("\n")
    except ValueError as error:
        return {}, [Problem(path.name, 0, "", str(error))]
    for i, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row: dict = {}
        try:
            row = json.loads(line)
            found = [Problem(path.name, i, field, what) for field, what in wrong_line(row)]
        except (ValueError, RecursionError) as error:
            found = [Problem(path.name, i, "", f"not JSON: {error}")]
        problems += found
        if not found:
            rows[i] = row
    return rows, problems


def wrong_line(row: object) -> Iterator[tuple[str, str]]:
    if not isinstance(row, dict):
        yield "", f'an object is wanted, as {{"prompt": "..."}}, not {kind(row)}'
        return
    yield from wrong_fields(row, LINE_FIELDS)
    if not all_characters(row):
        yield "", "holds a zero byte, or half of a character (a lone surrogate)"
    if isinstance(row.get("prompt", ""), str) and not row.get("prompt", "").strip():
        yield "prompt", "is missing" if "prompt" not in row else "is empty"
    for field in ("prompt", "answer"):
        if isinstance(row.get(field), str) and len(row[field]) > MAX_PROMPT:
            yield field, f"{len(row[field])} characters; at most {MAX_PROMPT}"
    yield from ((f"checks {i}", what) for i, what in wrong_checks(row.get("checks", ())))


def all_characters(row: dict) -> bool:
    """Whether all its texts can be written as UTF-8, into a database and an environment."""
    text = json.dumps(row, ensure_ascii=False).replace(r"\\", "")  # a backslash that somebody wrote
    return "\\u0000" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def wrong_checks(checks: object) -> Iterator[tuple[int, str]]:
    """(number of the check, from 1; what is wrong). Whether it exists, kdloop/raters knows."""
    for i, check in enumerate(checks if isinstance(checks, (list, tuple)) else (), 1):
        if isinstance(check, dict) and not isinstance(check.get("check"), str):
            yield i, 'its "check" names one of the checks'


def wrong_fields(values: dict, wanted: dict[str, str]) -> Iterator[tuple[str, str]]:
    for field, value in values.items():
        if field not in wanted:
            yield field, f"there is no such field; there are {', '.join(wanted)}"
        elif not is_a(value, wanted[field]):
            yield field, f"{wanted[field]} is wanted, not {kind(value)}"


def is_a(value: object, wanted: str) -> bool:
    if wanted in (TEXTS, TABLES):
        return isinstance(value, list) and all(is_a(v, TEXT if wanted == TEXTS else TABLE) for v in value)
    if wanted == NUMBER:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, str if wanted == TEXT else dict)


def kind(value: object) -> str:
    names = {str: TEXT, bool: "true or false", int: "a number", float: "a number", dict: TABLE, list: "a list"}
    inside = sorted({kind(v) for v in value}) if isinstance(value, list) else []
    return f"a list of {' and '.join(inside)}" if inside else names.get(type(value), "null")


def number(value: object) -> float:
    """0 for what is none: its type is another problem."""
    return value if isinstance(value, (int, float)) else 0
