"""How a simulated person gives feedback: by choices, by thumbs, or by both as in a chat, now and then by mistake."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from kdloop.feedback import collect
from storage import conversations
from storage.conversations import Message, as_prompt

Rate = Callable[[str, str], float]  # of a completion of a prompt, higher is better
Tell = Callable[[str, str], str]  # what they write next
PERSON = "simulated person"
KINDS = ("choices", "thumbs", "mixed")
CHOICE_EVERY = 6  # of "mixed": so often two answers are compared in the chat (Settings.compare_every)
LEAST_SEEN = 4  # completions, before somebody knows what they like more than most


@dataclass
class Voter:
    """A person who likes by `rate`. Of a choice whose sides differ by no more than `margin` they say nothing; the share
    `flips` of what they say is the opposite. A thumb says whether a completion is better than half of those seen. By
    `tell` they write a message after each completion, the one that they chose or the first, from which a round learns
    in hindsight (knowledge/hindsight.py)."""

    rate: Rate
    margin: float = 0.0
    flips: float = 0.0
    kind: str = "choices"
    seed: int = 0
    tell: Tell | None = None
    seen: list[float] = field(default_factory=list)
    asked: int = 0

    def say(self, db: Path, question: str, left: tuple[str, str], right: tuple[str, str]) -> bool:
        """Give feedback on two completions, (id, text), of one prompt, or on the first alone; whether anything was."""
        self.asked += 1
        by_choice = self.kind == "choices" or (self.kind == "mixed" and self.asked % CHOICE_EVERY == 0)
        if self.tell:
            better = by_choice and self.rate(question, right[1]) > self.rate(question, left[1])
            self.write_next(db, question, right if better else left)
        return self.choose(db, question, left, right) if by_choice else self.thumb(db, question, left)

    def write_next(self, db: Path, question: str, completion: tuple[str, str]) -> None:
        turn = conversations.turn(db, conversations.completion(db, completion[0], PERSON).turn_id)
        said: Message = {"role": "assistant", "content": completion[1]}
        prompt = [*turn.prompt, said, *as_prompt(self.tell(question, completion[1]))]
        conversations.add_turn(db, turn.conversation_id, prompt, turn.id)

    def choose(self, db: Path, question: str, left: tuple[str, str], right: tuple[str, str]) -> bool:
        difference = self.rate(question, left[1]) - self.rate(question, right[1])
        if abs(difference) <= self.margin or not left[1] or not right[1]:
            return False
        side = "left" if (difference > 0) != self.is_mistaken(question) else "right"
        collect.choose(db, PERSON, left[0], right[0], side)
        return True

    def thumb(self, db: Path, question: str, completion: tuple[str, str]) -> bool:
        value, usual = self.rate(question, completion[1]), median(self.seen) if self.seen else 0.0
        self.seen.append(value)
        if len(self.seen) <= LEAST_SEEN or abs(value - usual) <= self.margin or not completion[1]:
            return False
        collect.thumb(db, PERSON, completion[0], (value > usual) != self.is_mistaken(question))
        return True

    def is_mistaken(self, question: str) -> bool:
        return random.Random(f"{self.seed} {question}").random() < self.flips
