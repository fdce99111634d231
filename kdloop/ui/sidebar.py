"""The sidebar: past conversations with search, and a person's rights over their data."""

from functools import partial

import gradio as gr

from kdloop.settings import Settings, current
from kdloop.ui import addresses, chat, comparison, files, greeting, offers, prose, sure, transcript
from kdloop.ui.files import fresh_path
from kdloop.ui.session import IN_ORDER, PRIVATE, erasure_notice, named, paced, person, refusal, refused
from kdloop.ui.words import t, tell
from storage import conversations, follow_ups, json_lines, people
from storage.conversations import UnknownRow

STORED = (
    "Stored: your messages, the answers, your ratings, under a random id kept in this browser. Used: to train the "
    "student that answers here. Nothing else is recorded. Its owner can read and export it; above the tabs it says "
    "where it is kept."
)
LEARN = "Rounds may learn from what I write next"
LEARN_INFO = "A message after an answer often says what was wrong with it. Without a tick it is only answered."
CONFIRMATION = "delete my data"
GONE = "Delete “{title}” for good (messages: {messages}, votes: {votes})"


def build(settings: Settings, state: gr.State) -> dict:
    """Lay the sidebar out; `connect` wires it once the chat is there."""
    with gr.Sidebar(open=False, width=280):
        fresh = gr.Button(t("New conversation"), size="sm", elem_id="fresh")
        search = gr.Textbox(label=t("Search your conversations"), max_length=200)
        past = gr.HTML(elem_id="past")
        go = gr.Textbox(visible="hidden", elem_id="go")  # the id that page.js read from a link or an address
        with gr.Accordion(t("Rename or delete this conversation"), open=False) as this:
            title = gr.Textbox(label=t("Its new title"), max_length=80, submit_btn=t("Rename"))
        with gr.Accordion(t("Your data"), open=False):
            gr.Markdown(t(STORED))
            learn = gr.Checkbox(label=t(LEARN), info=t(LEARN_INFO), visible=False, elem_id="follow-ups")
            files.offer(t("Download my data"), partial(download, settings), "download", [state], "sm")
            typed = gr.Textbox(label=t("To delete, type: delete my data"), max_length=40)
            erase = gr.Button(t("Delete my data"), variant="stop", size="sm")
    return {
        "fresh": fresh,
        "search": search,
        "past": past,
        "go": go,
        "title": title,
        "this": this,
        "learn": learn,
        "typed": typed,
        "erase": erase,
    }


def connect(settings: Settings, state: gr.State, side: dict, parts: chat.Parts) -> None:
    list_titles = named(partial(titles, settings), "titles")
    shown = [parts.bot, state, parts.authors, parts.where, *parts.comparison.outputs]
    open_one = named(partial(load, settings), "open_conversation")
    cancelling = {"cancels": parts.replies, **PRIVATE}  # a reply under way would write over the other conversation
    opened = side["go"].submit(open_one, [side["go"], state], shown, **cancelling | IN_ORDER)
    changed = [opened]
    anew = named(partial(new, settings), "new")
    changed.append(gr.on([side["fresh"].click, parts.bot.clear], anew, state, shown, queue=False, **cancelling))
    asked = [side["search"], state]
    side["search"].change(list_titles, asked, side["past"], queue=False, **PRIVATE)
    retitle = named(partial(rename, settings), "rename")
    renamed = side["title"].submit(retitle, [side["title"], state], side["title"], concurrency_limit=None, **PRIVATE)
    for event in (parts.answered, renamed):
        event.then(list_titles, asked, side["past"], queue=False, **PRIVATE)
    let = named(partial(allow, settings), "learn_from_next")
    side["learn"].input(let, [side["learn"], state], None, **IN_ORDER)
    forget = named(partial(erase, settings), "erase")
    with side["this"]:
        one = partial(what_goes, settings), partial(erase_one, settings), "erase_conversation"
        how = {"size": "sm", "cancels": parts.replies}
        gone = sure.ask_first(t("Delete this conversation…"), *one, parts.where, state, shown, **how)
    changed.append(gone)
    gone.then(list_titles, asked, side["past"], queue=False, **PRIVATE)
    emptied = [*shown, side["past"], side["typed"]]
    changed.append(side["erase"].click(forget, [side["typed"], state], emptied, concurrency_limit=None, **cancelling))
    for event in changed:
        event.then(None, parts.where, None, js=addresses.SETTLED)


def titles(settings: Settings, search: str, state: dict) -> str:
    """HTML: links to a person's conversations, newest first; page.js puts the days between them."""
    me = paced(settings, state, "searches") if search else person(state)
    found = conversations.find_conversations(settings.db, me, str(search or ""))
    at = conversations.started(settings.db, [id for id, _ in found])
    links = [
        f'<li data-at="{at[id]}"><a href="?c={prose.escaped(id)}">{prose.escaped(title.strip() or "…")}</a></li>'
        for id, title in found
    ]
    name = prose.escaped(tell("Your conversations"))
    none = prose.escaped(tell("None found" if search else "None yet: what you ask appears here"))
    return f'<nav aria-label="{name}"><p>{name}</p><ul>{"".join(links) or f"<li>{none}</li>"}</ul></nav>'


def load(settings: Settings, id: str, state: dict):
    """The person's conversation of this id, a new one for none."""
    if not id:
        return new(settings, state)
    try:
        turn = transcript.last_turn(settings, person(state), str(id))
        bot = transcript.open_chat(settings, state | {"conversation": str(id), "turn": turn})
    except UnknownRow as error:
        raise refusal(error) from error
    state.update(conversation=str(id), turn=turn, compared=None, preferred=None, left=True)
    return bot, state, *addresses.at_hand(settings, state), *comparison.hidden()


def new(settings: Settings, state: dict):
    state.update(conversation=None, turn=None, compared=None, preferred=None, left=True)
    return transcript.chatbot([], {}), state, *addresses.at_hand(settings, state), *comparison.hidden()


def starter(settings: Settings):
    """The handler of a page that has loaded: the conversation that its address names, unless one has begun already;
    the list of all, what the person allows, and who answers."""

    def at_start(state: dict, request: gr.Request):
        words = greeting.properties(settings)
        bot, at_hand = gr.Chatbot(**words) if words else gr.skip(), (gr.skip(), gr.skip())
        if not (state.get("conversation") or state.get("writing")):  # else what the reply says of itself is newer
            state["conversation"], state["turn"] = addresses.asked_for(settings, person(state), request)
            bot = transcript.open_chat(settings, state, **words) if state["conversation"] else bot
            at_hand = addresses.at_hand(settings, state)
        own = consent(settings, state), offers.shown(settings, person(state))
        return bot, state, *at_hand, titles(settings, "", state), *own

    return at_start


def consent(settings: Settings, state: dict) -> gr.Checkbox:
    """Asked for only where the owner lets rounds learn from it."""
    asked = current(settings).hindsight == "on"
    return gr.Checkbox(asked and follow_ups.allows(settings.db, person(state)), visible=asked)


def allow(settings: Settings, yes: bool, state: dict) -> None:
    follow_ups.allow(settings.db, paced(settings, state, "votes"), bool(yes))


def rename(settings: Settings, title: str, state: dict) -> str:
    if not state.get("conversation"):
        raise refused("Open a conversation first")
    if not (title := " ".join(str(title or "").split())):
        raise refused("Type its new title first")
    try:
        conversations.rename(settings.db, state["conversation"], person(state), title)
    except UnknownRow as error:
        raise refusal(error) from error
    return ""


def what_goes(settings: Settings, id: str, state: dict) -> str:
    """Of the open conversation."""
    if not state.get("conversation"):
        raise refused("Open a conversation first")
    try:
        title, messages, votes = people.contents(settings.db, person(state), state["conversation"])
    except UnknownRow as error:
        raise refusal(error) from error
    return tell(GONE, title=title.strip() or "…", messages=messages, votes=votes)


def erase_one(settings: Settings, id: str, state: dict):
    """The open conversation with all that is in it; `id` is the one that the question was about."""
    if not id or id != state.get("conversation"):
        raise refused("Open a conversation first")
    try:
        affected = people.erase(settings.db, paced(settings, state, "erasures"), id)
    except UnknownRow as error:
        raise refusal(error) from error
    gr.Info(erasure_notice(settings, affected))
    return new(settings, state)


def download(settings: Settings, state: dict) -> str:
    me, path = paced(settings, state, "downloads"), fresh_path("my-kdloop-data.json")
    path.write_text(json_lines.dump(people.everything(settings.db, me), indent=1), encoding="utf-8")
    return str(path)


def erase(settings: Settings, typed: str, state: dict):
    if (typed or "").strip().lower() != CONFIRMATION:
        raise refused('Type "{sure}" to delete everything you wrote here', sure=CONFIRMATION)
    affected = people.erase(settings.db, paced(settings, state, "erasures"))
    gr.Info(erasure_notice(settings, affected))
    return *new(settings, state), titles(settings, "", state), ""
