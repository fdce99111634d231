"""The blind duel: who may meet, both answers in step, and the standings."""

from threading import Event

import gradio as gr
import numpy as np
import pytest

from kdloop.chat import arena
from kdloop.feedback import collect
from kdloop.settings import Settings
from kdloop.student import PromptTooLong
from kdloop.student.serving import Serving
from kdloop.student.transformers import TransformersEngine
from kdloop.ui import arena as tab
from storage import checkpoints, conversations, feedback, people, rounds
from storage.conversations import UnknownRow
from storage.database import open_database


@pytest.fixture
def settings(tmp_path, tiny_student):
    s = Settings(home=tmp_path, student=tiny_student, max_tokens=12)
    checkpoints.ensure_base(open_database(s.db))
    return s


def test_two_answers_grow_in_step_and_only_the_vote_tells_who_wrote_them(settings, tiny_student):
    serving = Serving(settings.db, lambda: TransformersEngine(tiny_student))
    seen = list(arena.duel(settings, serving, "ann", "Who are you?", Event()))
    left, right = seen[-1]
    assert left.status != "open" and right.status != "open" and left.turn_id == right.turn_id
    assert left.completion_id != right.completion_id and len(seen) > 5
    assert arena.names(settings.db, left.completion_id, right.completion_id, "ann") == ("v0", "v0")
    with pytest.raises(UnknownRow):
        arena.names(settings.db, left.completion_id, right.completion_id, "bob")
    with pytest.raises(ValueError, match="Type a message"):
        next(arena.duel(settings, serving, "ann", "  ", Event()))


def test_a_prompt_that_the_student_cannot_read_whole_is_refused_and_leaves_nothing(settings, tiny_student):
    serving = Serving(settings.db, lambda: TransformersEngine(tiny_student))
    with pytest.raises(PromptTooLong, match="at most 2036 tokens"):
        next(arena.duel(settings, serving, "ann", "a1; " * 2000, Event()))
    assert not any(people.everything(settings.db, "ann").values())


def test_stop_ends_both(settings, tiny_student):
    serving, stop = Serving(settings.db, lambda: TransformersEngine(tiny_student)), Event()
    seen = []
    for pair in arena.duel(settings, serving, "ann", "Who are you?", stop):
        seen.append(pair)
        stop.set()
    assert {r.status for r in seen[-1]} <= {"stopped", "finished"}


def test_a_duel_is_neither_listed_nor_opened_but_is_in_the_copy_and_is_erased(settings, tiny_student):
    """Opened, it would say who wrote which answer before the vote."""
    serving, db = Serving(settings.db, lambda: TransformersEngine(tiny_student)), settings.db
    *_, (left, _) = arena.duel(settings, serving, "ann", "Who are you?", Event())
    duel = conversations.turn(db, left.turn_id).conversation_id
    assert conversations.find_conversations(db, "ann") == []
    with pytest.raises(UnknownRow):
        conversations.history(db, duel, "ann")
    assert [c["id"] for c in people.everything(db, "ann")["conversations"]] == [duel]
    people.erase(db, "ann")
    assert not any(people.everything(db, "ann").values())


def test_a_pair_takes_one_vote_and_after_an_undo_none(db):
    pair, state = met(db, 1, 1), {"person": "ann"}
    settings, state["duel"] = Settings(home=db.parent), pair
    assert tab.vote(settings, "left", state)[-1] is state
    assert [f.chosen_id for f in feedback.live_feedback(db)] == [pair[0]]
    with pytest.raises(gr.Error, match="No duel"):
        tab.vote(settings, "right", state)
    tab.undo(settings, state)
    assert feedback.live_feedback(db) == []
    for again in (tab.undo, lambda settings, state: tab.vote(settings, "right", state)):
        with pytest.raises(gr.Error):
            again(settings, state)
    assert feedback.live_feedback(db) == []


def test_a_vote_that_is_refused_can_be_cast_again(db):
    state = {"person": "ann", "duel": ("unknown", "unknown")}
    with pytest.raises(gr.Error, match="No completion"):
        tab.vote(Settings(home=db.parent), "left", state)
    assert state["duel"]


def test_the_champion_meets_itself_its_predecessor_the_base_and_the_newest_candidate(db):
    assert [k.name for k in arena.opponents(db)] == ["v0"]
    v1, v2 = (checkpoints.promote(db, candidate(db).id).id for _ in range(2))
    waiting, refused = candidate(db), candidate(db)
    assert {k.id for k in arena.opponents(db)} == {1, v1, v2, refused.id}
    checkpoints.reject(db, refused.id, refused.round_id)
    assert {k.id for k in arena.opponents(db)} == {1, v1, v2, refused.id}
    newer = candidate(db)
    checkpoints.reject(db, newer.id, newer.round_id)
    assert checkpoints.prune(db) == [refused.id]
    assert {k.id for k in arena.opponents(db)} == {1, v1, v2, newer.id}
    assert arena.names(db, *met(db, waiting.id, v2), "ann") == (f"candidate {waiting.id}", "v2")


def test_standings_put_the_winner_first_with_the_interval_of_its_lead(db):
    base, rival = checkpoints.serving(db).id, checkpoints.promote(db, candidate(db).id).id
    for i in range(12):
        collect.choose(db, "ann", *met(db, base, rival), "right" if i % 6 else "tie")
    best, worst = arena.standings(db)
    assert (best.name, worst.name) == ("v1", "v0") and best.n == 12
    assert worst.low == worst.score == worst.high == 0 < best.score
    p = 1 / (1 + np.exp(-best.score))
    error = 1.96 / np.sqrt(12 * p * (1 - p) + 1 / 2)  # the lead's own posterior: its prior has the variance 2
    assert (best.low, best.high) == pytest.approx((best.score - error, best.score + error), rel=1e-3)


def test_standings_start_at_the_base_even_where_it_met_nobody(db):
    one, two = (checkpoints.promote(db, candidate(db).id).id for _ in range(2))
    for _ in range(6):
        collect.choose(db, "ann", *met(db, one, two), "right")
    assert [(s.name, s.n, round(s.score, 3)) for s in arena.standings(db)][1] == ("v0", 0, 0)
    assert [s.name for s in arena.standings(db)] == ["v2", "v0", "v1"]


def candidate(db):
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    rounds.release_lease(db, "me")
    return checkpoints.publish(
        db, round.id, lambda d: (d / "w").write_text("x"), parent_id=1, method="dpo", seed=1, metrics={}
    )


def met(db, *checkpoint_ids):
    """Completions of one prompt by these checkpoints."""
    conversation = conversations.start_conversation(db, "ann", kind="duel")
    turn = conversations.add_turn(db, conversation, [{"role": "user", "content": "Hello?"}])
    return [
        conversations.add_completion(db, turn.id, "student", text=f"I am {i}: {k}", checkpoint_id=k)
        for i, k in enumerate(checkpoint_ids)
    ]
