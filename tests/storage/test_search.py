"""The sidebar's search: whole texts, in any script, whatever their case and encoding; and nothing but texts."""

import unicodedata

import pytest

from storage import checkpoints, conversations, leftovers, people, search, snapshots
from storage.conversations import as_prompt
from storage.database import connect, open_database, transaction
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


@pytest.mark.parametrize(
    "search", ["é", "éa", "ж", "жи", "解", "解析", "👍", "a*b", "?x", "[", "[a-c]", "]", "*", "ö**"]
)
def test_what_is_shorter_than_a_trigram_is_found_by_its_letters_and_nothing_else(db, search):
    """FTS5's own LIKE and GLOB find nothing for two letters of three bytes and more."""
    id = chat(db, f"before {search} after")
    chat(db, "a plain b, x: abc")
    assert found(db, search.upper()) == [id]


def test_a_search_of_any_length_is_asked_and_none_ends_at_a_nul(db):
    long = "Why? [so] *" * 9000
    assert found(db, long) == []
    id = chat(db, long), chat(db, "x", "left\0right needle")
    assert found(db, long) == [id[0]] and found(db, "needle") == found(db, "LEFT\0RIGHT") == [id[1]]


def test_what_is_said_after_a_search_is_found_by_the_next_one(db):
    id = chat(db, "apple", title="Fruit")
    assert found(db, "pear") == [] and found(db, "fruit") == [id]
    turn = conversations.add_turn(db, id, as_prompt("a pear"))
    assert found(db, "pear") == [id]
    late = conversations.add_completion(db, turn.id, "student", status="open", checkpoint_id=1)
    assert found(db, "plum") == []
    conversations.finish_completion(db, late, text="a plum", status="finished")
    assert found(db, "PLUM") == found(db, "apple") == [id]
    conversations.finish_completion(db, late, text="a plum", status="failed")
    assert found(db, "plum") == [] and found(db, "apple") == [id]


def test_many_conversations_are_indexed_at_once_and_duels_never(db):
    chats = [chat(db, f"question {i}") for i in range(230)]
    duel = conversations.start_conversation(db, "ann", kind="duel")
    conversations.add_turn(db, duel, as_prompt("question 7"))
    assert found(db, "question 17") == [chats[i] for i in (179, *range(178, 169, -1), 17)]


def test_an_erasure_leaves_no_trigram_and_other_peoples_index_whole(db):
    letters = "Ջրաղաց"
    kept, gone = chat(db, "Where do mills turn?", person="bob"), chat(db, f"Where is the {letters}?")
    borrowed = conversations.add_completion(db, only_turn(db, kept), "human", text=f"By the {letters}.", name="ann")
    assert found(db, letters) == [gone] and found(db, letters, "bob") == [kept]
    assert searchable(letters)[:3].encode() in stored(db)
    people.erase(db, "ann")
    assert not [t for t in trigrams(searchable(letters)) if t.encode() in stored(db)]
    assert found(db, letters, "bob") == [] and found(db, "mills", "bob") == [kept] and found(db, "mills") == []
    with pytest.raises(conversations.UnknownRow):
        conversations.completion(db, borrowed)
    with connect(db) as c:
        c.execute("insert into texts_fts (texts_fts) values ('integrity-check')")


def test_an_erasure_that_was_killed_amid_its_index_is_finished_at_the_next_start(db):
    letters = "Ջրաղաց"
    for text in (letters, "and more"):
        chat(db, text)
        assert found(db, text)
    with transaction(db) as c:
        c["conversations"].delete_where("person = 'ann'")
        search.merge(c, -1)
    assert [t for t in trigrams(searchable(letters)) if t.encode() in stored(db)]
    leftovers.clear(db)
    assert not [t for t in trigrams(searchable(letters)) if t.encode() in stored(db)]


def test_a_snapshot_carries_the_index(db, tmp_path):
    id = chat(db, "Where do mills turn?")
    assert found(db, "MILLS") == [id]
    snapshots.take(db, snapshots.Folder(tmp_path / "snapshots"))
    snapshots.restore(tmp_path / "new" / "kdloop.db", snapshots.Folder(tmp_path / "snapshots"))
    with connect(open_database(tmp_path / "new" / "kdloop.db")) as c:
        assert c.execute("select count(*) from texts_fts where folded glob '*mills*'").fetchone()[0] == 1
        assert not c.execute("select 1 from conversations where not indexed").fetchone()


def only_turn(db, conversation_id):
    with connect(db) as c:
        return c.execute("select id from turns where conversation_id = ?", [conversation_id]).fetchone()[0]


def trigrams(text):
    return {text[i : i + 3] for i in range(len(text) - 2)}


def stored(db):
    """All bytes of the database and of its log."""
    return b"".join(path.read_bytes() for path in db.parent.glob("kdloop.db*"))
