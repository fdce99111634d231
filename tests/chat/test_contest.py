"""Who writes where a person compares two completions, on a real engine of two layers."""

from collections import Counter
from dataclasses import replace
from threading import Event

import pytest
from parts import published

from kdloop.chat import arena, chosen, contest
from kdloop.chat.turn import Place, is_time_to_compare, retry, say_twice
from kdloop.feedback import collect
from kdloop.gate import trial
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.student.transformers import TransformersEngine
from storage import checkpoints, conversations, offers, trials
from storage.conversations import as_prompt
from storage.database import open_database


@pytest.fixture(scope="module")
def base(tiny_student):
    return TransformersEngine(tiny_student)


@pytest.fixture
def app(tmp_path, base):
    settings = Settings(home=tmp_path, max_tokens=4)
    checkpoints.ensure_base(open_database(settings.db))
    return settings, Serving(settings.db, lambda: base)


def challenge(db, base, mode="trial"):
    """A version with other weights, on trial."""
    k = published(db, base)
    return checkpoints.promote(db, k.id, k.round_id, mode, verdict={"reason": "On trial: 15 wins", "n": 20})


def writers(pair):
    return tuple(reply.checkpoint.id for reply in pair)


@pytest.mark.parametrize("mode", ["trial", "confirm"])
def test_in_a_trial_chat_and_arena_set_challenger_and_champion_side_by_side(app, base, mode):
    settings, serving = app
    *_, both = say_twice(settings, serving, Place(), "ann", "Hello?", Event())
    assert writers(both) == (1, 1) and trials.waiting_pairs(settings.db) == set()
    k = challenge(settings.db, base, mode)
    sides = Counter()
    for i in range(16):
        *_, both = say_twice(settings, serving, Place(), "ann", f"Hello {i}?", Event())
        sides[writers(both)] += 1
    assert set(sides) == {(1, k.id), (k.id, 1)}, "on random sides"
    assert len(trials.waiting_pairs(settings.db)) == 16
    met = Counter()
    for i in range(16):
        *_, both = arena.duel(settings, serving, "ann", f"Hello {i}?", Event())
        met[frozenset(writers(both))] += 1
    assert met[frozenset({1, k.id})] > 6, "most duels are the trial's"
    assert len(trials.waiting_pairs(settings.db)) == 16 + met[frozenset({1, k.id})]


def test_a_second_try_is_no_blind_comparison(app, base):
    settings, serving = app
    *_, both = say_twice(settings, serving, Place(), "ann", "Hello?", Event())
    challenge(settings.db, base)
    *_, again = retry(settings, serving, both[1].completion_id, "ann", Event())
    assert again.checkpoint.id != 1, "the challenger answers already"
    if again.text and both[1].text:
        collect.choose(settings.db, "ann", both[1].completion_id, again.completion_id, "right")
    assert trials.votes(settings.db, trials.running(settings.db).id) == []


def test_comparisons_come_more_often_in_a_trial_and_never_stays_never(app, base):
    settings, _ = app
    assert [contest.compares_every(settings.db, n) for n in (0, 1, 2, 6, 12)] == [0, 1, 2, 6, 12]
    challenge(settings.db, base)
    assert [contest.compares_every(settings.db, n) for n in (0, 1, 2, 6, 12)] == [0, 1, 2, 2, 4]
    conversations.add_turn(settings.db, conversations.start_conversation(settings.db, "ann"), as_prompt("Hm?"))
    assert is_time_to_compare(settings, "ann")
    assert not is_time_to_compare(replace(settings, compare_every=0), "ann")


def test_a_champion_that_cannot_be_loaded_leaves_the_chat_with_the_challenger(app, base):
    settings, serving = app
    first = challenge(settings.db, base, "judge")
    serving.current()
    second = challenge(settings.db, base)
    (checkpoints.adapter_dir(settings.db, first) / "adapter_model.safetensors").write_bytes(b"not these")
    *_, both = say_twice(settings, serving, Place(), "ann", "Hello?", Event())
    assert writers(both) == (second.id, second.id) and first.id in serving.unfit


def test_the_supervisor_rolls_back_what_people_vote_down_and_the_next_reply_is_the_champions(app, base):
    settings, serving = app
    k = challenge(settings.db, base)
    assert serving.current()[1].id == k.id
    supervisor = Supervisor(settings, serving)
    for i in range(20):
        *_, both = say_twice(settings, serving, Place(), "ann", f"Hello {i}?", Event())
        mine, other = both if both[0].checkpoint.id == k.id else both[::-1]
        for reply in both:  # a random student may end at once
            conversations.finish_completion(settings.db, reply.completion_id, text="so", status="finished")
        collect.choose(settings.db, "ann", mine.completion_id, other.completion_id, "right")
        supervisor.tick()
        if serving.now[1].id == 1:
            break
    assert 5 <= i < 12 and serving.now[1].id == 1 and serving.next_to_it is None
    assert trials.all_trials(settings.db)[0].outcome == "rolled back" and trial.settle(settings.db, False) is None


def test_votes_wait_for_the_end_of_a_trial_and_start_a_round_then(app, base):
    settings, serving = app
    settings = replace(settings, round_votes=1)
    k = challenge(settings.db, base)
    *_, both = say_twice(settings, serving, Place(), "ann", "Hello?", Event())
    conversations.finish_completion(settings.db, both[0].completion_id, text="so", status="finished")
    schedule = Supervisor(settings, serving).schedule
    collect.thumb(settings.db, "ann", both[0].completion_id, True)
    assert schedule.due() is None
    checkpoints.serve(settings.db, k.id)
    assert schedule.due() == "votes"


def test_who_chooses_an_offered_version_is_answered_by_it_and_meets_no_trial(app, base):
    settings, serving = app
    db, zero = settings.db, checkpoints.base(settings.db)
    short = published(db, base)
    with pytest.raises(ValueError, match="no longer offered"):
        offers.choose(db, "ann", short.id)
    offers.offer(db, short.id, " short  answers ")
    with pytest.raises(ValueError, match="'short answers' already"):
        offers.offer(db, zero.id, "short answers")
    offers.choose(db, "ann", short.id)
    assert [(o.name, o.checkpoint.id) for o in offers.offered(db)] == [("short answers", short.id)]

    k = challenge(db, base)
    asked = {who: [chosen.by(serving, who)] for who in ("ann", "bob")}
    written = {who: list(say_twice(settings, by, Place(), who, "Hello?", Event()))[-1] for who, (by,) in asked.items()}
    assert writers(written["ann"]) == (short.id, short.id), "not the trial's two: she chose another one"
    assert set(writers(written["bob"])) == {zero.id, k.id} and len(trials.waiting_pairs(db)) == 1
    offers.offer(db, k.id, "new")
    offers.choose(db, "ann", k.id)
    *_, both = say_twice(settings, chosen.by(serving, "ann"), Place(), "ann", "Hello?", Event())
    assert set(writers(both)) == {zero.id, k.id}, "what serves on trial is compared by whoever has it"

    offers.choose(db, "ann", short.id)
    assert offers.withdraw(db, short.id) and offers.chosen(db, "ann") is None
    assert chosen.by(serving, "ann") is serving and not offers.withdraw(db, short.id)


def test_an_offered_version_is_not_pruned_and_where_it_is_damaged_what_serves_answers(app, base):
    settings, serving = app
    db = settings.db
    ours, other = published(db, base), published(db, base)
    for k in (ours, other):
        checkpoints.serve(db, k.id)
    checkpoints.serve(db, checkpoints.base(db).id)
    offers.offer(db, ours.id, "ours")
    offers.choose(db, "ann", ours.id)
    assert checkpoints.prune(db, keep=0) == [other.id]
    assert chosen.by(serving, "ann").current()[1].id == ours.id
    (settings.home / ours.path / "adapter_model.safetensors").write_bytes(b"")
    again = Serving(db, lambda: base)
    assert chosen.by(again, "ann").current()[1].version == 0
