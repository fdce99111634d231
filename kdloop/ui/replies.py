"""Replies as the page shows them: frames of a completion that grows, and the states of the message box.

A handler that streams is a generator; closing it (Stop, a closed tab) ends the completion at its next token. `state` is
the session's own and is changed in place, so that what another event changes at the same time is not undone. In it,
`writing` are the ids of completions under way, `compared` the two to choose from, and `left` says that the person has
turned to another conversation. `conversation` and `turn` are what the page shows: the id, and a turn of the branch
(None: the open one). `instead_of` is the turn whose message the next one replaces, as another branch, and `edited` that
message's position in the chat.
"""

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import TypeVar

import gradio as gr

from kdloop.chat import chosen, delegation
from kdloop.chat.turn import Place, Reply, is_time_to_compare, say_twice
from kdloop.chat.turn import retry as complete_again
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.ui import comparison, zerogpu
from kdloop.ui.session import REFUSED, paced, person, refusal, refused
from kdloop.ui.transcript import (
    CUT_IN_THOUGHT,
    assistant_message,
    chatbot,
    completion_shown,
    message_asked,
    open_chat,
    thumbs,
    transcript,
)
from kdloop.ui.words import tell
from storage import conversations

FRAME_SECONDS = 1 / 15  # between two frames: smooth to read, and each sends the whole conversation again
STOPS_WITHIN_SECONDS = 3  # an engine ends at its next token; one that reads a long prompt takes seconds for the first
WHICH = "Two answers this time: which do you prefer?"
ONE_VERSION = "Two answers of one version this time: which do you prefer?"
RETRYING = " "  # what waits for a reply during a retry: no message

# an own message that was edited: the completion after it, its new text, its position, and a number by which an edit of
# today is another one than the same of yesterday
Edited = tuple[str | None, str, int | None, str]
T = TypeVar("T")


def begin(text: str, waiting: str):
    """A message was sent: (the message box, what waits for a reply)."""
    if not (text or "").strip():
        raise refused("Type a message first")
    if waiting:
        raise refused("Your message before this one still waits for its answer")
    return gr.Textbox(value="", submit_btn=False, stop_btn=tell("Stop")), text


def busy(waiting: str):
    """A retry begins: as `begin`."""
    if waiting:
        raise refused("Your message before this one still waits for its answer")
    return gr.Textbox(submit_btn=False, stop_btn=tell("Stop")), RETRYING


def anew(settings: Settings, again: Edited | None, waiting: str, state: dict):
    """A person's own message was edited. As `begin`, where the box keeps its draft."""
    completion, text, at, _ = again or (None, "", None, "")  # whoever calls the endpoint has edited nothing
    _, pending = begin(text, waiting)
    if not completion:
        raise refused("Choose between the two answers first")
    try:
        state["instead_of"] = conversations.completion(settings.db, completion, person(state)).turn_id
    except REFUSED as error:
        raise refusal(error) from error
    state.update(edited=at, left=False)
    return gr.Textbox(submit_btn=False, stop_btn=tell("Stop")), pending


def put_back(settings: Settings, again: Edited | None, state: dict):
    """What could not be asked anew stays in its editor."""
    _, text, at, _ = again or (None, "", None, "")
    return reopened(at, text), open_chat(settings, state, writing=None)


def reopened(at: int | None, text: str):
    """For page.js: the editor of the message at that position, with this text."""
    return gr.skip() if at is None or not text.strip() else json.dumps([at, text, secrets.token_hex(4)])


def ready():
    """A reply has come to its end: (the message box, what waits, the chat)."""
    return gr.Textbox(submit_btn=tell("Send"), stop_btn=False), "", gr.Chatbot(elem_classes=[])


def free(settings: Settings, typed: str, waiting: str, state: dict):
    """A reply was stopped, refused, or broke off: the page takes the next message. The completion so far stays; a
    message without any comes back into its box, before what was typed since, or into the editor that it came from."""
    ids, deadline = state.get("writing", ()), time.monotonic() + STOPS_WITHIN_SECONDS
    while "open" in (ends := conversations.statuses(settings.db, ids)) and time.monotonic() < deadline:
        time.sleep(0.05)  # until the engine has ended, and what it wrote is stored
    unanswered = waiting.strip() and all(status == "failed" for status in ends)
    edited = state.get("edited") if unanswered and not state.get("left") else None
    in_box = unanswered and edited is None
    box = {"value": "\n".join(filter(None, [waiting, typed]))} if in_box else {}
    state.update(compared=None, preferred=None, writing=(), instead_of=None, edited=None)
    box = gr.Textbox(submit_btn=tell("Send"), stop_btn=False, **box)
    return box, "", open_chat(settings, state), reopened(edited, waiting), *comparison.hidden()


@contextmanager
def replying(settings: Settings, supervisor: Supervisor, state: dict) -> Iterator[tuple[str, Event]]:
    """(the person, the event that stops the engine): it is set at the end. Within the block a round is paused, and
    refusals become toasts."""
    state.update(compared=None, preferred=None, writing=(), left=False)
    me, stop = paced(settings, state, "messages"), Event()
    try:
        with supervisor.places.waited_for(), supervisor.yielding():
            yield me, stop
    except REFUSED as error:
        raise refusal(error) from error
    finally:
        stop.set()


def reply(settings: Settings, serving: Serving, supervisor: Supervisor, text: str, state: dict):
    """The reply as it grows: one completion, or two to choose from."""
    place = Place(state.get("conversation"), state.get("turn"), state.get("instead_of"))
    state["instead_of"] = None
    with replying(settings, supervisor, state) as (me, stop):
        past = transcript(settings, me, place.conversation_id, place.after, until=place.instead_of)
        liked = thumbs(settings, me, place.conversation_id)
        champion = zerogpu.champion(settings, chosen.by(serving, me), state)
        write = write_two if is_time_to_compare(settings, me) else write_one
        for messages, *sides in write(settings, champion, me, place, text, state, stop):
            yield frame([*past, *messages], liked), state, state["conversation"], *sides
            liked = None


def write_one(
    settings: Settings, serving: Serving, me: str, place: Place, text: str, state: dict, stop: Event
) -> Iterator[tuple]:
    """(messages to show, *the comparison's components), of a single completion."""
    asked = None
    for grown in frames(delegation.say(settings, serving, place, me, text, stop)):
        now_writing(state, grown)
        asked = asked or message_asked(settings, text, grown)
        message = assistant_message(grown.text, grown.completion_id, grown.thought, grown.status == "open")
        yield [asked, message], *comparison.hidden()


def write_two(
    settings: Settings, serving: Serving, me: str, place: Place, text: str, state: dict, stop: Event
) -> Iterator[tuple]:
    """The same of two completions side by side; the chat continues with the one that the person chooses."""
    asked, which = [], ""
    for left, right in frames(say_twice(settings, serving, place, me, text, stop)):
        now_writing(state, left, right)
        asked = asked or [message_asked(settings, text, left)]
        which = tell(ONE_VERSION if left.checkpoint.id == right.checkpoint.id else WHICH)
        yield asked, *comparison.shown(answer(left), answer(right), which, done=False)
    both = bool(left.text and right.text)  # one that was cut in its thought is no answer
    state.update(compared=state["writing"] if both else None)
    yield asked, *comparison.shown(answer(left), answer(right), which, done=both)


def retry(settings: Settings, serving: Serving, supervisor: Supervisor, messages: list[dict], state: dict):
    """Another completion in place of the one that the chat shows last, which is the current one from then on; the two
    can be compared."""
    with replying(settings, supervisor, state) as (me, stop):
        former = conversations.completion(settings.db, completion_shown(messages), me)
        past, liked, champion = None, {}, zerogpu.champion(settings, chosen.by(serving, me), state)
        for grown in frames(complete_again(settings, champion, former.id, me, stop)):
            if past is None:
                now_writing(state, grown)
                past = transcript(settings, me, grown.conversation_id, grown.turn_id)[:-1]
                liked = thumbs(settings, me, grown.conversation_id)
            message = assistant_message(grown.text, grown.completion_id, grown.thought, grown.status == "open")
            bot = frame([*past, message], liked)
            yield bot, state, state["conversation"], *comparison.hidden()
            liked = None
        if former.author == "student" and former.text and grown.text:
            state.update(compared=(former.id, grown.completion_id))
            both = comparison.shown(former.text, grown.text, tell("Which is better?"), True)
            yield gr.skip(), state, gr.skip(), *both


def answer(reply: Reply) -> str:
    """Of two side by side, whose thoughts are not shown: people choose between answers."""
    thinks = reply.thought and not reply.text
    return (tell("Thinking…") if reply.status == "open" else tell(CUT_IN_THOUGHT)) if thinks else reply.text


def now_writing(state: dict, *replies: Reply) -> None:
    """Whoever has turned to another conversation in the meantime is not brought back."""
    state["writing"] = tuple(r.completion_id for r in replies)
    if not state.get("left"):
        state.update(conversation=replies[0].conversation_id, turn=replies[0].turn_id)


def frame(messages: list[dict], liked: dict[str, bool] | None) -> gr.Chatbot:
    """A chat that is being written. The first time with the thumbs: later on, others may have been given."""
    return gr.Chatbot(value=messages) if liked is None else chatbot(messages, liked, writing=True)


def frames(replies: Iterator[T]) -> Iterator[T]:
    """Of replies that only grow, or of pairs of them, as many as a screen needs; always the last one."""
    at, last, sent = 0.0, None, None
    for last in replies:
        if time.monotonic() - at > FRAME_SECONDS:
            at, sent = time.monotonic(), last
            yield last
    if last is not sent:
        yield last
