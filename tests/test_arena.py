"""The blind duel: who may meet, both answers in step, and the standings."""

from threading import Event

import pytest

from kdloop import arena, collect
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.student.transformers import TransformersEngine
from storage import checkpoints, conversations
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


def test_stop_ends_both(settings, tiny_student):
    serving, stop = Serving(settings.db, lambda: TransformersEngine(tiny_student)), Event()
    seen = []
    for pair in arena.duel(settings, serving, "ann", "Who are you?", stop):
        seen.append(pair)
        stop.set()
    assert {r.status for r in seen[-1]} <= {"stopped", "finished"}


def test_standings_put_the_winner_first_with_an_interval(db):
    base = checkpoints.serving(db).id
    rival = checkpoints.publish(
        db, start_round(db), lambda d: (d / "w").write_text("x"), parent_id=base, method="dpo", seed=1, metrics={}
    ).id
    checkpoints.promote(db, rival)
    for i in range(12):
        meet(db, base, rival, "right" if i % 6 else "tie")
    best, worst = arena.standings(db)
    assert (best.name, worst.name) == ("v1", "v0") and best.n == 12
    assert best.low < best.score < best.high and best.score > 0.5
    assert worst.score == 0


def start_round(db):
    from storage import rounds

    return rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me").id


def meet(db, left, right, choice):
    turn = conversations.add_turn(
        db, conversations.start_conversation(db, "ann"), [{"role": "user", "content": "Hello?"}]
    )
    ids = [
        conversations.add_completion(db, turn.id, "student", text=f"I am {k}", checkpoint_id=k) for k in (left, right)
    ]
    collect.choose(db, "ann", *ids, choice)
