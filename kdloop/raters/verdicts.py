"""Verdicts in a teacher's text: the JSON that was asked for, if there is exactly one.

Models put a fence around it, prose before or after it, or a thought; none of that leaves anything to guess. Two that
differ do, and so does what looks like a part of another one: then there is no verdict, and never a default. What the
judge was shown is no verdict of its own when it repeats it: a completion cannot say which one is better.
"""

import json
import re
import unicodedata

from kdloop.raters import thoughts
from kdloop.raters.completions import clean

SIDES = {"a": "A", "b": "B", "tie": "tie", "a tie": "tie"}
IN_PROSE = re.compile(
    r"\bverdict\b[\s:=*_\"'`-]*(?:is\b[\s:*_\"'`]*)?(?:completion\s+)?[\"'*`(\[]*((?-i:[AB])|(?:a\s+)?tie)\b",
    re.IGNORECASE,
)
INVISIBLE = re.compile("[\ufeff\u200b\u200e\u200f\u2060]")


class UnparseableVerdict(ValueError):
    "What the judge said is not a verdict"


def parse_pair(text: str, shown: str = "") -> tuple[str, str]:
    """(verdict A, B or tie; rationale). Raises UnparseableVerdict where there is not exactly one. `shown` is what the
    judge was asked."""
    value, rest = read(text, {"rationale", "verdict"}, shown)
    side = side_of(value["verdict"])
    if side is None or not isinstance(value["rationale"], str):
        raise UnparseableVerdict(f"verdict {value['verdict']!r}")
    if any(side_of(said) != side for said in IN_PROSE.findall(plain(rest))):
        raise UnparseableVerdict("two verdicts that differ")
    return side, value["rationale"]


def parse_ratings(text: str, n: int, shown: str = "") -> list[tuple[int, str]]:
    """`n` of (score 1 to 5, rationale). Raises UnparseableVerdict, as for a score that is no whole number."""
    ratings = parse(text, {"ratings"}, shown)["ratings"]
    if not isinstance(ratings, list) or len(ratings) != n:
        raise UnparseableVerdict(f"not {n} ratings")
    for r in ratings:
        if not isinstance(r, dict) or type(r.get("score")) is not int or not 1 <= r["score"] <= 5:
            raise UnparseableVerdict(f"rating {r!r}")
    return [(r["score"], str(r.get("rationale", ""))) for r in ratings]


def parse(text: str, keys: set[str], shown: str = "") -> dict:
    """The one object with exactly these keys. Raises UnparseableVerdict where there is none, or more than one."""
    return read(text, keys, shown)[0]


def read(text: str, keys: set[str], shown: str = "") -> tuple[dict, str]:
    """(the object, the text around it), as `parse`."""
    said = thoughts.split(text)[1]
    try:
        found, rest = claims(said, keys)
        if not found:
            found, rest = claims(plain(said), keys)
        quoted = claims(shown, keys)[0] + claims(plain(shown), keys)[0] if shown else []
    except RecursionError:
        raise UnparseableVerdict("nested deeper than anybody means") from None
    found = [value for value in found if value not in quoted]
    if not found:
        raise UnparseableVerdict(f"no JSON with {', '.join(sorted(keys))}: {said[:80]!r}")
    if any(set(value) != keys for value in found):
        raise UnparseableVerdict(f"not an object with {', '.join(sorted(keys))} alone")
    if any(decided(value) != decided(found[0]) for value in found) or names(rest, keys):
        raise UnparseableVerdict("two verdicts that differ, or one within another")
    return found[0], rest


def claims(text: str, keys: set[str]) -> tuple[list[dict], str]:
    """(the objects that have any of these keys, the text without any JSON). A JSON string may hold the text."""
    if text.startswith('"') and isinstance(inner := loads(text), str):
        text = inner
    decoder, found, rest, at = json.JSONDecoder(strict=False, object_pairs_hook=an_object), [], "", 0
    while (begin := text.find("{", at)) >= 0:
        try:
            value, end = decoder.raw_decode(text, begin)
            found += within(value, keys)
            rest, at = rest + text[at:begin], end
        except json.JSONDecodeError:
            rest, at = rest + text[at : begin + 1], begin + 1
    return found, rest + text[at:]


def loads(text: str) -> object:
    try:
        return json.loads(text, strict=False)
    except ValueError:
        return None


def an_object(pairs: list[tuple[str, object]]) -> dict:
    """Keys without white space and case, texts that can be written down. A key that says two things says nothing."""
    value: dict[str, object] = {}
    for name, said in pairs:
        name, said = plain(name).strip().lower(), clean(said) if isinstance(said, str) else said
        if name in value and value[name] != said:
            raise UnparseableVerdict(f"{name!r} says both {value[name]!r} and {said!r}")
        value[name] = said
    return value


def within(value: object, keys: set[str]) -> list[dict]:
    """The outermost objects that have any of these keys."""
    if isinstance(value, dict) and keys & set(value):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for part in inner for found in within(part, keys)]


def names(rest: str, keys: set[str]) -> bool:
    """Is one of the keys left in what is no JSON: a verdict that was cut, or that an unescaped quote tore apart?"""
    return re.search(rf"[\"'](?:{'|'.join(keys)})[\"']\s*:", plain(rest), re.IGNORECASE) is not None


def decided(value: object) -> object:
    """A verdict without its reasons."""
    if isinstance(value, dict):
        return {k: decided(v) for k, v in value.items() if k != "rationale"}
    if isinstance(value, list):
        return [decided(v) for v in value]
    return side_of(value) or value


def side_of(verdict: object) -> str | None:
    if not isinstance(verdict, str):
        return None
    word = plain(verdict).strip(" \t\r\n.*_\"'`()[]").casefold().removeprefix("completion ")
    return SIDES.get(" ".join(word.split()))


def plain(text: str) -> str:
    """Full-width letters and signs, and special spaces, as the plain ones (NFKC); nothing that nobody sees."""
    return unicodedata.normalize("NFKC", INVISIBLE.sub("", text))
