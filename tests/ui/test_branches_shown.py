"""A conversation's branches as the page shows and changes them; whatever the browser posts, they are one's own."""

import json
from types import SimpleNamespace

import gradio as gr
import pytest

from kdloop.settings import Settings
from kdloop.ui import chat, prose, replies, sidebar
from kdloop.ui.transcript import open_chat, transcript
from storage import branches, checkpoints, conversations
from storage.conversations import UnknownRow, as_prompt


def said(db, conversation, question, **where):
    turn = conversations.add_turn(db, conversation, as_prompt(question), **where)
    by = {"checkpoint_id": checkpoints.serving(db).id}
    return turn.id, conversations.add_completion(db, turn.id, "student", text=f"re: {question}", **by)


@pytest.fixture
def talk(db):
    """(settings, state of ann's page, its turns): two messages, the second also in other words."""
    at = conversations.start_conversation(db, "ann", "Tides")
    turns = [said(db, at, "tides")[0], said(db, at, "why <b>two</b>")[0]]
    turns.append(said(db, at, "why three", instead_of=turns[1])[0])
    return Settings(home=db.parent), {"person": "ann", "conversation": at, "turn": turns[2]}, turns


def shown(settings, state):
    messages = transcript(settings, "ann", state["conversation"], state["turn"])
    return [prose.plain(m["content"]) for m in messages if m["role"] == "user"]


def edited(settings, state, at, text, messages=None):
    messages = transcript(settings, "ann", state["conversation"], state["turn"]) if messages is None else messages
    return chat.edit(settings, messages, state, SimpleNamespace(index=at, value=text))


def test_arrows_lead_to_the_branch_and_the_message_is_what_was_typed(talk):
    settings, state, turns = talk
    html = transcript(settings, "ann", state["conversation"], state["turn"])[2]["content"]
    assert "2&#47;2" in html and f"?branch={turns[1]}" in html and turns[2] not in html
    assert shown(settings, state) == ["tides", "why three"]
    bot, state, cleared, *_ = chat.open_branch(settings, turns[1], state)
    assert cleared == "" and shown(settings, state) == ["tides", "why <b>two</b>"] and state["left"]
    assert len(bot.value) == 4 and branches.open_branch(settings.db, "ann", turns[2])
    assert shown(settings, state)[1] == "why <b>two</b>", "another page has turned, this one has not"
    html = transcript(settings, "ann", state["conversation"], state["turn"])[2]["content"]
    assert "1&#47;2" in html and f"?branch={turns[2]}" in html
    assert transcript(settings, "ann", state["conversation"], None, until=turns[2])[-1]["role"] == "assistant"


def test_an_edit_of_an_own_message_asks_anew_in_its_place(talk):
    settings, state, turns = talk
    bot, again = edited(settings, state, 2, "why four")
    assert "why four" in str(bot.value[-1]["content"]) and len(bot.value) == 3
    _, pending = replies.anew(settings, again, "", state)
    assert pending == "why four" and state["instead_of"] == turns[2] and state["edited"] == 2
    assert edited(settings, state, 2, "why four")[1] != again, "the same once more is another edit"
    box, waits, _, reopened, *_ = replies.free(settings, "a draft", pending, state)
    assert json.loads(reopened)[:2] == [2, "why four"], "what was stopped before it began comes back into its editor"
    assert waits == "" and "value" not in box.constructor_args and state["instead_of"] is None
    _, pending = replies.anew(settings, again, "", state)
    sidebar.new(settings, state)
    box, *_ = replies.free(settings, "a draft", pending, state)
    assert box.value == "why four\na draft", "its message is not on the page any more"


@pytest.mark.parametrize("broken", ["waits", "empty", "two answers", "not one's own"])
def test_what_cannot_be_asked_anew_stays_in_its_editor(talk, broken):
    settings, state, _ = talk
    messages = transcript(settings, "ann", state["conversation"], state["turn"])
    if broken == "two answers":
        messages = messages[:3]
    if broken == "not one's own":
        other = conversations.start_conversation(settings.db, "bob")
        messages[3]["metadata"] = {"id": said(settings.db, other, "bob's")[1]}
    bot, again = edited(settings, state, 2, " " if broken == "empty" else "why four", messages)
    with pytest.raises(gr.Error):
        replies.anew(settings, again, "another" if broken == "waits" else "", state)
    assert not state.get("instead_of")
    reopened, open_again = replies.put_back(settings, again, state)
    assert len(open_again.value) == 4
    for shown in (bot, open_again):
        assert "elem_classes" not in shown.constructor_args, "an answer that is being written stays one"
    assert reopened == gr.skip() if broken == "empty" else json.loads(reopened)[:2] == [2, "why four"]


def test_nobody_turns_to_somebody_elses_branch(talk):
    settings, state, turns = talk
    bob = {"person": "bob", "conversation": None}
    for id in (turns[1], "nobody's", ""):
        with pytest.raises(gr.Error):
            chat.open_branch(settings, id, bob)
    with pytest.raises(UnknownRow):
        open_chat(settings, bob | {"conversation": state["conversation"], "turn": turns[1]})


def test_the_open_conversation_is_deleted_and_no_other(talk):
    settings, state, _ = talk
    kept = conversations.start_conversation(settings.db, "ann", "Kept")
    turn, _ = said(settings.db, kept, "kept")
    asked = sidebar.what_goes(settings, state["conversation"], state)
    assert asked == "Delete “Tides” for good (messages: 3, votes: 0)"
    for id, person in ((kept, "ann"), ("", "ann"), (state["conversation"], "bob")):
        with pytest.raises(gr.Error):
            sidebar.erase_one(settings, id, state | {"person": person})
    sidebar.erase_one(settings, state["conversation"], state)
    assert state["conversation"] is None and state["turn"] is None
    assert conversations.find_conversations(settings.db, "ann") == [(kept, "Kept")]
    with pytest.raises(gr.Error):
        sidebar.what_goes(settings, "", state)
    sidebar.load(settings, kept, state)
    assert state["turn"] == turn
