"""The context of a knowledge source, and how it writes rows: ordinary turns, completions and feedback.

A row records who wrote the completion (checkpoint or teacher, with licence and terms), how it was prompted, who judged
it, and the round. Its conversation belongs to the training part of the split; a pack's held-out prompt is refused here,
and held-out prompts of packs and people once more where examples are made (feedback/examples.py).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from kdloop import packs
from kdloop.feedback.examples import Example, questions
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
from storage.split import is_held_out

PROGRESS_CHUNK = 256  # completions between two progress notes: some ten seconds
PROGRESS_CHUNK_CPU = 64  # the batch that a CPU decodes at once: more would bring no speed


class Refused(ValueError):
    "The source cannot or may not write rows; the message says why"


@dataclass(frozen=True)
class SourceContext:
    """`writers` are the students to sample from, the champion first. What a round does not have is None or empty.

    `examples` are people's, of the training part; `nth` is the number of promoted rounds of the same recipe;
    `hindsight` says whether the owner lets rounds learn from what people write next; `on_step` takes (completions so
    far, of all).
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
    hindsight: bool = False
    on_step: Callable[[int, int], None] = lambda step, steps: None

    def draw(self, prompts: list[list[Message]], n: int, key: object, **sampling) -> list[list[Draft]]:
        """`n` student completions per prompt, an equal share from each writer; seeds depend on the round and on
        `key`."""
        sampling = replace(self.sampling, **sampling)
        share = -(-n // len(self.writers))
        groups: list[list[Draft]] = [[] for _ in prompts]
        all, chunk = share * len(prompts) * len(self.writers), PROGRESS_CHUNK
        if not torch.cuda.is_available():
            chunk = PROGRESS_CHUNK_CPU
        self.on_step(0, all)
        for number, (engine, checkpoint) in enumerate(self.writers):
            flat = [p for p in prompts for _ in range(share)]
            seeds = seeds_of((self.round.seed, key, number), len(flat))
            for at in range(0, len(flat), chunk):
                part = slice(at, at + chunk)
                for i, sample in enumerate(engine.complete(flat[part], sampling, seeds[part]), at):
                    groups[i // share].append(by_student(sample, checkpoint, sampling, seeds[i]))
                self.on_step(number * len(flat) + min(at + chunk, len(flat)), all)
        return [group[:n] for group in groups]

    def ask(self, tasks: Sequence[Task], n: int, key: object, **sampling) -> list[list[Draft]]:
        """`draw` for the prompts of tasks."""
        return self.draw([t.messages for t in tasks], n, key, **sampling)

    def write(
        self, prompt: str | list[Message], chosen: Draft | None = None, rejected: Draft | None = None, **values
    ) -> str:
        """Store completions of one prompt and one feedback row about them; the row's id. `values` as for `say`."""
        turn, ids = self.turn(prompt, [s for s in (chosen, rejected) if s])
        sides = {"chosen_id": ids[0] if chosen else None, "rejected_id": ids[-1] if rejected else None}
        return self.say(turn, **sides, **values)

    def turn(self, prompt: str | list[Message], drafts: Sequence[Draft]) -> tuple[str, list[str]]:
        """Store completions of a prompt: the ids of (turn, completions). Raises Refused for a held-out prompt."""
        prompt = as_prompt(prompt) if isinstance(prompt, str) else prompt
        question = prompt[-1]["content"]
        for earlier in questions(prompt):
            if packs.normal(earlier[-1]["content"]) in packs.held_out(*{"general", self.pack.name}):
                raise Refused(f"The prompt {earlier[-1]['content'][:60]!r} is held out from training")
        conversation = conversations.start_conversation(self.db, f"round {self.round.id}", question, id=training_id())
        turn = conversations.add_turn(self.db, conversation, prompt)
        return turn.id, [conversations.add_draft(self.db, turn.id, d) for d in drafts]

    def say(self, turn_id: str, *, source: str, rater: str, channel: str = "ranking", **values) -> str:
        """Store one feedback row of this round; `values` are chosen_id, rejected_id, score, aspect, critique,
        reason."""
        return add_feedback(
            self.db, turn_id, rater=rater, channel=channel, source=source, round_id=self.round.id, **values
        )


def by_student(sample: Sample, checkpoint: Checkpoint, sampling: Sampling, seed: int, **how) -> Draft:
    """The sample as a completion to store; `how` describes a prompt other than the turn's own (a template, a hint)."""
    sampled = {"sampling": asdict(sampling) | {"seed": seed} | how}
    columns = sample.measured | {"checkpoint_id": checkpoint.id} | sampled
    return Draft(sample.text, columns.pop("status"), "student", columns)


def with_how(draft: Draft, **how) -> Draft:
    """The draft with a note of how it was prompted."""
    return replace(draft, columns=draft.columns | {"sampling": draft.columns["sampling"] | how})


def seeds_of(key: object, n: int) -> list[int]:
    """`n` consecutive seeds from a hash of the key."""
    first = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:5], "big")
    return [first + i for i in range(n)]


def training_id() -> str:
    """A new conversation id that the hash of the split assigns to training."""
    return next(id for id in iter(new_id, None) if not is_held_out(id))
