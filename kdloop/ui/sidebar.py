"""The sidebar: past conversations with search, and a person's rights over their data."""

from functools import partial

import gradio as gr

from kdloop.settings import Settings
from kdloop.ui import chat, files, transcript
from kdloop.ui.files import fresh_path
from kdloop.ui.session import IN_ORDER, PRIVATE, erasure_notice, named, paced, person, refusal, refused
from kdloop.ui.words import t, tell
from storage import conversations, json_lines, people
from storage.conversations import UnknownRow

STORED = (
    "Stored: your messages, the answers, your ratings, under a random id kept in this browser. Used: to train the "
    "student that answers here. Nothing else is recorded. Its owner can read and export it; above the tabs it says "
    "where it is kept."
)
CONFIRMATION = "delete my data"


def build(settings: Settings, state: gr.State) -> dict:
    """Lay the sidebar out; `connect` wires it once the chat is there."""
    with gr.Sidebar(open=False, width=280):
        fresh = gr.Button(t("New conversation"), size="sm")
        search = gr.Textbox(label=t("Search your conversations"), max_length=200)
        past = gr.Radio(
            [], label=t("Your conversations"), info=t("None yet: what you ask appears here"), elem_id="past"
        )
        with gr.Accordion(t("Your data"), open=False):
            gr.Markdown(t(STORED))
            files.offer(t("Download my data"), partial(download, settings), "download", [state], "sm")
            sure = gr.Textbox(label=t("To delete, type: delete my data"), max_length=40)
            erase = gr.Button(t("Delete my data"), variant="stop", size="sm")
    return {"fresh": fresh, "search": search, "past": past, "sure": sure, "erase": erase}


def connect(settings: Settings, state: gr.State, side: dict, parts: chat.Parts) -> None:
    list_titles = named(partial(titles, settings), "titles")
    shown = [parts.bot, state, parts.compare, side["past"]]
    open_one = named(partial(load, settings), "open_conversation")
    cancelling = {"cancels": parts.replies, **PRIVATE}  # a reply under way would write over the other conversation
    changed = [side["past"].input(open_one, [side["past"], state], shown[:3], **cancelling | IN_ORDER)]
    for event in (side["fresh"].click, parts.bot.clear):
        changed.append(event(new, state, shown, queue=False, **cancelling))
    side["search"].change(list_titles, [side["search"], state], side["past"], queue=False, **PRIVATE)
    parts.answered.then(list_titles, [side["search"], state], side["past"], queue=False, **PRIVATE)
    forget = named(partial(erase, settings), "erase")
    emptied = [*shown, side["sure"]]
    changed.append(side["erase"].click(forget, [side["sure"], state], emptied, concurrency_limit=None, **cancelling))
    update_authors = named(partial(transcript.authors, settings), "authors")
    for event in changed:
        event.then(update_authors, state, parts.authors, **IN_ORDER)


def titles(settings: Settings, search: str, state: dict) -> gr.Radio:
    me = paced(settings, state, "searches") if search else person(state)
    found = conversations.find_conversations(settings.db, me, str(search or ""))
    info = None if found else tell("None found" if search else "None yet: what you ask appears here")
    return gr.Radio([(title or "…", id) for id, title in found], value=state.get("conversation"), info=info)


def load(settings: Settings, id: str, state: dict):
    try:
        bot = transcript.open_chat(settings, state | {"conversation": str(id)})
    except UnknownRow as error:
        raise refusal(error) from error
    state.update(conversation=str(id), compared=None, left=True)
    return bot, state, gr.Row(visible=False)


def new(state: dict):
    state.update(conversation=None, compared=None, left=True)
    return transcript.chatbot([], {}), state, gr.Row(visible=False), gr.Radio(value=None)


def download(settings: Settings, state: dict) -> str:
    me, path = paced(settings, state, "downloads"), fresh_path("my-kdloop-data.json")
    path.write_text(json_lines.dump(people.everything(settings.db, me), indent=1), encoding="utf-8")
    return str(path)


def erase(settings: Settings, sure: str, state: dict):
    if (sure or "").strip().lower() != CONFIRMATION:
        raise refused('Type "{sure}" to delete everything you wrote here', sure=CONFIRMATION)
    affected = people.erase(settings.db, paced(settings, state, "erasures"))
    gr.Info(erasure_notice(settings, affected))
    return *new(state)[:3], gr.Radio([], value=None), ""
