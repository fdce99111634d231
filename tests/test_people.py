"""What a person may see and delete, and what the search in the sidebar finds."""

import pytest

from kdloop import collect
from storage import checkpoints, conversations, feedback, people, rounds


def talk(db, person, question="How do tides work?"):
    conversation = conversations.start_conversation(db, person, question)
    turn = conversations.add_turn(db, conversation, [{"role": "user", "content": question}])
    base = checkpoints.serving(db).id
    return conversation, conversations.add_completion(db, turn.id, "student", text="By the Moon.", checkpoint_id=base)


def test_a_copy_holds_ones_own_rows_and_nobody_elses(db):
    talk(db, "ann")
    _, completion = talk(db, "bob", "Überraschung?")
    collect.thumb(db, "bob", completion, True)
    copy = people.everything(db, "bob")
    assert [len(rows) for rows in copy.values()] == [1, 1, 1, 1]
    assert "Überraschung?" in str(copy) and "tides" not in str(copy)


def test_erasure_leaves_nothing_and_names_what_had_learned(db):
    _, completion = talk(db, "ann")
    row = collect.thumb(db, "ann", completion, True)
    _, other = talk(db, "bob")
    collect.thumb(db, "bob", other, True)
    first = publish(db, checkpoints.serving(db).id, [row])
    descendant = publish(db, first.id, [])
    assert people.erase(db, "ann") == [first.id, descendant.id]
    assert not any(people.everything(db, "ann").values())
    assert [f.rater for f in feedback.live_feedback(db)] == ["bob"]
    assert people.erase(db, "bob") == []
    assert b"By the Moon" not in db.read_bytes()


def publish(db, parent_id, rows):
    round_id = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me").id
    rounds.use_feedback(db, round_id, rows, [])

    def save(directory):
        (directory / "weights").write_text(str(parent_id))

    candidate = checkpoints.publish(
        db, round_id, save, parent_id=parent_id, method="dpo", seed=1, metrics={"fingerprint": []}
    )
    rounds.finish_round(db, round_id, "failed")
    rounds.release_lease(db, "me")
    return candidate


@pytest.mark.parametrize("search, found", [("", 2), ("tides", 1), ("über", 1), ("moon", 2), ("100%", 0), ("_", 0)])
def test_conversations_are_found_by_title_and_text(db, search, found):
    talk(db, "ann")
    talk(db, "ann", "über Wien")
    talk(db, "bob", "100%_")
    assert len(conversations.find_conversations(db, "ann", search)) == found
