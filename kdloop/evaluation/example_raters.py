"""Three raters for `python -m kdloop simulate`: `rate(prompt, completion) -> float`, higher is better."""

import re


def concise(prompt: str, completion: str) -> float:
    """A complete answer of about 25 words; beyond 60 words, or cut off, all are equally bad."""
    words = len(completion.split())
    ended = completion.rstrip().endswith((".", "!", "?", '"', ")"))
    return -min(abs(words - 25), 35) - (0 if ended else 35)


def plain_language(prompt: str, completion: str) -> float:
    """Short words in short sentences."""
    words = re.findall(r"[A-Za-z']+", completion) or ["x" * 12]
    sentences = max(1, len(re.findall(r"[.!?]", completion)))
    return -sum(map(len, words)) / len(words) - len(words) / sentences / 10


def lists(prompt: str, completion: str) -> float:
    """Bullets or numbered points, up to five of them."""
    points = sum(bool(re.match(r"\s*([-*•]|\d+[.)])\s", line)) for line in completion.splitlines())
    return min(points, 5)
