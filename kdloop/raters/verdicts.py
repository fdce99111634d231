"""Parses verdicts: the JSON that a judge was asked for, if its text holds exactly one.

A code fence, prose around it or a thought are unambiguous and accepted. Two verdicts that differ, or the remains of a
second one, are ambiguous: then there is no verdict, and never a default. JSON that the judge only repeats from its
prompt does not count: a completion cannot be its own judge.
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
    "The judge's text holds no verdict, or no single one"


def parse_pair(text: str, shown: str = "") -> tuple[str, str]:
    """(A, B or tie; rationale). `shown` is the judge's prompt. Raises UnparseableVerdict unless there is exactly one
    verdict."""
    value, rest = read(text, {"rationale", "verdict"}, shown)
    side = side_of(value["verdict"])
    if side is None or not isinstance(value["rationale"], str):
        raise UnparseableVerdict(f"verdict {value['verdict']!r}")
    if any(side_of(word) != side for word in IN_PROSE.findall(plain(rest))):
        raise UnparseableVerdict("two verdicts that differ")
    return side, value["rationale"]


def parse_ratings(text: str, n: int, shown: str = "") -> list[tuple[int, str]]:
    """`n` of (score 1 to 5, rationale). Raises UnparseableVerdict, also for a score that is not a whole number."""
    ratings = parse(text, {"ratings"}, shown)["ratings"]
    if not isinstance(ratings, list) or len(ratings) != n:
        raise UnparseableVerdict(f"not {n} ratings")
    for r in ratings:
        if not isinstance(r, dict) or type(r.get("score")) is not int or not 1 <= r["score"] <= 5:
            raise UnparseableVerdict(f"rating {r!r}")
    return [(r["score"], str(r.get("rationale", ""))) for r in ratings]


def parse(text: str, keys: set[str], shown: str = "") -> dict:
    """The one JSON object with exactly these keys. Raises UnparseableVerdict unless there is exactly one."""
    return read(text, keys, shown)[0]


def read(text: str, keys: set[str], shown: str = "") -> tuple[dict, str]:
    """(the object, the text around it); raises as `parse`."""
    completion = thoughts.split(text)[1]
    try:
        found, rest = find_objects(completion, keys)
        if not found:
            found, rest = find_objects(plain(completion), keys)
        quoted = find_objects(shown, keys)[0] + find_objects(plain(shown), keys)[0] if shown else []
    except RecursionError:
        raise UnparseableVerdict("nested too deep to parse") from None
    found = [value for value in found if value not in quoted]
    if not found:
        raise UnparseableVerdict(f"no JSON with {', '.join(sorted(keys))}: {completion[:80]!r}")
    if any(set(value) != keys for value in found):
        raise UnparseableVerdict(f"not an object with {', '.join(sorted(keys))} alone")
    if any(without_rationales(value) != without_rationales(found[0]) for value in found) or mentions(rest, keys):
        raise UnparseableVerdict("two verdicts that differ, or one within another")
    return found[0], rest


def find_objects(text: str, keys: set[str]) -> tuple[list[dict], str]:
    """(the objects with any of these keys, the text without any JSON). The whole text may be one JSON string."""
    if text.startswith('"') and isinstance(inner := loads(text), str):
        text = inner
    decoder, found, rest, at = json.JSONDecoder(strict=False, object_pairs_hook=normalized), [], "", 0
    while (begin := text.find("{", at)) >= 0:
        try:
            value, end = decoder.raw_decode(text, begin)
            found += outermost(value, keys)
            rest, at = rest + text[at:begin], end
        except json.JSONDecodeError:
            rest, at = rest + text[at : begin + 1], begin + 1
    return found, rest + text[at:]


def loads(text: str) -> object:
    try:
        return json.loads(text, strict=False)
    except ValueError:
        return None


def normalized(pairs: list[tuple[str, object]]) -> dict:
    """The object with lower-case, stripped keys and encodable texts. Raises UnparseableVerdict for a key with two
    values."""
    found: dict[str, object] = {}
    for name, value in pairs:
        name, value = plain(name).strip().lower(), clean(value) if isinstance(value, str) else value
        if name in found and found[name] != value:
            raise UnparseableVerdict(f"{name!r} says both {found[name]!r} and {value!r}")
        found[name] = value
    return found


def outermost(value: object, keys: set[str]) -> list[dict]:
    """The outermost objects with any of these keys."""
    if isinstance(value, dict) and keys & set(value):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for part in inner for found in outermost(part, keys)]


def mentions(rest: str, keys: set[str]) -> bool:
    """Is one of the keys in the text outside of JSON: a verdict that was cut, or broken by an unescaped quote?"""
    return re.search(rf"[\"'](?:{'|'.join(keys)})[\"']\s*:", plain(rest), re.IGNORECASE) is not None


def without_rationales(value: object) -> object:
    """A verdict by its decisions alone, to compare it with another one."""
    if isinstance(value, dict):
        return {k: without_rationales(v) for k, v in value.items() if k != "rationale"}
    if isinstance(value, list):
        return [without_rationales(v) for v in value]
    return side_of(value) or value


def side_of(verdict: object) -> str | None:
    """A, B or tie; None for anything else."""
    if not isinstance(verdict, str):
        return None
    word = plain(verdict).strip(" \t\r\n.*_\"'`()[]").casefold().removeprefix("completion ")
    return SIDES.get(" ".join(word.split()))


def plain(text: str) -> str:
    """The text in Unicode's NFKC form, so that full-width letters and special spaces are plain; invisible signs go."""
    return unicodedata.normalize("NFKC", INVISIBLE.sub("", text))
