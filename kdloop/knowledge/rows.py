"""What every knowledge source is given, and how it writes what it found: ordinary turns, completions and feedback.

A row says who wrote the completion (checkpoint or teacher, with licence and terms), how it was prompted, who judged it,
and which round asked. Its conversation lies in the training part of the split; a prompt that a pack or a person holds
out is refused here already, and once more where examples are made (feedback/examples.py).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kdloop import packs
from kdloop.feedback.examples import Example, is_held_out, questions
from kdloop.packs import Pack, Task
from kdloop.raters.judge import Judge
from kdloop.raters.preference_model import PreferenceModel
from kdloop.raters.teacher import Teachers
from kdloop.student import Engine, Sample, Sampling
from storage import conversations
from storage.checkpoints import Checkpoint
from storage.conversations import Draft, Message, as_prompt
from storage.database import new_id
from storage.feedback import add_feedback
from storage.rounds import Round

CHUNK = 256  # completions between two notes of progress


class Refused(ValueError):
    "This source may not write what it would write now; the message says why"


@dataclass(frozen=True)
class SourceContext:
    """`writers` are the students that may be asked, the champion first; the rest is None or empty where there is none.

    `nth` counts the earlier rounds of the same recipe; `examples` are people's, of the training part.
    """

    db: Path
    round: Round
    writers: tuple[tuple[Engine, Checkpoint], ...]
    sampling: Sampling
    pack: Pack
    rater: PreferenceModel | None = None
    teachers: Teachers | None = None
    judge: Judge | None = None
    examples: Sequence[Example] = ()
    nth: int = 0
    on_step: Callable[[int, int], None] = lambda step, steps: None

    def draw(self, prompts: list[list[Message]], n: int, key: object, **sampling) -> list[list[Draft]]:
        """`n` student completions a prompt, each writer its share; `key` makes the seeds differ between calls."""
        sampling = replace(self.sampling, **sampling)
        share = -(-n // len(self.writers))
        groups: list[list[Draft]] = [[] for _ in prompts]
        for number, (engine, checkpoint) in enumerate(self.writers):
            flat = [p for p in prompts for _ in range(share)]
            seeds = seeds_of((self.round.seed, key, number), len(flat))
            for at in range(0, len(flat), CHUNK):
                part = slice(at, at + CHUNK)
                for i, sample in enumerate(engine.complete(flat[part], sampling, seeds[part]), at):
                    groups[i // share].append(by_student(sample, checkpoint, sampling, seeds[i]))
                self.on_step(number * len(flat) + min(at + CHUNK, len(flat)), len(flat) * len(self.writers))
        return [group[:n] for group in groups]

    def ask(self, tasks: Sequence[Task], n: int, key: object, **sampling) -> list[list[Draft]]:
        return self.draw([t.messages for t in tasks], n, key, **sampling)

    def write(
        self, prompt: str | list[Message], chosen: Draft | None = None, rejected: Draft | None = None, **values
    ) -> str:
        """Record one statement about completions of one prompt; the id of its feedback row. `values` as of `say`."""
        turn, ids = self.turn(prompt, [s for s in (chosen, rejected) if s])
        sides = {"chosen_id": ids[0] if chosen else None, "rejected_id": ids[-1] if rejected else None}
        return self.say(turn, **sides, **values)

    def turn(self, prompt: str | list[Message], said: Sequence[Draft]) -> tuple[str, list[str]]:
        """(turn, completions): record what was said to a prompt. Raises Refused for a held-out prompt."""
        prompt = as_prompt(prompt) if isinstance(prompt, str) else prompt
        question = prompt[-1]["content"]
        for asked in questions(prompt):
            if packs.normal(asked[-1]["content"]) in packs.held_out(*{"general", self.pack.name}):
                raise Refused(f"The prompt {asked[-1]['content'][:60]!r} is held out from training")
        conversation = conversations.start_conversation(self.db, f"round {self.round.id}", question, id=training_id())
        turn = conversations.add_turn(self.db, conversation, prompt)
        return turn.id, [conversations.add_draft(self.db, turn.id, d) for d in said]

    def say(self, turn_id: str, *, source: str, rater: str, channel: str = "ranking", **values) -> str:
        """One feedback row of this round; `values` are chosen_id, rejected_id, score, aspect, critique, reason."""
        return add_feedback(
            self.db, turn_id, rater=rater, channel=channel, source=source, round_id=self.round.id, **values
        )


def by_student(sample: Sample, checkpoint: Checkpoint, sampling: Sampling, seed: int, **how) -> Draft:
    """`how` says how it was prompted, where that is not the turn's own prompt (a template, a hint)."""
    sampled = {"sampling": asdict(sampling) | {"seed": seed} | how}
    columns = sample.measured | {"checkpoint_id": checkpoint.id} | sampled
    return Draft(sample.text, columns.pop("status"), "student", columns)


def with_how(said: Draft, **how) -> Draft:
    """The same completion, with a note of how it was prompted."""
    return replace(said, columns=said.columns | {"sampling": said.columns["sampling"] | how})


def seeds_of(key: object, n: int) -> list[int]:
    first = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:5], "big")
    return [first + i for i in range(n)]


def training_id() -> str:
    """A conversation id that the held-out hash leaves in the training part."""
    return next(id for id in iter(new_id, None) if not is_held_out(id))
