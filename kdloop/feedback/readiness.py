"""How many of people's votes the next round can learn from, and why not all: shown before anybody starts one."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kdloop.feedback.examples import Example, from_feedback
from storage import feedback

MIN_EXAMPLES = 8  # one optimiser step, the batch of a Plan (methods/lora.py)
SILENT = "that say nothing alone"  # three stars of five, or the second of two merged rows


@dataclass(frozen=True)
class Readiness:
    """`votes`, `usable` and `held_out` count votes; `left_out` is reason -> votes. `pairs`, `likes` and `dislikes`
    count training examples, those of teachers' answers in chats included; `held_out_pairs` those held out."""

    votes: int
    usable: int
    held_out: int
    left_out: Counter
    pairs: int
    likes: int
    dislikes: int
    held_out_pairs: int = 0

    @property
    def enough(self) -> bool:
        """Enough for the method `auto`; kdloop.methods.choose has the last word."""
        both_ways = min(self.likes, self.dislikes) >= MIN_EXAMPLES / 2
        return both_ways or self.pairs + self.likes >= MIN_EXAMPLES


def readiness(db: Path) -> Readiness:
    split, votes = from_feedback(db), feedback.count_votes(db)[0]
    usable, held_out = rows(split.train), rows(split.held_out)
    silent = votes - usable - held_out - split.dropped.total()
    left_out = +(split.dropped + Counter({SILENT: max(0, silent)}))
    single = Counter(e.chosen is not None for e in split.train if not e.is_pair)
    both = sum(e.is_pair for e in split.train)
    kept = sum(e.is_pair for e in split.held_out)
    return Readiness(votes, usable, held_out, left_out, both, single[True], single[False], kept)


def rows(examples: Iterable[Example]) -> int:
    return len({id for e in examples if e.source == "human" for id in e.rows})
