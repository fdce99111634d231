"""The Chat tab: its wiring, thumbs, and corrections in place. What it shows is layout.py's, replies are replies.py's,
the panel below the chat rating.py's."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import gradio as gr
from gradio.events import Dependency

from kdloop.feedback import collect
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.ui import (
    addresses,
    comparison,
    layout,
    loop,
    offers,
    prose,
    rating,
    replies,
    saved,
    session,
    trial,
    zerogpu,
)
from kdloop.ui.session import IN_ORDER, PRIVATE, REFUSED, named, paced, person, refusal, warn
from kdloop.ui.transcript import (
    THUMBS,
    chatbot,
    completion_id,
    completion_shown,
    open_chat,
    position,
    thumbs,
    user_message,
)
from kdloop.ui.words import tell
from storage import ancestry, branches, checkpoints, feedback, rounds, trials

HEADER_SECONDS = 5  # between two looks at who answers and how many votes there are: four indexed counts
AT_VOTES = "next round at {at} new votes ({new} so far)"
WITH_TIME = "(...inputs) => [...inputs.slice(0, -1), performance.now()]"  # ms since the page was opened


@dataclass(frozen=True)
class Parts:
    """What the sidebar needs: the components that it fills too, and two events."""

    bot: gr.Chatbot
    comparison: comparison.Comparison
    head: gr.Markdown
    version: gr.Dropdown
    authors: gr.Markdown
    where: gr.Textbox
    answered: Dependency
    replies: list[Dependency]  # to cancel where the page turns to another conversation


def build(settings: Settings, serving: Serving, supervisor: Supervisor, who: gr.BrowserState, state: gr.State) -> Parts:
    shown = layout.lay_out(settings)
    generating, ended, broken = connect_replies(settings, serving, supervisor, who, state, shown)
    said, chose = connect_votes(settings, supervisor, state, shown)
    at_hand = named(partial(addresses.at_hand, settings), "authors")
    turned = shown.branch.submit(
        named(partial(open_branch, settings), "open_branch"),
        [shown.branch, state],
        [shown.bot, state, shown.branch, *shown.comparison.outputs],
        cancels=generating,
        **IN_ORDER,
    )
    for event in (*ended, *broken, *chose, turned):
        event.then(at_hand, state, [shown.authors, shown.where], queue=False, **PRIVATE)
    update_header = named(partial(header, settings, supervisor), "header")
    for event in said:
        event.then(update_header, None, shown.head, queue=False, **PRIVATE)
    loop.connect(settings, state, shown.head, shown.news)
    shown.authors.change(named(saved.hidden, "hide_saved"), None, shown.saved.outputs, queue=False, **PRIVATE)
    zerogpu.build(settings, supervisor, state, said)
    offers.connect(settings, state, shown.version)
    gr.Timer(HEADER_SECONDS).tick(update_header, None, shown.head, queue=False, **PRIVATE)
    return Parts(
        shown.bot,
        shown.comparison,
        shown.head,
        shown.version,
        shown.authors,
        shown.where,
        ended[0],
        generating,
    )


def connect_replies(
    settings: Settings,
    serving: Serving,
    supervisor: Supervisor,
    who: gr.BrowserState,
    state: gr.State,
    shown: layout.Components,
) -> tuple[list[Dependency], list[Dependency], list[Dependency]]:
    """Sending, retrying, stopping: (events that generate, what follows their end, what follows their failure)."""
    box, bot, pending = shown.box, shown.bot, gr.State("")
    written = [bot, state, shown.where, *shown.comparison.outputs]
    once = {"concurrency_id": "gen", "concurrency_limit": serving.base.at_once, **PRIVATE}
    once |= {"show_progress": "minimal", "show_progress_on": shown.head}  # the place in the queue, while others wait
    sending = [box, pending, who, state]
    sent = box.submit(sender(settings), sending, sending, concurrency_limit=None, **PRIVATE)
    reply = named(partial(replies.reply, settings, serving, supervisor), "reply")
    answer = sent.success(reply, [pending, state], written, **once)
    rewrite, put_back = (named(partial(f, settings), f.__name__) for f in (replies.anew, replies.put_back))
    rewritten = shown.again.change(rewrite, [shown.again, pending, state], [box, pending], queue=False, **PRIVATE)
    rewritten.failure(put_back, [shown.again, state], [shown.reopened, bot], queue=False, **PRIVATE)
    answer_anew = rewritten.success(reply, [pending, state], written, **once)
    stoppable = bot.retry(replies.busy, pending, [box, pending], concurrency_limit=None, **PRIVATE)
    again = named(partial(replies.retry, settings, serving, supervisor), "retry")
    tried = stoppable.success(again, [bot, state], written, **once)
    free = named(partial(replies.free, settings), "free")
    freed = [box, pending, bot, shown.reopened, *shown.comparison.outputs]
    ended, broken = [], []  # Gradio runs what `then` names only where nothing failed, and `failure` after a cancel too
    for event in (answer, answer_anew, tried):
        ended.append(event.success(replies.ready, None, [box, pending, bot], queue=False, **PRIVATE))
        broken.append(event.failure(free, [box, pending, state], freed, queue=False, **PRIVATE))
    box.stop(None, None, None, cancels=[answer, answer_anew, tried])
    bot.example_select(pick, None, box, queue=False, **PRIVATE)
    return [answer, answer_anew, tried], ended, broken


def sender(settings: Settings):
    """The handler of a message: it signs a person in whose page has not loaded to its end."""
    load = session.loader(settings)

    def on_send(text: str, waiting: str, token, state: dict, request: gr.Request):
        state.update({} if waiting else {"instead_of": None, "edited": None})
        return *replies.begin(text, waiting), *((token, state) if state.get("person") else load(token, None, request))

    return on_send


def connect_votes(
    settings: Settings, supervisor: Supervisor, state: gr.State, shown: layout.Components
) -> tuple[list[Dependency], list[Dependency]]:
    """(events after which the header's counts have changed, those of them after which the chat continues with the
    completion that was chosen)."""

    def on_like(messages: list, state: dict, at: float, event: gr.LikeData):  # found by annotation, not in partials
        yield from like(settings, messages, state, at, event)

    def on_prefer(state: dict, event: gr.EventData):
        return rating.prefer(settings, two.choice(event), state)

    def on_edit(messages: list, state: dict, event: gr.EditData):
        return edit(settings, messages, state, event)

    bot, two = shown.bot, shown.comparison
    clicked, how = gr.Number(visible="hidden"), {"concurrency_id": "said", **IN_ORDER}
    said = [bot.like(on_like, [bot, state, clicked], bot, js=WITH_TIME, **how)]
    said.append(saved.connect(settings, supervisor, state, bot, shown.saved, said[0], how))
    said.append(bot.edit(on_edit, [bot, state], [bot, shown.again], **how))
    take_back = named(partial(uncorrect, settings), "uncorrect")
    said.append(shown.undo.submit(take_back, [shown.undo, state], [bot, shown.undo], **how))
    rated, undone = rating.connect(settings, bot, state, shown.panel, how)
    redraw = named(partial(open_chat, settings), "open_chat")
    chose = []
    once_more = partial(rating.prefer_again, settings)
    for events, act, name in ((two.vote_events, on_prefer, "prefer"), ([two.undo.click], once_more, "prefer_again")):
        voted = gr.on(events, named(act, name), state, [state, *two.outputs], concurrency_limit=None, **PRIVATE)
        chose.append(voted.success(redraw, state, bot, queue=False, **PRIVATE))
    return [*said, *chose, rated, undone.then(redraw, state, bot, queue=False, **PRIVATE)], chose


def header(settings: Settings, supervisor: Supervisor) -> str:
    """ "student vN · learned from M votes · on trial · next round at K", or what a round does now"""
    serving = checkpoints.serving(settings.db)
    new = feedback.count_votes(settings.db)[1]
    n = ancestry.votes_behind(settings.db, serving)
    votes = tell("student **{name}** · learned from **{n}** votes", name=serving.name, n=n)
    at = supervisor.schedule.starts_at()
    plan = tell(AT_VOTES if at else "rounds by hand", at=at, new=new)
    if trials.running(settings.db):
        plan = tell("next round after the trial")
    if running := rounds.running_round(settings.db):
        plan = loop.learning_now(settings, running)
    return " · ".join(filter(None, [votes, trial.decided_by(settings).get(serving.id), plan]))


def pick(event: gr.SelectData) -> str:
    return str(event.value.get("text", "")) if isinstance(event.value, dict) else ""


def like(settings: Settings, messages: list[dict], state: dict, at: float, event: gr.LikeData) -> Iterator[gr.Chatbot]:
    """A thumb on the completion that the page shows there; one that is refused is taken off the page again. `at` is
    when the page saw the click: what overtook it on the way holds."""
    me, liked = person(state), {True: True, False: False}.get(event.liked)  # "" = the thumb is taken back
    ids = [completion_id(m) for m in messages or [] if m["role"] == "assistant"]
    try:
        id = completion_shown(messages, position(event.index))
        paced(settings, state, "votes")
        if is_newest(state, id, at):
            collect.thumb(settings.db, me, id, liked)
            state["thumb"] = None if liked is None else (id, liked)
    except (gr.Error, *REFUSED) as error:
        warn(error)
        yield gr.Chatbot(feedback_value=[THUMBS[liked is not False]] * len(ids))  # what does not change is not redrawn
    given = thumbs(settings, me, state.get("conversation"))
    yield gr.Chatbot(feedback_value=[THUMBS.get(given.get(id)) for id in ids])


def is_newest(state: dict, id: str, at: float) -> bool:
    """Whether this session has sent no later thumb on that completion."""
    newest = state.setdefault("thumbed_at", {})
    newest[id] = max(at or 0, newest.get(id, 0))
    return newest[id] == (at or 0)


def edit(settings: Settings, messages: list[dict], state: dict, event: gr.EditData):
    """For (the chat, what is asked anew). The corrected text is stored as the person's; the chat continues to show what
    the student wrote. One's own message is asked anew."""
    text, at = prose.plain(str(event.value)), position(event.index)
    if at is not None and 0 <= at < len(messages or []) and messages[at]["role"] == "user":
        completion = completion_id(messages[at + 1]) if at + 1 < len(messages) else None
        again = (completion, text, at, secrets.token_hex(4))
        return chatbot([*messages[:at], user_message(text)], {}, writing=None), again
    try:
        collect.edit(settings.db, paced(settings, state, "votes"), completion_shown(messages, at), text)
        gr.Info(tell("Your correction is saved: the student will learn from it"))
    except (gr.Error, *REFUSED) as error:
        warn(error)  # no error: the page must show again what is stored
    return open_chat(settings, state, writing=None), gr.skip()


def open_branch(settings: Settings, turn: str, state: dict):
    """The chat shows another branch of its conversation, the one of this turn, from now on."""
    try:
        conversation, leaf = branches.open_branch(settings.db, person(state), str(turn))
    except REFUSED as error:
        raise refusal(error) from error
    state.update(conversation=conversation, turn=leaf, compared=None, preferred=None, left=True)
    return open_chat(settings, state), state, "", *comparison.hidden()


def uncorrect(settings: Settings, id: str, state: dict):
    """The person's correction of this completion is taken back."""
    try:
        taken = collect.undo(settings.db, paced(settings, state, "votes"), "edit", str(id))
    except REFUSED as error:
        raise refusal(error) from error
    gr.Info(tell("Votes taken back: {n}", n=taken))
    return open_chat(settings, state), ""
