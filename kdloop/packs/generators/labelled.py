"""Texts that get one of a few labels: sentences of our own with a slot (ZeroGen's task, Ye et al. 2022, without a
teacher). All sentences of a template are in one part."""

import random
from collections.abc import Iterator, Mapping, Sequence

from kdloop.packs.reading import Task

PARTS_OF_SIXTEEN = ("train",) * 9 + ("gate",) * 3 + ("heldout",) * 4  # of each label's templates


def tasks(
    draw: random.Random, prompt: str, sentences: Mapping[str, Sequence[str]], things: Sequence[str]
) -> Iterator[tuple[str, Task]]:
    """Each label's sixteen `sentences` with each of `things` at their {thing}; `prompt` has a place for the {labels},
    in an order of its own, and for the {text}."""
    labels = sorted(sentences)
    for label in labels:
        templates = list(sentences[label])
        draw.shuffle(templates)
        for part, template in zip(PARTS_OF_SIXTEEN, templates, strict=True):
            for thing in things:
                order = draw.sample(labels, len(labels))
                text = prompt.format(labels=", ".join(order), text=template.format(thing=thing))
                yield part, Task(text, label, ({"check": "label", "options": labels},))
