"""Checks of form: what an instruction asks of a completion's shape, in any language.

The kinds are IFEval's (Zhou et al. 2023) and some of IFBench's (Pyatkin et al. 2025), written anew: a count is exact,
and a completion of one word said again and again is not `varied`. Each is a function (completion, answer, **options)
-> (right, what is wrong); kdloop/raters/verifiers.py names them all.
"""

import json
import re

SENTENCE = re.compile(r"[^.!?。！？]+[.!?。！？]+[\"'”’)\]*]*(?=\s|$)|[^.!?。！？]+$")
BULLET = re.compile(r"^[ \t]*(?:[-*•]|\d+[.)])[ \t]+\S", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}[ \t]+\S", re.MULTILINE)
HIGHLIGHT = re.compile(r"(?<!\*)\*{1,2}(?![\s*])[^*\n]*[^\s*]\*{1,2}(?!\*)")
PLACEHOLDER = re.compile(r"\[[^\[\]\n]+\]")
DIVIDER = "***"


def within(n: int, least: int, most: int | None, what: str):
    wanted = f"{least}" if most == least else f"{least} to {most}" if most is not None else f"{least} or more"
    return least <= n and (most is None or n <= most), f"{n} {what}, wanted {wanted}"


def times_said(text: str, word: str) -> int:
    """How often the word, or the words, stand in the text, not as a part of others, in any case."""
    return len(re.findall(rf"(?<!\w){re.escape(word.casefold())}(?!\w)", text.casefold()))


def contains(completion: str, answer: str, words: list[str], at_least: int = 1):
    missing = [w for w in words if times_said(completion, w) < at_least]
    return not missing, f"missing: {', '.join(missing)}"


def avoids(completion: str, answer: str, words: list[str]):
    used = [w for w in words if times_said(completion, w)]
    return not used, f"used: {', '.join(used)}"


def without(completion: str, answer: str, characters: str):
    used = [c for c in characters if c in completion]
    return not used, f"used: {' '.join(used)}"


def words(completion: str, answer: str, least: int = 1, most: int | None = None):
    return within(len(completion.split()), least, most, "words")


def sentences(completion: str, answer: str, least: int = 1, most: int | None = None):
    return within(len(SENTENCE.findall(completion.strip())), least, most, "sentences")


def paragraphs(completion: str, answer: str, least: int = 1, most: int | None = None):
    return within(len([p for p in re.split(r"\n\s*\n", completion) if p.strip()]), least, most, "paragraphs")


def lines(completion: str, answer: str, least: int = 1, most: int | None = None):
    return within(len([line for line in completion.splitlines() if line.strip()]), least, most, "lines")


def bullets(completion: str, answer: str, least: int = 1, most: int | None = None, mark: str = ""):
    """Lines that begin a list's item: with this mark, where one is given, and no other."""
    found = [item[0].split()[0] for item in BULLET.finditer(completion)]
    others = [m for m in found if mark and m != mark]
    if others:
        return False, f"an item begins with {others[0]!r}, wanted {mark!r}"
    return within(len(found), least, most, "list items")


def headings(completion: str, answer: str, least: int = 1, most: int | None = None):
    return within(len(HEADING.findall(completion)), least, most, "headings")


def highlights(completion: str, answer: str, least: int = 1, most: int | None = None):
    return within(len(HIGHLIGHT.findall(completion)), least, most, "parts between asterisks")


def placeholders(completion: str, answer: str, least: int = 1, most: int | None = None):
    return within(len(PLACEHOLDER.findall(completion)), least, most, "parts in square brackets")


def versions(completion: str, answer: str, n: int = 2):
    """`n` different texts with `***` between them."""
    found = [" ".join(part.split()) for part in completion.split(DIVIDER)]
    return len(found) == n and len(set(filter(None, found))) == n, f"{len(found)} texts divided by ***, wanted {n}"


def letters(completion: str, answer: str, case: str):
    changed = {"lower": completion.lower(), "upper": completion.upper()}[case]
    written = any(c.isalpha() for c in completion)
    return written and completion == changed, f"not all letters are {case} case"


def capitals(completion: str, answer: str, least: int = 0, most: int | None = None):
    """Words of two letters or more that are all in capitals."""
    found = [w for w in re.findall(r"\w+", completion) if len(w) > 1 and w.isupper()]
    return within(len(found), least, most, "words in capitals")


def starts_and_ends(completion: str, answer: str, start: str = "", end: str = ""):
    text = completion.strip()
    inside = len(text) > len(start) + len(end)
    right = inside and text.startswith(start) and text.endswith(end)
    return right, f"it should start with {start!r} and end with {end!r}, and say something between"


def varied(completion: str, answer: str, share: float = 0.5):
    """At least this share of the words are different ones."""
    found = re.findall(r"\w+", completion.casefold())
    distinct = len(set(found)) / max(1, len(found))
    return distinct >= share, f"{distinct:.0%} of its words are different, wanted {share:.0%}"


def valid_json(completion: str, answer: str, keys: list[str] = ()):
    """The whole completion, or its one fenced block, parses as JSON; an object with at least these keys."""
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)```\s*", completion, re.DOTALL)
    try:
        value = json.loads(fenced[1] if fenced else completion)
    except (ValueError, RecursionError) as error:  # also for numbers of thousands of digits and deep nesting
        return False, f"not JSON: {error}"
    missing = [k for k in keys if not isinstance(value, dict) or k not in value]
    return not missing, f"missing keys: {', '.join(missing)}"


CONSTRAINTS = {
    "contains": contains,
    "avoids": avoids,
    "without": without,
    "words": words,
    "sentences": sentences,
    "paragraphs": paragraphs,
    "lines": lines,
    "bullets": bullets,
    "headings": headings,
    "highlights": highlights,
    "placeholders": placeholders,
    "versions": versions,
    "letters": letters,
    "capitals": capitals,
    "starts_and_ends": starts_and_ends,
    "varied": varied,
    "json": valid_json,
}
