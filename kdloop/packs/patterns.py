"""Regular expressions that a pack brings: one that would not come to an end is given up after a second."""

import regex

SECONDS = 1.0


def search(pattern: str, text: str) -> str | None:
    """The first match, `^` and `$` at every line; None without one. Raises ValueError for what is no pattern,
    TimeoutError for one that takes longer than SECONDS on this text."""
    try:
        found = regex.search(pattern, text, regex.MULTILINE, timeout=SECONDS)
    except regex.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    except TimeoutError:
        raise TimeoutError(f"the pattern {pattern!r} takes longer than {SECONDS:g} s") from None
    return found and found[0]
