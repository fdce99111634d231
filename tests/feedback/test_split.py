"""What is held out: every second conversation with feedback at first, later every fifth, for good."""

import pytest
from parts import migrations_before
from test_collect import ask

from kdloop.feedback import collect
from kdloop.feedback.examples import from_feedback
from kdloop.knowledge.rows import training_id
from storage import checkpoints, conversations
from storage.conversations import as_prompt
from storage.database import connect, new_id, open_database
from storage.migrations import MIGRATIONS
from storage.split import is_held_out, split_columns


def held_out(db):
    with connect(db) as c:
        return dict(map(tuple, c.execute("select id, held_out from conversations")))


@pytest.mark.parametrize("bulk", [True, False])
def test_of_36_conversations_with_a_vote_half_are_held_out(db, bulk):
    """Whether people begin them all before they vote or one by one; who does not vote does not count."""

    def begin(i):
        return ask(db, f"yes {i}", f"no {i}", question=f"Question {i}?")

    shown = [begin(i) for i in range(80)] if bulk else range(80)
    for i in range(80):
        a, b = shown[i] if bulk else begin(i)
        if i % 2 and i < 72:
            collect.choose(db, "ann", a, b, "left")
    split = from_feedback(db)
    assert (len(split.train), len(split.held_out)) == (18, 18)


def test_what_was_decided_stays_and_what_rounds_write_never_is_held_out(db):
    parts = {}
    for i in range(60):
        author = {"id": training_id(), "person": "round 1"} if i % 3 == 0 else {}
        (k,) = ask(db, f"said {i}", question=f"Question {i}?", **author)
        about = conversations.completion(db, k)
        collect.feedback.add_feedback(db, about.turn_id, rater="ann", channel="thumb", chosen_id=k)
        known = held_out(db)
        assert parts.items() <= known.items()
        parts = known
        if i % 3 == 0:
            assert not known[author["id"]]
        elif i % 7 == 0:
            collect.thumb(db, "ann", k, None)
    assert sum(parts.values()) == 20, "every second of 40"
    trained = {e.conversation for e in from_feedback(db).train}
    assert not any(parts[id] for id in trained)


def test_an_older_database_goes_on_to_hold_out_what_it_did(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.database.MIGRATIONS", MIGRATIONS[: MIGRATIONS.index(split_columns)])
    db = open_database(tmp_path / "kdloop.db")
    base, ids = checkpoints.ensure_base(db).id, [new_id() for _ in range(40)]
    with connect(db) as c:
        for id in ids:
            c.execute("insert into conversations (id, person, created_at) values (?, 'ann', '2026')", [id])
    monkeypatch.undo()
    open_database(db)
    for i, id in enumerate(ids):
        turn = conversations.add_turn(db, id, as_prompt(f"Question {i}?"))
        k = conversations.add_completion(db, turn.id, "student", text="Yes.", checkpoint_id=base)
        collect.thumb(db, "ann", k, True)
    split = from_feedback(db)
    assert {e.conversation for e in split.held_out} == {id for id in ids if is_held_out(id)}
    assert len(split.train) + len(split.held_out) == 40


def voted(db, n, start=0):
    """Votes in `n` conversations, and how many of these are held out."""
    before = sum(map(bool, held_out(db).values()))
    for i in range(start, start + n):
        collect.choose(db, "ann", *ask(db, f"yes {i}", f"no {i}", question=f"Question {i}?"), "left")
    return sum(map(bool, held_out(db).values())) - before


def test_of_many_votes_a_fifth_is_held_out(db):
    assert voted(db, 96) == 48 and voted(db, 100, 96) == 20


def test_a_database_that_held_out_every_fifth_keeps_what_it_decided(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.database.MIGRATIONS", migrations_before("half_at_first"))
    db = open_database(tmp_path / "kdloop.db")
    checkpoints.ensure_base(db)
    assert voted(db, 20) == 4
    decided = held_out(db)
    monkeypatch.undo()
    open_database(db)
    assert voted(db, 20, 20) == 10 and decided.items() <= held_out(db).items()
