"""One chat turn: takes a message, streams the completion, and stores both with the checkpoint that answered.

The rows exist before the first token and get their final status in `finally`, so a stopped or interrupted reply leaves
a record, and an error message never becomes a completion."""

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event

from kdloop.chat import contest, measures
from kdloop.settings import Settings, current
from kdloop.student import Sample, Sampling, Thought
from kdloop.student.serving import Serving
from kdloop.student.template import Template
from storage import conversations, log
from storage.checkpoints import Checkpoint
from storage.conversations import Message, Turn, as_prompt

MAX_CHARACTERS = 8000  # of a message: about as many tokens as the student's context of 2048
BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")


@dataclass(frozen=True)
class Reply:
    """The completion so far, and its thought; `status` is open in all but the last one, which has the engine's
    sample."""

    conversation_id: str
    turn_id: str
    completion_id: str
    text: str
    status: str
    checkpoint: Checkpoint
    thought: str = ""
    sample: Sample | None = None


@dataclass(frozen=True)
class Place:
    """Where a message goes: into a new conversation if the id is None; to the end of the branch through the turn
    `after`, or else of the open one; or in place of the turn `instead_of`, as another branch (storage/branches.py)."""

    conversation_id: str | None = None
    after: str | None = None
    instead_of: str | None = None


def messages(db: Path, place: Place, person: str) -> list[Message]:
    """The conversation so far, as the model sees it: without replies that are still streaming to another page. Raises
    UnknownRow if the conversation is not the person's."""
    out, id = [], place.conversation_id
    for turn, completion in conversations.history(db, id, person, place.instead_of or place.after) if id else ():
        if turn.id == place.instead_of:
            return out
        if completion.status != "open":
            out += [turn.prompt[-1], completion.message]
    if place.instead_of:
        raise conversations.UnknownRow(f"No turn {place.instead_of!r} in this conversation: reload the page")
    return out


def say(settings: Settings, serving: Serving, place: Place, person: str, text: str, stop: Event) -> Iterator[Reply]:
    """Add a user message and stream the student's completion. `stop` ends it early; the text so far is kept. Raises
    ValueError as `add_message`."""
    engine, checkpoint = serving.current()
    turn = add_message(settings, engine, place, person, text)
    yield from stream(settings, engine, checkpoint, turn, stop)


def say_twice(
    settings: Settings, serving: Serving, place: Place, person: str, text: str, stop: Event
) -> Iterator[tuple[Reply, Reply]]:
    """Add a user message, as `say` does, and stream two completions to choose from, without a name: see contest.py."""
    sides = contest.sides(settings.db, serving)
    turn = add_message(settings, sides[0][0], place, person, text)
    grown = in_step([stream(settings, engine, checkpoint, turn, stop) for engine, checkpoint in sides])
    yield from contest.recorded(settings.db, grown)


def in_step(streams: list[Iterator[Reply]]) -> Iterator[tuple[Reply, ...]]:
    """Several streams at the pace of the slowest."""
    latest = [next(s) for s in streams]
    while any(reply.status == "open" for reply in latest):
        latest = [next(s, reply) for s, reply in zip(streams, latest, strict=True)]
        yield tuple(latest)


def is_time_to_compare(settings: Settings, person: str) -> bool:
    """Whether this message of the person gets two completions: every N-th does, by `Settings.compare_every`, and more
    often while a challenger is on trial."""
    every = contest.compares_every(settings.db, current(settings).compare_every)
    return every > 0 and (conversations.count_turns(settings.db, person) + 1) % every == 0


def add_message(settings: Settings, engine, place: Place, person: str, text: str, kind: str = "chat") -> Turn:
    """The new turn; a new conversation is of this kind. Raises ValueError for an empty or over-long message, before
    anything is stored."""
    text, db = clean_message(text), settings.db
    past = messages(db, place, person)
    prompt = Template.of(engine.tokenizer).fit(
        [*past, *as_prompt(text)], settings.context_tokens, current(settings).max_tokens
    )
    conversation_id = place.conversation_id or conversations.start_conversation(db, person, text, kind=kind)
    return conversations.add_turn(db, conversation_id, prompt, place.after, place.instead_of)


def clean_message(text: str) -> str:
    """The message without leading blank lines and trailing white space; the first line keeps its indentation, as code
    needs it. Raises ValueError if it is empty or over-long."""
    text = BLANK_LINES.sub("", str(text or "").rstrip())
    if not text:
        raise ValueError("Type a message first")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"The message has {len(text)} characters; at most {MAX_CHARACTERS} are read")
    return text


def retry(settings: Settings, serving: Serving, completion_id: str, person: str, stop: Event) -> Iterator[Reply]:
    """Stream another completion of the same turn; the former one is kept, for a comparison.

    Raises ValueError unless it is the conversation's last turn: later messages answer the former completion.
    """
    former = conversations.completion(settings.db, completion_id, person)
    if former.status == "open":
        raise ValueError("This answer is still being written: stop it first")
    turn = conversations.turn(settings.db, former.turn_id)
    if not conversations.is_last(settings.db, turn):
        raise ValueError("This conversation went on elsewhere: open it again from the sidebar")
    engine, checkpoint = serving.current()
    yield from stream(settings, engine, checkpoint, turn, stop)


def stream(
    settings: Settings,
    engine,
    checkpoint: Checkpoint,
    turn: Turn,
    stop: Event,
    sampling: Sampling | None = None,
    seed: int | None = None,
) -> Iterator[Reply]:
    """The student's completion of a stored turn; its row is updated however the stream ends. `sampling` is the page's
    where none is given, and `seed` a random one."""
    sampling = sampling or Sampling(current(settings).max_tokens)
    seed = secrets.randbits(31) if seed is None else seed
    id = conversations.add_completion(
        settings.db,
        turn.id,
        "student",
        checkpoint_id=checkpoint.id,
        status="open",
        sampling=asdict(sampling) | {"seed": seed},
    )
    reply, end = Reply(turn.conversation_id, turn.id, id, "", "open", checkpoint), {"status": "failed"}
    start = time.monotonic()
    try:
        yield reply
        replies = grown(engine, turn.prompt, sampling, seed, stop, reply)
        for reply in replies:
            end = reply.sample.measured if reply.sample else end
            yield reply
    except GeneratorExit:  # the person pressed Stop or left the page, or nobody asks for what comes after the sample
        end = reply.sample.measured if reply.sample else {"status": "stopped", "seconds": time.monotonic() - start}
        raise
    finally:
        said = {"text": reply.text.strip(), "thought": reply.thought.strip()}
        conversations.finish_completion(settings.db, id, **said | end)
        measures.count(**end)
        counted = {k: v for k, v in end.items() if k != "thought"}
        log.event("reply", completion=id, version=checkpoint.name, **counted)


def grown(engine, prompt: list[Message], sampling: Sampling, seed: int, stop: Event, reply: Reply) -> Iterator[Reply]:
    """The reply as the engine writes it."""
    for piece in engine.stream(prompt, sampling, seed, stop):
        if isinstance(piece, Sample):
            reply = replace(reply, text=piece.text, thought=piece.thought, status=piece.status, sample=piece)
        elif isinstance(piece, Thought):
            reply = replace(reply, thought=str(piece))
        else:
            reply = replace(reply, text=piece)
        yield reply
