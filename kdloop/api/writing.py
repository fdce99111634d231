"""A request's completions: which version writes, in which conversation they are stored, and how they grow.

A client sends its whole conversation with every request. What a person's messages before the last one are known from
goes on in that conversation; the same messages once more are another try of the same turn.
"""

import secrets
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from threading import Event

from kdloop import packs
from kdloop.api.access import Caller
from kdloop.api.bodies import Asked
from kdloop.api.refusals import Refusal
from kdloop.chat.turn import Reply, grown, in_step, stream
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student import Engine, NoLogprobs, Sample, Sampling
from kdloop.student.serving import UNFIT, Serving
from kdloop.student.template import Template
from kdloop.student.thinking import begun
from storage import checkpoints, conversations, receipts
from storage.checkpoints import Checkpoint
from storage.conversations import Message, Turn
from storage.database import new_id

CHAMPION = "kdloop"  # the name under which whatever version serves answers
SERVABLE = ("serving", "retired")  # statuses of checkpoints
MOST_TRIES = 32  # completions of one turn; who asks the same again gets a new conversation


@dataclass(frozen=True)
class Loop:
    """What the routes need of the app."""

    settings: Settings
    serving: Serving
    supervisor: Supervisor


def versions(loop: Loop) -> list[Checkpoint]:
    """Those that can be asked for by name, oldest first."""
    known = checkpoints.lineage(loop.settings.db)
    return [k for k in known if k.status in SERVABLE and k.version is not None and not k.pruned_at]


def version(loop: Loop, model: str) -> tuple[Engine, Checkpoint]:
    """Raises Refusal for an unknown name, or a version that cannot be loaded."""
    current = loop.serving.current()
    if model in (CHAMPION, current[1].name):
        return current
    found = [k for k in versions(loop) if k.name == model]
    if not found:
        text = f"There is no model {model!r}; GET /v1/models lists those that there are"
        raise Refusal(text, "model", 404, "model_not_found")
    try:
        return loop.serving.load(found[0]) if found[0].version == 0 else loop.serving.beside(found[0])
    except UNFIT as error:
        raise Refusal(f"{model} cannot be loaded: {error}", "model", 404, "model_not_found") from error


class UntilStop:
    """An engine whose completions end before one of the texts of `stop`. Such a completion is stored as cut: the
    student did not end its turn there."""

    def __init__(self, engine: Engine, stop: tuple[str, ...]):
        self.engine, self.stop, self.stopped = engine, stop, False

    def stream(self, prompt: list[Message], sampling: Sampling, seed: int, stop: Event) -> Iterator[str | Sample]:
        end, said = Event(), ""
        for piece in self.engine.stream(prompt, sampling, seed, end):
            if not isinstance(piece, Sample):
                if self.stopped:
                    continue
                if type(piece) is str:
                    said = self.before_stop(piece)
                    piece = said if self.stopped else said[: len(said) - begun(said, self.stop)]
                if self.stopped:
                    end.set()
                yield piece
            else:
                said = said.strip() if self.stopped else self.before_stop(piece.text)
                yield replace(piece, text=said, status="cut") if self.stopped else piece

    def before_stop(self, text: str) -> str:
        found = [at for at in (text.find(s) for s in self.stop) if at >= 0]
        self.stopped = bool(found)
        return text[: min(found)] if found else text


@dataclass
class Writing:
    """Completions under way. `prompt` is what the student reads of the messages, `disclaimers` belong beside them."""

    loop: Loop
    asked: Asked
    engine: Engine
    checkpoint: Checkpoint
    prompt: list[Message]
    person: str
    origin: str
    writers: list[UntilStop]
    disclaimers: list[str]

    @classmethod
    def begin(cls, loop: Loop, caller: Caller, asked: Asked) -> "Writing":
        """Nothing is stored yet. Raises Refusal, and ValueError for messages that the student cannot read."""
        engine, checkpoint = version(loop, asked.model)
        room = loop.settings.context_tokens, asked.sampling.max_tokens
        prompt = Template.of(engine.tokenizer).fit(asked.messages, *room)
        if asked.logprobs:
            try:
                engine.logprobs([prompt], [("Yes", False)])
            except NoLogprobs as error:
                raise Refusal(f"logprobs: {error}", "logprobs", code="unsupported_parameter") from error
        person = caller.person(loop.settings, asked.user)
        writers = [UntilStop(engine, asked.stop) for _ in range(asked.n)]
        disclaimers = [*packs.disclaimers(loop.settings.db, checkpoint).values()]
        return cls(loop, asked, engine, checkpoint, prompt, person, caller.origin, writers, disclaimers)

    def replies(self) -> Generator[tuple[Reply, ...], None, None]:
        """One for each of `n`, as they grow. Closing it ends them. While it runs a round is paused."""
        with self.loop.supervisor.yielding():
            turn = self.turn() if self.asked.stored else None
            streams = [self.stream(turn, i) for i in range(self.asked.n)]
            try:
                for replies in in_step(streams):
                    yield replies
                if turn:
                    said = [self.said([*self.asked.messages, reply_message(r)]) for r in replies]
                    receipts.remember(self.loop.settings.db, self.person, turn.id, said)
            finally:
                for one in streams:
                    one.close()

    def stream(self, turn: Turn | None, i: int) -> Generator[Reply, None, None]:
        seed = secrets.randbits(31) if self.asked.seed is None else self.asked.seed + i
        writer, sampling, stop = self.writers[i], self.asked.sampling, Event()
        if turn:
            yield from stream(self.loop.settings, writer, self.checkpoint, turn, stop, sampling, seed)
        else:
            first = Reply("", "", new_id(), "", "open", self.checkpoint)
            yield first
            yield from grown(writer, self.prompt, sampling, seed, stop, first)

    def turn(self) -> Turn:
        """The stored turn that these messages end in."""
        db, messages = self.loop.settings.db, self.asked.messages
        same = receipts.digest("asked", [[m["role"], m["content"].strip()] for m in messages])
        known = receipts.find_turn(db, self.person, same)
        if known and known[2] < MOST_TRIES:
            turn = conversations.turn(db, known[0])
            self.prompt = turn.prompt
            return turn
        before = receipts.find_turn(db, self.person, self.said(messages[:-1])) if len(messages) > 1 else None
        about = {"title": messages[-1]["content"].strip(), "origin": self.origin}
        conversation = before[1] if before else conversations.start_conversation(db, self.person, **about)
        turn = conversations.add_turn(db, conversation, self.prompt, next_to=before and before[0])
        receipts.remember(db, self.person, turn.id, [same])
        return turn

    @staticmethod
    def said(messages: list[Message]) -> str:
        """Without what is the system's: clients write the time of day there."""
        return receipts.digest("said", [[m["role"], m["content"].strip()] for m in messages if m["role"] != "system"])

    def logprobs(self, reply: Reply) -> list[dict]:
        """Of each token of the text, at temperature 1, as OpenAI lists them."""
        template, thought = Template.of(self.engine.tokenizer), reply.thought
        ids = template.completion_ids(reply.text, False, thought)
        scores = self.engine.logprobs([self.prompt], [(reply.text, False, thought)])[0]
        first = self.first_of_text(ids, reply.text)
        ends = [template.text(ids[first : i + 1]) for i in range(first, len(ids))]
        tokens = [end[len(before) :] for before, end in zip(["", *ends], ends, strict=False)]
        return [
            {"token": token, "logprob": score, "bytes": list(token.encode()), "top_logprobs": []}
            for token, score in zip(tokens, scores[first:], strict=True)
        ]

    def first_of_text(self, ids: list[int], text: str) -> int:
        """The index of the text's first id, after what the template or a thought puts before it. The first that
        spells it: the last byte of half a character reads like all of them. Else a token holds the lead's end too."""
        template = Template.of(self.engine.tokenizer)
        said = [i for i in range(len(ids)) if template.text(ids[i : i + 1])]
        exact = (i for i in said if template.text(ids[i:]) == text)
        after_lead = (i for i in reversed(said) if template.text(ids[i:]).strip() == text)
        return next(chain(exact, after_lead), len(ids))


def reply_message(reply: Reply) -> Message:
    return {"role": "assistant", "content": reply.text}
