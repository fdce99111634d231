"""Regular expressions that a pack brings: one that would not come to an end is refused, or given up after a second."""

import re
from math import prod

import regex

SECONDS = 1.0  # of a search
MOST_REPEATS = 10_000  # of all counts in braces multiplied: (a{100}){100} is compiled at once, five such levels never
MOST_CHARACTERS = 1000
COUNTS = re.compile(r"\{\s*(\d*)\s*,?\s*(\d*)\s*\}")


def search(pattern: str, text: str) -> str | None:
    """The first match, `^` and `$` at every line; None without one. Raises ValueError for what is no pattern or a too
    large one, TimeoutError for one that takes longer than SECONDS on this text."""
    if len(pattern) > MOST_CHARACTERS or prod(map(most, COUNTS.findall(pattern))) > MOST_REPEATS:
        raise ValueError(f"The pattern {pattern[:80]!r} is too large")
    try:
        found = regex.search(pattern, text, regex.MULTILINE, timeout=SECONDS)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    except TimeoutError:
        raise TimeoutError(f"the pattern {pattern!r} takes longer than {SECONDS:g} s") from None
    return found and found[0]


def most(count: tuple[str, str]) -> int:
    """The greater number of {m,n}; at least 1."""
    return max(1, *(int(n or 1) for n in count))
