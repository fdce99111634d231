"""Generators of our own: a function each, (size, seed, **options) -> {part: tasks}; the same in every process.

What makes two prompts the same task (a sentence's template, an element, the records of a passage) lies in one part, so
that nothing of it is trained on and measured. `size` bounds the tasks of all parts together.
"""

import random
from collections.abc import Callable, Iterable, Iterator

from kdloop.packs.generators import (
    boundaries,
    clauses,
    clinics,
    instructions,
    intents,
    judging,
    ledger,
    logs,
    notes,
    passages,
    plans,
    purchases,
    reviews,
    science,
    subjects,
    summaries,
    tools,
)
from kdloop.packs.reading import PARTS, Task

GENERATORS: dict[str, Callable[..., Iterator[tuple[str, Task]]]] = {
    "boundaries": boundaries.tasks,
    "clauses": clauses.tasks,
    "clinics": clinics.tasks,
    "instructions": instructions.tasks,
    "intents": intents.tasks,
    "judging": judging.tasks,
    "ledger": ledger.tasks,
    "logs": logs.tasks,
    "notes": notes.tasks,
    "passages": passages.tasks,
    "plans": plans.tasks,
    "purchases": purchases.tasks,
    "reviews": reviews.tasks,
    "science": science.tasks,
    "subjects": subjects.tasks,
    "summaries": summaries.tasks,
    "tools": tools.tasks,
}


def generate(name: str, size: int, seed: int, options: dict) -> dict[str, list[Task]]:
    """Raises ValueError for an unknown generator or option."""
    if name not in GENERATORS:
        raise ValueError(f"No generator {name!r}; there are {', '.join(GENERATORS)}")
    try:
        found = list(GENERATORS[name](random.Random(seed), **options))
    except TypeError as error:  # an option that it has not
        raise ValueError(f"The generator {name}: {error}") from error
    return by_part(drawn(found, size, random.Random(seed)))


def drawn(found: list[tuple[str, Task]], size: int, draw: random.Random) -> list[tuple[str, Task]]:
    """`size` of them, shuffled: who takes the first n of a part has all kinds of its tasks."""
    return draw.sample(found, min(len(found), size))


def by_part(found: Iterable[tuple[str, Task]]) -> dict[str, list[Task]]:
    parts: dict[str, list[Task]] = {part: [] for part in PARTS}
    seen = set()
    for part, task in found:
        if task.prompt not in seen:
            parts[part].append(task)
            seen.add(task.prompt)
    return parts
