"""Questions about numbered passages: one of them answers, others are about like things, or none does (RAFT's setting,
Zhang et al. 2024). The places are made up, so that nothing but the passages helps; a place is in one part alone."""

import random
from collections.abc import Iterator, Sequence

from kdloop.packs.reading import Task

NOT_THERE = "That is not in the documents."
FROM_PASSAGES = """Answer from these passages only, and name the passage by its number. Where none of them answers, say:
{not_there}

{passages}

{question}"""
SHOWN = 3  # passages of a prompt
ABSENT = 0.25  # share of prompts that no passage answers
SYLLABLES = (
    ("Bar", "Cal", "Dun", "El", "Fen", "Gor", "Hal", "Is", "Kel", "Lor", "Mar", "Nor", "Os", "Pel", "Quin", "Ros"),
    ("a", "e", "i", "o", "u", "en", "in", "or", "al", "er"),
    ("bridge", "dale", "field", "ford", "ham", "holm", "mouth", "stead", "ton", "wick"),
)
FACTS = {  # attribute -> (sentence, question, values)
    "river": (
        "The river {value} runs past its old mill.",
        "Which river runs past the mill of {place}?",
        ("Arden", "Bruen", "Corve", "Dessel", "Erren", "Fosk", "Gannel", "Hesper", "Immer", "Jarrow"),
    ),
    "founder": (
        "It was founded by {value}, a weaver.",
        "Who founded {place}?",
        (
            "Ada Brandt",
            "Bela Kovan",
            "Carl Ostrow",
            "Dina Reyes",
            "Emil Sand",
            "Frida Holm",
            "Gil Amaro",
            "Hana Vesely",
        ),
    ),
    "year": (
        "The market hall dates from {value}.",
        "From which year does the market hall of {place} date?",
        tuple(str(year) for year in range(1702, 1899, 7)),
    ),
    "goods": (
        "People there make {value} for the whole valley.",
        "What do people in {place} make?",
        ("candles", "barrels", "clocks", "ropes", "bells", "lanterns", "saddles", "pottery", "violins", "cheese"),
    ),
    "people": (
        "At the last count {value} people lived there.",
        "How many people lived in {place} at the last count?",
        tuple(str(n) for n in range(312, 4900, 83)),
    ),
    "colour": (
        "All its doors are painted {value}.",
        "Which colour are the doors in {place}?",
        ("blue", "green", "red", "yellow", "white", "black", "orange", "purple"),
    ),
}
PARTS_OF_TWENTY = ("train",) * 12 + ("gate",) * 3 + ("heldout",) * 5


def with_passages(question: str, passages: Sequence[str]) -> str:
    """The prompt of a question with passages, numbered from 1, to answer it from."""
    numbered = "\n\n".join(f"[{i}] {passage}" for i, passage in enumerate(passages, 1))
    return FROM_PASSAGES.format(not_there=NOT_THERE, passages=numbered, question=question)


def tasks(draw: random.Random, places: int = 1200) -> Iterator[tuple[str, Task]]:
    """A question about each of `places` made-up places."""
    names = sorted({a + b + c for a in SYLLABLES[0] for b in SYLLABLES[1] for c in SYLLABLES[2]})
    draw.shuffle(names)
    for i, place in enumerate(names[:places]):
        # the others shown are of the same part: the names beside it in steps of twenty
        others = [names[(i + 20 * step) % (len(names) // 20 * 20)] for step in range(1, SHOWN + 1)]
        yield PARTS_OF_TWENTY[i % 20], question_about(draw, place, others)


def question_about(draw: random.Random, place: str, others: list[str]) -> Task:
    """With the passage of the place among `others`, or, for a share of ABSENT, with those alone."""
    asked, beside = draw.choice(list(FACTS)), draw.sample(list(FACTS), 2)
    values = draw.sample(FACTS[asked][2], SHOWN + 1)
    texts = [passage(draw, name, asked, value, beside) for name, value in zip([place, *others], values, strict=True)]
    absent = draw.random() < ABSENT
    shown = texts[1:] if absent else texts[:SHOWN]
    draw.shuffle(shown)
    prompt = with_passages(FACTS[asked][1].format(place=place), shown)
    if absent:
        checks = {"check": "contains", "words": [NOT_THERE.rstrip(".")]}, {"check": "avoids", "words": values}
        return Task(prompt, NOT_THERE, (*checks, {"check": "cites", "passages": []}))
    number = shown.index(texts[0]) + 1
    others = {"check": "avoids", "words": [*values[1:], "not in the documents"]}
    checks = {"check": "contains", "words": values[:1]}, others
    return Task(prompt, f"{values[0]} [{number}]", (*checks, {"check": "cites", "passages": [number]}))


def passage(draw: random.Random, place: str, asked: str, value: str, beside: list[str]) -> str:
    """Three or two sentences about a place; one of them is of what is asked."""
    facts = {name: draw.choice(FACTS[name][2]) for name in beside if name != asked} | {asked: value}
    sentences = [FACTS[name][0].format(value=v) for name, v in facts.items()]
    draw.shuffle(sentences)
    return f"{place} is a small town. {' '.join(sentences)}"
