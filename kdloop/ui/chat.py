"""The Chat tab: streaming, stop, thumbs with undo, and editing a completion as a correction."""

import time
from functools import partial
from threading import Event

import gradio as gr

from kdloop import chat, collect
from kdloop.settings import Settings
from kdloop.student import PromptTooLong
from kdloop.student.serving import Serving
from kdloop.supervisor import Supervisor
from kdloop.ui.session import PRIVATE, person, refusal
from storage import checkpoints, conversations, feedback
from storage.conversations import UnknownRow

EXAMPLES = ["What should I cook with two eggs and rice?", "Explain tides to a child.", "Help me plan a quiet Sunday."]
FRAME_SECONDS = 1 / 15
REFUSED = (ValueError, PromptTooLong, UnknownRow)


def build(settings: Settings, serving: Serving, supervisor: Supervisor, state: gr.State) -> None:
    def on_like(state: dict, event: gr.LikeData):  # Gradio finds event data by annotation, which a partial hides
        like(settings, state, event)

    def on_edit(state: dict, event: gr.EditData):
        return edit(settings, state, event)

    head = gr.Markdown(header(settings), elem_classes="kd-head", elem_id="header")
    bot = gr.Chatbot(
        label="Chat with the student",
        height="60vh",
        group_consecutive_messages=False,
        editable="all",
        buttons=["copy"],
        feedback_options=("Like", "Dislike"),
        examples=[{"text": t} for t in EXAMPLES],
        placeholder="### Ask the student something\nRate its answer with the thumbs, or edit it into a better one.",
    )
    box = gr.Textbox(
        label="Message",
        show_label=False,
        placeholder="Message… (Enter sends)",
        submit_btn="Send",
        stop_btn=False,
        max_length=chat.MAX_CHARACTERS,
    )
    fresh = gr.Button("New conversation", size="sm")
    pending = gr.State("")
    reply = partial(stream, settings, serving, supervisor)
    sent = box.submit(begin, [box, state], [box, pending], concurrency_limit=None, **PRIVATE)
    answer = sent.success(
        named(reply, "reply"),
        [pending, state],
        [bot, state, pending],
        concurrency_id="gen",
        concurrency_limit=1,
        **PRIVATE,
    )
    answer.then(ready, None, box, queue=False, **PRIVATE)
    box.stop(None, None, None, cancels=[answer]).then(ready, None, box, queue=False, **PRIVATE)
    bot.example_select(pick, None, box, queue=False, **PRIVATE)
    show = named(partial(header, settings), "header")
    bot.like(on_like, state, None, concurrency_limit=None, **PRIVATE).then(show, None, head, queue=False, **PRIVATE)
    bot.edit(on_edit, state, bot, concurrency_limit=None, **PRIVATE).then(show, None, head, queue=False, **PRIVATE)
    fresh.click(new, state, [bot, state], queue=False, **PRIVATE)
    gr.Timer(5).tick(show, None, head, queue=False, **PRIVATE)


def named(function: partial, name: str) -> partial:
    function.__name__ = name  # Gradio names endpoints by it
    return function


def header(settings: Settings) -> str:
    """ "student vN · learned from M votes · next round at K" """
    serving = checkpoints.serving(settings.db)
    total, new = feedback.count_votes(settings.db)
    plan = (
        f"next round at {settings.round_votes} new votes ({new} so far)" if settings.round_votes else "rounds by hand"
    )
    return f"student **{serving.name}** · learned from **{total - new}** votes · {plan}"


def pick(event: gr.SelectData) -> str:
    return str(event.value.get("text", ""))


def begin(text: str, state: dict):
    person(state)
    if not (text or "").strip():
        raise gr.Error("Type a message first", print_exception=False)
    return gr.Textbox(value="", submit_btn=False, stop_btn="Stop"), text


def ready():
    return gr.Textbox(submit_btn="Send", stop_btn=False)


def new(state: dict):
    return [], {**state, "conversation": None}


def stream(settings: Settings, serving: Serving, supervisor: Supervisor, text: str, state: dict):
    """The reply as it grows, at most 15 frames a second. Closing this generator (Stop, a closed tab) stops it."""
    me, stop, shown = person(state), Event(), 0.0
    supervisor.last_turn = time.monotonic()
    conversation = state.get("conversation") or conversations.start_conversation(settings.db, me, text)
    state = {**state, "conversation": conversation}
    try:
        past = transcript(settings, me, conversation)
        for reply in chat.say(settings, serving, conversation, me, text, stop):
            if reply.status != "open" or time.monotonic() - shown > FRAME_SECONDS:
                shown = time.monotonic()
                yield [*past, *exchange(text, reply.text, reply.completion_id)], state, ""
    except REFUSED as error:
        raise refusal(error) from error
    finally:
        stop.set()


def transcript(settings: Settings, me: str, conversation: str) -> list[dict]:
    pairs = conversations.history(settings.db, conversation, me)
    return [m for turn, k in pairs for m in exchange(turn.prompt[-1]["content"], k.text, k.id)]


def exchange(asked: str, text: str, completion_id: str) -> list[dict]:
    return [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": text or "…", "metadata": {"id": completion_id}},
    ]


def completion_at(settings: Settings, state: dict, index) -> str:
    """The completion's id by the position that the browser names, looked up in the database, not in what it posts."""
    if not state.get("conversation"):
        raise gr.Error("This conversation is over: start a new one", print_exception=False)
    shown = transcript(settings, person(state), state["conversation"])
    at = index[0] if isinstance(index, (list, tuple)) else index
    if not isinstance(at, int) or not 0 <= at < len(shown) or shown[at]["role"] != "assistant":
        raise gr.Error("Only the student's completions can be rated or corrected", print_exception=False)
    return shown[at]["metadata"]["id"]


def like(settings: Settings, state: dict, event: gr.LikeData) -> None:
    liked = {True: True, False: False}.get(event.liked)  # "" = the thumb is taken back
    try:
        collect.thumb(settings.db, person(state), completion_at(settings, state, event.index), liked)
    except REFUSED as error:
        raise refusal(error) from error


def edit(settings: Settings, state: dict, event: gr.EditData):
    """The corrected text is stored as the person's; the chat goes on showing what the student wrote."""
    try:
        collect.edit(settings.db, person(state), completion_at(settings, state, event.index), str(event.value))
    except REFUSED as error:
        raise refusal(error) from error
    gr.Info("Your correction is saved: the student will learn from it")
    return transcript(settings, person(state), state["conversation"])
