"""The sidebar's search: whole texts, in any script, whatever their case and encoding; and nothing but texts."""

import unicodedata

import pytest

from storage import checkpoints, conversations
from storage.conversations import as_prompt
from storage.words import searchable


def chat(db, asked, said="Yes.", person="ann", title=""):
    id = conversations.start_conversation(db, person, title)
    turn = conversations.add_turn(db, id, as_prompt(asked))
    conversations.add_completion(db, turn.id, "student", text=said, checkpoint_id=checkpoints.serving(db).id)
    return id


def found(db, search, person="ann"):
    return [id for id, _ in conversations.find_conversations(db, person, search)]


@pytest.mark.parametrize(
    ("text", "search"),
    [
        ("So ein Ärger!", "ärger"),
        ("Große Straßen", "GROSSE STRASSEN"),
        ("DIE GROẞE FRAGE", "große frage"),
        ("Ёлка и Щука", "ёлка И щУКА"),
        ("Ὀδυσσεύς", "ὈΔΥΣΣΕΎΣ"),
        ("ο λόγος", "ΛΟΓΟΣ"),
        ("İstanbul ve Iğdır", "istanbul VE IĞDIR"),
        ("ılık", "ILIK"),
        (unicodedata.normalize("NFD", "Crème brûlée à la façon de Zoë"), "CRÈME BRÛLÉE À LA FAÇON DE ZOË"),
        ("ﬁnancial ｆｕｌｌ ① ㎏", "financial full 1 KG"),
        ("she said “don’t”", '"don\'t"'),
        ("rock\u00adets\u200b fly", "rockets fly"),
        ("a\n\tb", "a b"),
        ("100% of a_b", "0% of a_b"),
        ("C:\\new\\table", "c:\\NEW\\t"),
        ("{'role': \"x\"}", "{'role': \"X\"}"),
        ("データ解析", "データ"),
        ("👍🏽 fine", "👍🏽"),
    ],
)
def test_a_text_is_found_where_it_was_asked_said_or_is_a_title(db, text, search):
    chats = [chat(db, text), chat(db, "x", text), chat(db, "x", title=text)]
    chat(db, "something else"), chat(db, text, person="bob")
    assert set(found(db, search)) == set(chats)


@pytest.mark.parametrize(
    "search", ["role", "content", "assistant", "user", '"', "{", "[", "\\", "%", "_", ":", "u00e4"]
)
def test_what_nobody_said_is_not_found(db, search):
    chat(db, "Ärger")
    assert found(db, search) == []


def test_accents_count_and_an_empty_search_finds_all(db):
    beautiful, already = chat(db, "schön"), chat(db, "schon")
    assert found(db, "schon") == [already] and set(found(db, "  ")) == {beautiful, already}


def test_what_an_earlier_turn_said_is_found_once_and_what_failed_is_not(db):
    id = chat(db, "apple")
    turn = conversations.add_turn(
        db, id, [*as_prompt("apple"), {"role": "assistant", "content": "Yes."}, *as_prompt("pear")]
    )
    conversations.add_completion(db, turn.id, "student", text="plum", status="failed", checkpoint_id=1)
    assert found(db, "APPLE") == found(db, "pear") == [id] and found(db, "plum") == []


def test_searchable_is_stable():
    for text in ("ǅ", "ŉ", "ΐ", "ᾼ", "ﬀ", "℡", "İ", "ẞ", "ς", "Å"):
        assert searchable(searchable(text)) == searchable(text) == searchable(unicodedata.normalize("NFD", text))
