"""Topics shared out to the parts of a pack, each to one."""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def parted(draw: random.Random, topics: Sequence[T], sizes: Mapping[str, int]) -> Iterator[tuple[str, list[T]]]:
    """The shuffled topics, as many to each part."""
    rest = iter(draw.sample(topics, len(topics)))
    yield from ((part, list(islice(rest, n))) for part, n in sizes.items())
