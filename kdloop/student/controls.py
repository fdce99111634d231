"""Which tokens of a vocabulary are control tokens, and a mark that no text has."""

import re

PRIVATE_USE = range(0xF0000, 0xFFFFE)  # Unicode's: a character that no message has marks where text is split
HTML_TAG = re.compile(r"</?[a-z]+[1-6]?>")  # Gemma has them among its added tokens
BRACKETS = "<[{(｜|", ">]})｜|"


def is_control(token, template: str) -> bool:
    """Whether an added token is a control token: special, in the template, or in brackets. Added runs of blanks, words
    and HTML tags are text."""
    text = token.content
    if len(text) < 2 or text.isspace() or not (token.special or text in template or text[0] in BRACKETS[0]):
        return False
    return token.special or text in template or (text[-1] in BRACKETS[1] and not HTML_TAG.fullmatch(text))


def any_of(texts: list[str]) -> re.Pattern:
    """A pattern of any of the texts, the longest first, as tokenizers match them; of none, one that never matches."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")


def unused(*texts: str) -> str:
    """A private-use character that is in none of them."""
    return next(c for c in map(chr, PRIVATE_USE) if not any(c in text for text in texts))
