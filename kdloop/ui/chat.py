"""The Chat tab: streaming, stop, retry with "which is better?", thumbs, stars, reasons, and better answers."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from threading import Event

import gradio as gr

from kdloop.chat import delegation
from kdloop.chat import turn as chat
from kdloop.feedback import collect
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.ui import prose, rating, session
from kdloop.ui.session import PRIVATE, REFUSED, named, paced, person, refusal, refused, warn
from kdloop.ui.transcript import (
    PRESSED,
    assistant,
    completion_shown,
    exchange,
    given,
    going_on,
    id_of,
    position,
    question,
    shown,
    transcript,
    written_by,
)
from kdloop.ui.words import t, tell
from storage import ancestry, checkpoints, conversations, feedback

EXAMPLES = ["What should I cook with two eggs and rice?", "Explain tides to a child.", "Help me plan a quiet Sunday."]
FRAME_SECONDS = 1 / 15
STOPS_WITHIN = 3  # seconds
AT_VOTES = "next round at {at} new votes ({new} so far)"
WHICH = "Two answers this time: which do you prefer?"
ELSEWHERE = "Where the student is not sure, your messages go to a teacher, who answers instead:"
RETRYING = " "  # what waits during a retry: no message


@dataclass(frozen=True)
class Parts:
    """The components that the sidebar fills too."""

    bot: gr.Chatbot
    compare: gr.Column
    head: gr.Markdown
    authors: gr.Markdown
    answered: gr.events.Dependency
    replies: list[gr.events.Dependency]  # to cancel where the page turns to another conversation


def build(settings: Settings, serving: Serving, supervisor: Supervisor, who: gr.BrowserState, state: gr.State) -> Parts:
    know = session.loader(settings)

    def on_send(text: str, waiting: str, token, state: dict, request: gr.Request):
        return *begin(text, waiting), *((token, state) if state.get("person") else know(token, request))

    def on_like(messages: list, state: dict, event: gr.LikeData):  # event data is found by annotation, not in partials
        yield from like(settings, messages, state, event)

    def on_edit(messages: list, state: dict, event: gr.EditData):
        return edit(settings, messages, state, event)

    head = gr.Markdown(elem_classes="kd-head", elem_id="header")
    bot = gr.Chatbot(
        elem_id="chat-log",
        label=t("Chat with the student"),
        show_label=False,  # on a phone it would hide the first message
        height="55vh",
        group_consecutive_messages=False,
        editable="all",  # the student's text into a better one; one's own goes back into the message box
        buttons=["copy"],
        latex_delimiters=[],  # two prices are no formula
        allow_tags=False,  # there are none but kdloop.ui.prose's
        feedback_options=("Like", "Dislike"),
        examples=[{"text": t} for t in EXAMPLES],
        placeholder=t("### Ask the student something\nRate its answer with the thumbs, or edit it into a better one."),
    )
    authors = gr.Markdown(elem_classes="kd-head", elem_id="authors")
    compare = rating.comparison()
    box = gr.Textbox(
        label=t("Message"),
        show_label=False,
        placeholder=t("Message… (Enter sends)"),
        submit_btn=t("Send"),
        stop_btn=False,
        max_length=chat.MAX_CHARACTERS,
    )
    panel = rating.panel()
    if teachers := delegation.asked_for(settings):
        gr.Markdown(f"{t(ELSEWHERE)} {', '.join(x.name for x in teachers.all)}", elem_classes="kd-head")

    pending = gr.State("")
    once = {"concurrency_id": "gen", "concurrency_limit": serving.base.at_once, **PRIVATE}
    once |= {"show_progress": "minimal", "show_progress_on": head}  # the place in the queue, while others are answered
    sent = box.submit(
        on_send, [box, pending, who, state], [box, pending, who, state], concurrency_limit=None, **PRIVATE
    )
    reply = named(partial(stream, settings, serving, supervisor), "reply")
    answer = sent.success(reply, [pending, state], [bot, state, *compare.outputs], **once)
    again = named(partial(retry, settings, serving, supervisor), "retry")
    stoppable = bot.retry(busy, pending, [box, pending], concurrency_limit=None, **PRIVATE)
    tried = stoppable.success(again, [bot, state], [bot, state, *compare.outputs], **once)
    wrote = named(partial(written_by, settings), "written_by")
    give_back = named(partial(free, settings), "free")
    ended, broken = [], []  # Gradio runs what `then` names only where nothing failed, and `failure` after a cancel too
    for event in (answer, tried):
        ended.append(event.success(ready, None, [box, pending, bot], queue=False, **PRIVATE))
        broken.append(
            event.failure(
                give_back, [box, pending, state], [box, pending, bot, *compare.outputs], queue=False, **PRIVATE
            )
        )
    box.stop(None, None, None, cancels=[answer, tried])
    bot.example_select(pick, None, box, queue=False, **PRIVATE)

    show = named(partial(header, settings, supervisor), "header")
    said = [bot.like(on_like, [bot, state], bot, concurrency_limit=None, **PRIVATE)]
    said.append(bot.edit(on_edit, [bot, state], [bot, box], concurrency_limit=None, **PRIVATE))
    chose = []
    rated, undone = rating.connect(settings, bot, state, panel)
    chosen = named(partial(going_on, settings), "going_on")
    for button, choice in zip(compare.votes, rating.COMPARED.values(), strict=True):
        vote = named(partial(rating.prefer, settings, choice), "prefer")
        voted = button.click(vote, state, [state, *compare.outputs], concurrency_limit=None, **PRIVATE)
        chose.append(voted.success(chosen, state, bot, queue=False, **PRIVATE))
    said += [*chose, rated, undone.then(chosen, state, bot, queue=False, **PRIVATE)]
    for event in (*ended, *broken, *chose):
        event.then(wrote, state, authors, queue=False, **PRIVATE)
    for event in said:
        event.then(show, None, head, queue=False, **PRIVATE)
    gr.Timer(5).tick(show, None, head, queue=False, **PRIVATE)
    return Parts(bot, compare.group, head, authors, ended[0], [answer, tried])


def header(settings: Settings, supervisor: Supervisor) -> str:
    """ "student vN · learned from M votes · next round at K" """
    serving = checkpoints.serving(settings.db)
    _, new = feedback.count_votes(settings.db)
    n = ancestry.votes_behind(settings.db, serving)
    votes = tell("student **{name}** · learned from **{n}** votes", name=serving.name, n=n)
    at = supervisor.schedule.starts_at()
    plan = tell(AT_VOTES if at else "rounds by hand", at=at, new=new)
    return f"{votes} · {plan}"


def pick(event: gr.SelectData) -> str:
    return str(event.value.get("text", "")) if isinstance(event.value, dict) else ""


def begin(text: str, waiting: str):
    if not (text or "").strip():
        raise refused("Type a message first")
    if waiting:
        raise refused("Your message before this one still waits for its answer")
    return gr.Textbox(value="", submit_btn=False, stop_btn=t("Stop")), text


def busy(waiting: str):
    """A retry begins."""
    if waiting:
        raise refused("Your message before this one still waits for its answer")
    return gr.Textbox(submit_btn=False, stop_btn=t("Stop")), RETRYING


def ready():
    """A reply has come to its end."""
    return gr.Textbox(submit_btn=t("Send"), stop_btn=False), "", gr.Chatbot(elem_classes=[])


def free(settings: Settings, typed: str, waiting: str, state: dict):
    """A reply was stopped, refused, or broke off: the page takes the next message. What was said so far stays; a
    message that nobody answers comes back into its box, before what was typed since."""
    ids, deadline = state.get("writing", ()), time.monotonic() + STOPS_WITHIN
    while "open" in (ends := conversations.statuses(settings.db, ids)) and time.monotonic() < deadline:
        time.sleep(0.05)  # the engine ends at its next token, and then writes down what it said
    unanswered = waiting.strip() and all(status == "failed" for status in ends)
    box = {"value": "\n".join(filter(None, [waiting, typed]))} if unanswered else {}
    state.update(compared=None, writing=())
    box = gr.Textbox(submit_btn=t("Send"), stop_btn=False, **box)
    return box, "", going_on(settings, state), *rating.nothing_to_compare()


def stream(settings: Settings, serving: Serving, supervisor: Supervisor, text: str, state: dict):
    """The reply as it grows, at most 15 frames a second. Closing this generator (Stop, a closed tab) stops it.

    `state` is the session's own: changed in place, so that what another event changes meanwhile is not undone.
    """
    state.update(compared=None, writing=(), left=False)
    me, stop, conversation = paced(settings, state, "messages"), Event(), state.get("conversation")
    try:
        past, thumbs = transcript(settings, me, conversation), given(settings, me, conversation)
        how = two if chat.is_time_to_compare(settings, me) else one
        with supervisor.yielding():
            for grown, *parts in how(settings, serving, me, text, state, stop):
                yield frame([*past, *grown], thumbs), state, *parts
                thumbs = None
    except REFUSED as error:
        raise refusal(error) from error
    finally:
        stop.set()


def frame(messages: list[dict], thumbs: dict[str, bool] | None) -> gr.Chatbot:
    """A chat that is being written. The first time with the thumbs: later ones may have been given meanwhile."""
    return gr.Chatbot(value=messages) if thumbs is None else shown(messages, thumbs, writing=True)


def one(settings: Settings, serving: Serving, me: str, text: str, state: dict, stop: Event) -> Iterator[tuple]:
    """(messages to show, *the comparison's parts), of a single completion."""
    for reply in frames(delegation.say(settings, serving, state.get("conversation"), me, text, stop)):
        now_writing(state, reply)
        yield exchange(text, reply.text, reply.completion_id), *rating.nothing_to_compare()


def two(settings: Settings, serving: Serving, me: str, text: str, state: dict, stop: Event) -> Iterator[tuple]:
    """The same of two completions side by side, of which the person may choose how the chat goes on."""
    asked = [question(text), assistant(tell(WHICH), None)]
    for left, right in frames(chat.say_twice(settings, serving, state.get("conversation"), me, text, stop)):
        now_writing(state, left, right)
        yield asked, *rating.side_by_side(left.text, right.text, False)
    state.update(compared=state["writing"])
    yield asked, *rating.side_by_side(left.text, right.text, True)


def now_writing(state: dict, *replies: chat.Reply) -> None:
    """Whoever has left for another conversation meanwhile is not brought back."""
    state["writing"] = tuple(reply.completion_id for reply in replies)
    if not state.get("left"):
        state["conversation"] = replies[0].conversation_id


def retry(settings: Settings, serving: Serving, supervisor: Supervisor, messages: list[dict], state: dict):
    """Another answer in place of the one that the chat shows last, which is the current one from then on; the two can
    be compared."""
    state.update(compared=None, writing=(), left=False)
    me, stop = paced(settings, state, "messages"), Event()
    try:
        former = conversations.completion(settings.db, completion_shown(messages), me)
        with supervisor.yielding():
            past, thumbs = None, {}
            for reply in frames(chat.retry(settings, serving, former.id, me, stop)):
                if past is None:
                    now_writing(state, reply)
                    past = transcript(settings, me, reply.conversation_id)[:-1]
                    thumbs = given(settings, me, reply.conversation_id)
                bot = frame([*past, assistant(reply.text, reply.completion_id)], thumbs)
                yield bot, state, *rating.nothing_to_compare()
                thumbs = None
        if former.author == "student" and former.text and reply.text:
            state.update(compared=(former.id, reply.completion_id))
            yield gr.skip(), state, *rating.side_by_side(former.text, reply.text, True)
    except REFUSED as error:
        raise refusal(error) from error
    finally:
        stop.set()


def frames(replies):
    """Of what only grows, as much as a screen needs; the last one always. Items are replies, or pairs of them."""
    at, last, sent = 0.0, None, None
    for last in replies:
        if time.monotonic() - at > FRAME_SECONDS:
            at, sent = time.monotonic(), last
            yield last
    if last is not sent:
        yield last


def like(settings: Settings, messages: list[dict], state: dict, event: gr.LikeData) -> Iterator[gr.Chatbot]:
    """A thumb on the completion that the page shows there; one that is refused is taken off the page again."""
    me, liked = person(state), {True: True, False: False}.get(event.liked)  # "" = the thumb is taken back
    ids = [id_of(m) for m in messages or [] if m["role"] == "assistant"]
    try:
        id = completion_shown(messages, position(event.index))
        collect.thumb(settings.db, paced(settings, state, "votes"), id, liked)
    except (gr.Error, *REFUSED) as error:
        warn(error)
        yield gr.Chatbot(feedback_value=[PRESSED[liked is not False]] * len(ids))  # what does not change is not redrawn
    thumbs = given(settings, me, state.get("conversation"))
    yield gr.Chatbot(feedback_value=[PRESSED.get(thumbs.get(id)) for id in ids])


def edit(settings: Settings, messages: list[dict], state: dict, event: gr.EditData):
    """The corrected text is stored as the person's; the chat goes on showing what the student wrote. One's own message
    goes back into the box, to be asked anew."""
    text, at = prose.plain(str(event.value)), position(event.index)
    if at is not None and 0 <= at < len(messages or []) and messages[at]["role"] == "user":
        return going_on(settings, state), gr.Textbox(value=text)
    try:
        collect.edit(settings.db, paced(settings, state, "votes"), completion_shown(messages, at), text)
        gr.Info(tell("Your correction is saved: the student will learn from it"))
    except (gr.Error, *REFUSED) as error:
        warn(error)  # no error: the page must show again what is stored
    return going_on(settings, state), gr.skip()
