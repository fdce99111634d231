"""The Chat tab: streaming, stop, retry with "which is better?", thumbs, stars, reasons, and better answers."""

import html
import time
from dataclasses import dataclass
from functools import partial
from threading import Event

import gradio as gr

from kdloop import chat, collect, delegation
from kdloop.settings import Settings, current
from kdloop.student.serving import Serving
from kdloop.supervisor import Supervisor
from kdloop.ui import rating, session
from kdloop.ui.session import PRIVATE, REFUSED, named, paced, person, refusal, refused
from kdloop.ui.transcript import assistant, completion_at, exchange, position, transcript, written_by
from kdloop.ui.words import t, tell
from storage import ancestry, checkpoints, conversations, feedback
from storage.conversations import as_prompt

EXAMPLES = ["What should I cook with two eggs and rice?", "Explain tides to a child.", "Help me plan a quiet Sunday."]
FRAME_SECONDS = 1 / 15
STOPS_WITHIN = 3  # seconds
AT_VOTES = "next round at {at} new votes ({new} so far)"
WHICH = "*Two answers this time: which do you prefer?*"
ELSEWHERE = "Where the student is not sure, your messages go to a teacher, who answers instead:"


@dataclass(frozen=True)
class Parts:
    """The components that the sidebar fills too."""

    bot: gr.Chatbot
    compare: gr.Column
    head: gr.Markdown
    authors: gr.Markdown
    answered: gr.events.Dependency


def build(settings: Settings, serving: Serving, supervisor: Supervisor, who: gr.BrowserState, state: gr.State) -> Parts:
    know = session.loader(settings)

    def on_send(text: str, waiting: str, token, state: dict, request: gr.Request):
        return *begin(text, waiting), *((token, state) if state.get("person") else know(token, request))

    def on_like(state: dict, event: gr.LikeData):  # Gradio finds event data by annotation, which a partial hides
        like(settings, state, event)

    def on_edit(state: dict, event: gr.EditData):
        return edit(settings, state, event)

    head = gr.Markdown(elem_classes="kd-head", elem_id="header")
    bot = gr.Chatbot(
        label=t("Chat with the student"),
        show_label=False,  # on a phone it would hide the first message
        height="55vh",
        group_consecutive_messages=False,
        editable="all",  # the student's text into a better one; one's own goes back into the message box
        buttons=["copy"],
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
    answer = sent.success(reply, [pending, state], [bot, state, pending, *compare.outputs], **once)
    again = named(partial(retry, settings, serving, supervisor), "retry")
    stoppable = bot.retry(busy, None, box, queue=False, **PRIVATE)
    tried = stoppable.success(again, state, [bot, state, *compare.outputs], **once)
    answered, retried = (event.then(ready, None, [box, pending], queue=False, **PRIVATE) for event in (answer, tried))
    wrote = named(partial(written_by, settings), "written_by")
    cancelled = box.stop(None, None, None, cancels=[answer, tried])
    give_back = named(partial(stopped, settings), "stopped")
    halted = cancelled.then(give_back, [pending, state], [box, pending, bot, *compare.outputs], queue=False, **PRIVATE)
    bot.example_select(pick, None, box, queue=False, **PRIVATE)

    show = named(partial(header, settings), "header")
    said = [bot.like(on_like, state, None, concurrency_limit=None, **PRIVATE)]
    said.append(bot.edit(on_edit, state, [bot, box], concurrency_limit=None, **PRIVATE))
    chose = []
    rated, undone = rating.connect(settings, state, panel)
    chosen = named(partial(going_on, settings), "going_on")
    for button, choice in zip(compare.votes, rating.COMPARED.values(), strict=True):
        vote = named(partial(rating.prefer, settings, choice), "prefer")
        voted = button.click(vote, state, [state, *compare.outputs], concurrency_limit=None, **PRIVATE)
        chose.append(voted.success(chosen, state, bot, queue=False, **PRIVATE))
    said += [*chose, rated, undone.then(chosen, state, bot, queue=False, **PRIVATE)]
    for event in (answered, retried, halted, *chose):
        event.then(wrote, state, authors, queue=False, **PRIVATE)
    for event in said:
        event.then(show, None, head, queue=False, **PRIVATE)
    gr.Timer(5).tick(show, None, head, queue=False, **PRIVATE)
    return Parts(bot, compare.group, head, authors, answered)


def header(settings: Settings) -> str:
    """ "student vN · learned from M votes · next round at K" """
    serving = checkpoints.serving(settings.db)
    _, new = feedback.count_votes(settings.db)
    n = ancestry.votes_behind(settings.db, serving)
    votes = tell("student **{name}** · learned from **{n}** votes", name=serving.name, n=n)
    at = current(settings).round_votes
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


def busy():
    return gr.Textbox(submit_btn=False, stop_btn=t("Stop"))


def ready():
    return gr.Textbox(submit_btn=t("Send"), stop_btn=False), ""


def stopped(settings: Settings, waiting: str, state: dict):
    """What was said so far stays; a message that nobody had begun to answer comes back into its box."""
    deadline = time.monotonic() + STOPS_WITHIN
    while rating.still_open(settings, state) and time.monotonic() < deadline:
        time.sleep(0.05)  # the engine ends at its next token, and then writes down what it said
    box = {"submit_btn": t("Send"), "stop_btn": False} | ({"value": waiting} if waiting else {})
    return gr.Textbox(**box), "", going_on(settings, state), *rating.nothing_to_compare()


def stream(settings: Settings, serving: Serving, supervisor: Supervisor, text: str, state: dict):
    """The reply as it grows, at most 15 frames a second. Closing this generator (Stop, a closed tab) stops it.

    `state` is the session's own: changed in place, so that what another event changes meanwhile is not undone.
    """
    me, stop = paced(settings, state, "messages"), Event()
    try:
        text = chat.worth_answering(text)
        conversation = state.get("conversation") or conversations.start_conversation(settings.db, me, text)
        state.update(conversation=conversation, compared=None, choosing=False)
        past = transcript(settings, me, conversation)
        how = two if chat.is_time_to_compare(settings, me) else one
        with supervisor.yielding():
            for bot, compared, parts in how(settings, serving, conversation, me, text, stop):
                state.update(compared=compared, choosing=bool(compared))
                yield [*past, *bot], state, "", *parts
    except REFUSED as error:
        raise refusal(error) from error
    finally:
        stop.set()


def one(settings: Settings, serving: Serving, conversation: str, me: str, text: str, stop: Event):
    """(messages to show, what can be compared, the comparison's parts), of a single completion."""
    for reply in frames(delegation.say(settings, serving, conversation, me, text, stop)):
        yield exchange(text, reply.text, reply.completion_id), None, rating.nothing_to_compare()


def two(settings: Settings, serving: Serving, conversation: str, me: str, text: str, stop: Event):
    """The same of two completions side by side, of which the person may choose how the chat goes on."""
    asked = [*as_prompt(text), {"role": "assistant", "content": tell(WHICH)}]
    for left, right in frames(chat.say_twice(settings, serving, conversation, me, text, stop)):
        yield asked, None, rating.side_by_side(left.text, right.text, False)
    yield (
        asked,
        (left.completion_id, right.completion_id),
        rating.side_by_side(left.text, right.text, True),
    )


def retry(settings: Settings, serving: Serving, supervisor: Supervisor, state: dict):
    """Another answer to the last message; then the two can be compared."""
    me, stop = paced(settings, state, "messages"), Event()
    try:
        before = rating.last_completion(settings, state)
        *past, former = transcript(settings, me, state["conversation"])
        with supervisor.yielding():
            for reply in frames(chat.retry(settings, serving, state["conversation"], me, stop)):
                bot = [*past, assistant(reply.text, reply.completion_id)]
                yield bot, state, *rating.nothing_to_compare()
        state.update(compared=(before, reply.completion_id), choosing=False)
        yield bot, state, *rating.side_by_side(former["content"], reply.text, True)
    except REFUSED as error:
        raise refusal(error) from error
    finally:
        stop.set()


def frames(replies):
    """Of what only grows, as much as a screen needs; the last one always. Items are replies, or pairs of them."""
    at, last, shown = 0.0, None, None
    for last in replies:
        if time.monotonic() - at > FRAME_SECONDS:
            at, shown = time.monotonic(), last
            yield last
    if last is not shown:
        yield last


def going_on(settings: Settings, state: dict) -> list[dict]:
    """The conversation as it goes on, after a choice between two completions."""
    return transcript(settings, person(state), state["conversation"]) if state.get("conversation") else []


def like(settings: Settings, state: dict, event: gr.LikeData) -> None:
    liked = {True: True, False: False}.get(event.liked)  # "" = the thumb is taken back
    try:
        collect.thumb(settings.db, paced(settings, state, "votes"), completion_at(settings, state, event.index), liked)
    except REFUSED as error:
        raise refusal(error) from error


def edit(settings: Settings, state: dict, event: gr.EditData):
    """The corrected text is stored as the person's; the chat goes on showing what the student wrote. One's own message
    goes back into the box, to be asked anew."""
    me = paced(settings, state, "votes")
    at = position(event.index)
    if at is not None and at % 2 == 0:  # people and student take turns
        return going_on(settings, state), gr.Textbox(value=str(event.value))
    try:
        collect.edit(settings.db, me, completion_at(settings, state, event.index), str(event.value))
        gr.Info(tell("Your correction is saved: the student will learn from it"))
    except REFUSED as error:
        gr.Warning(html.escape(str(error)))  # no error: the page must show again what is stored
    return going_on(settings, state), gr.skip()
