"""What simulated people like, for `bench votes_to_better`: `rate(prompt, completion) -> float`, higher is better.

EIGHT were written before anything was measured with them, and nothing was tuned on them. RELEVANCE and NUMBER are of
what a text says rather than how.
"""

import re

import numpy as np

from kdloop.evaluation.example_raters import concise
from kdloop.evaluation.voting import Rate
from kdloop.raters.features import embed, ends_sentence

NUMBERS = frozenset(
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "hundred", "thousand", "million")
)
HEDGES = frozenset(("may", "might", "maybe", "perhaps", "often", "usually", "sometimes", "could", "probably", "likely"))
SELF = frozenset(("i", "i'm", "i've", "i'd", "i'll", "me", "my", "mine", "myself"))
YOU = frozenset(("you", "your", "yours", "yourself", "you're", "you'll"))


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def share(text: str, of: frozenset[str]) -> float:
    """Of the words, those that are `of` these; 0 for no words."""
    said = words(text)
    return sum(w in of for w in said) / max(1, len(said))


def asks_back(prompt: str, completion: str) -> float:
    return float(completion.rstrip().endswith("?")) + 0.2 * min(completion.count("?"), 3)


def speaks_to_you(prompt: str, completion: str) -> float:
    return share(completion, YOU)


def keeps_out(prompt: str, completion: str) -> float:
    """No word of its own self, and an end."""
    return ends_sentence(completion) - 20 * share(completion, SELF)


def with_examples(prompt: str, completion: str) -> float:
    return min(2, len(re.findall(r"for example|for instance|such as|\blike\b|e\.g\.", completion.lower())))


def careful(prompt: str, completion: str) -> float:
    return share(completion, HEDGES)


def one_paragraph(prompt: str, completion: str) -> float:
    """Of some fifty words, without a list."""
    return -abs(len(words(completion)) - 50) - 15 * completion.strip().count("\n")


def many_short_sentences(prompt: str, completion: str) -> float:
    lengths = [len(words(s)) for s in re.split(r"[.!?]", completion) if words(s)]
    return -abs(float(np.mean(lengths)) - 8) if len(lengths) > 1 else -30.0


def rich_words(prompt: str, completion: str) -> float:
    """Long words, and hardly one twice."""
    said = words(completion)
    return (sum(len(w) for w in said) / len(said) + 4 * len(set(said)) / len(said)) if len(said) > 4 else 0.0


def relevance(prompt: str, completion: str) -> float:
    """Cosine of the sentence embeddings of prompt and completion."""
    asked, said = embed([prompt, completion])
    return float(asked @ said)


def names_a_number(prompt: str, completion: str) -> float:
    return float(any(w in NUMBERS for w in words(completion)) or bool(re.search(r"\d", completion)))


def asks_for_concise(prompt: str, completion: str) -> str:
    """What somebody writes next who likes CONCISE."""
    if not ends_sentence(completion):
        return "You stopped in mid-sentence. Please say it in one or two whole sentences."
    if (n := len(completion.split())) > 35:
        return "That is too long. Please say the same in about 25 words."
    return "A little more, please: one more sentence." if n < 15 else "Thank you, that is what I wanted to know."


EIGHT: tuple[Rate, ...] = (
    *(asks_back, speaks_to_you, keeps_out, with_examples),
    *(careful, one_paragraph, many_short_sentences, rich_words),
)
CONCISE, RELEVANCE, NUMBER = concise, relevance, names_a_number
