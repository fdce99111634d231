"""A trial from its first comparison to its end, on a real database: what counts, what does not, and what serves."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from kdloop.feedback import collect
from kdloop.gate import trial
from kdloop.gate.thumbs import FEWEST, watch, worst
from kdloop.settings import Settings, change, current
from storage import checkpoints, conversations, database, feedback, people, rounds, trials
from storage.conversations import as_prompt
from storage.rounds import RoundRunning

NUMBER = count()


def judged(db, mode, **told):
    """A candidate that the judge has passed, put on trial; its checkpoint's id."""
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    rounds.release_lease(db, "me")
    k = checkpoints.publish(
        db, round.id, lambda d: (d / "w").write_text("x"), parent_id=1, method="dpo", seed=1, metrics={}
    )
    told = {"verdict": {"passed": True, "n": 20, "reason": "On trial: 15 wins"}} | told
    checkpoints.promote(db, k.id, round.id, mode, **told)
    return k.id


def pair(db, person="ann", offered=True):
    """(challenger's, champion's) completion of a new prompt of this person, offered as a pair of the running trial."""
    known = trials.running(db)
    turn = conversations.add_turn(db, conversations.start_conversation(db, person), as_prompt(f"{next(NUMBER)}?"))
    ids = [
        conversations.add_completion(db, turn.id, "student", text=f"{k} says", checkpoint_id=k)
        for k in (known.challenger, known.champion)
    ]
    if offered:
        trials.offer(db, known.id, *ids)
    return ids


def compare(db, choices, person="ann"):
    for choice in choices:
        collect.choose(db, person, *pair(db, person), choice)


WINS, LOSSES = ["left"] * 9, ["right"] * 9


def test_in_a_trial_the_challenger_serves_at_once_and_people_confirm_it(db):
    id = judged(db, "trial")
    assert checkpoints.serving(db).id == id and rounds.list_rounds(db)[0].status == "on trial"
    assert trial.settle(db, shared=False) is None
    compare(db, WINS[:5])
    assert trial.settle(db, shared=False) is None, "five comparisons are too few"
    compare(db, ["right", "tie", *WINS])
    ended = trial.settle(db, shared=False)
    assert ended.outcome == "confirmed" and ended.evidence["losses"] == 1 and ended.ended
    last = rounds.list_rounds(db)[0]
    assert last.status == "promoted" and "15 wins. Confirmed by people: " in last.verdict["reason"]
    assert checkpoints.serving(db).id == id and trials.running(db) is None and trial.settle(db, False) is None
    assert trials.standings(db) == {id: "confirmed"}


def test_people_roll_back_what_they_do_not_prefer_and_a_restart_changes_nothing(db):
    id = judged(db, "trial")
    compare(db, LOSSES)
    database.forget(db)
    before = trial.evidence(db, trials.running(db), shared=False)
    assert trial.settle(db, shared=False).outcome == "rolled back"
    served, refused = checkpoints.serving(db), checkpoints.get_checkpoint(db, id)
    assert served.version == 0 and (refused.status, refused.version) == ("rejected", 1)
    assert rounds.list_rounds(db)[0].status == "rejected"
    assert trial.evidence(db, trials.all_trials(db)[0], shared=False) == before, "it can be recomputed"
    assert judged(db, "trial") and checkpoints.serving(db).version == 2


def test_where_people_come_first_the_champion_serves_until_they_have_confirmed(db):
    id = judged(db, "confirm")
    assert checkpoints.serving(db).version == 0 and checkpoints.get_checkpoint(db, id).status == "candidate"
    assert checkpoints.prune(db) == []
    compare(db, WINS)
    assert trial.settle(db, shared=False).outcome == "confirmed"
    assert (checkpoints.serving(db).id, checkpoints.serving(db).version) == (id, 1)
    other = judged(db, "confirm")
    compare(db, LOSSES)
    assert trial.settle(db, shared=False).outcome == "rolled back" and checkpoints.serving(db).id == id
    assert checkpoints.get_checkpoint(db, other).status == "rejected"


def test_by_the_judge_alone_there_is_no_trial_and_it_is_said_so(db):
    id = judged(db, "judge")
    assert checkpoints.serving(db).id == id and trials.running(db) is None
    assert trials.standings(db) == {id: "judge"}
    said = trial.announced("Promoted: 9 wins, all guards held", "judge")
    assert said == "Promoted by the judge alone: 9 wins, all guards held"
    assert trial.announced("Rejected: 9 wins", "trial") == "Rejected: 9 wins"


def counted(db):
    now = trial.evidence(db, trials.running(db), shared=False)[-1]
    return now.wins, now.losses, now.ties


def test_the_first_word_on_a_pair_stays_evidence_unless_it_is_erased_or_blocked(db):
    """Who takes back a vote after the names are told would choose by its outcome which votes count."""
    judged(db, "trial")
    compare(db, ["left", "left", "tie"])
    compare(db, ["right", "right", "both bad"], "bob")
    compare(db, ["left"], "cleo")
    assert counted(db) == (3, 2, 2)
    mine, other = pair(db)
    collect.choose(db, "ann", mine, other, "left")
    collect.choose(db, "ann", mine, other, "right")
    assert counted(db) == (4, 2, 2), "a second word on the same pair, when the names may be known, is none"
    for choice in ("left", "right", "tie", "both bad"):
        mine, other = pair(db)
        collect.choose(db, "ann", mine, other, choice)
        before = counted(db)
        for id in (mine, other):
            collect.undo(db, "ann", "choice", id)
        assert counted(db) == before and frozenset((mine, other)) not in trials.waiting_pairs(db)
    assert counted(db) == (5, 3, 4) and len(feedback.live_feedback(db)) == 9
    people.set_weight(db, "bob", 0)
    assert counted(db) == (5, 1, 3)
    people.set_weight(db, "bob", 0.5)
    assert counted(db) == (5, 2, 3.5)
    people.erase(db, "ann")
    assert counted(db) == (1, 1, 0.5)
    people.erase(db, "bob")
    people.erase(db, "cleo")
    assert counted(db) == (0, 0, 0) and trials.running(db).outcome == "running"


def test_only_what_was_shown_blind_counts(db):
    """A second try beside the first one is a choice too, by somebody who disliked the first; thumbs are no
    comparison."""
    judged(db, "trial")
    challenger, champion = pair(db, offered=False)
    collect.choose(db, "ann", challenger, champion, "left")
    collect.thumb(db, "ann", champion, liked=False)
    assert counted(db) == (0, 0, 0)
    before = trials.running(db)
    checkpoints.serve(db, 1)
    trials.offer(db, before.id, challenger, champion)
    assert trials.votes(db, before.id) == [], "an ended trial takes no more pairs"


def test_several_people_on_one_pair_are_one_comparison(db):
    """Pairs of the Teach tab belong to a round and are shown to everybody."""
    judged(db, "trial")
    conversation = conversations.start_conversation(db, "round 1")
    turn = conversations.add_turn(db, conversation, as_prompt("Why?"))
    known = trials.running(db)
    ids = [
        conversations.add_completion(db, turn.id, "student", text=f"{k}", checkpoint_id=k)
        for k in (known.challenger, known.champion)
    ]
    trials.offer(db, known.id, *ids)
    assert trials.waiting_pairs(db) == {frozenset(ids)}
    for person, better in (("ann", 0), ("bob", 1), ("cleo", 1)):
        feedback.add_feedback(
            db, turn.id, rater=person, channel="choice", chosen_id=ids[better], rejected_id=ids[1 - better]
        )
    assert counted(db) == (1, 0, 0) and trials.waiting_pairs(db) == set()


def test_an_empty_answer_can_be_lost_against_and_teaches_nothing(db):
    judged(db, "trial")
    for _ in range(9):
        challenger, champion = pair(db)
        conversations.finish_completion(db, challenger, text="", status="finished")
        with pytest.raises(ValueError, match="empty"):
            collect.choose(db, "ann", challenger, champion, "left")
        collect.choose(db, "ann", challenger, champion, "right")
    stopped, champion = pair(db)
    conversations.finish_completion(db, stopped, text="", status="stopped")
    with pytest.raises(ValueError, match="finished"):
        collect.choose(db, "ann", stopped, champion, "right")
    assert trial.settle(db, shared=False).outcome == "rolled back"


def test_while_a_challenger_is_on_trial_no_round_starts_and_an_owner_can_end_it(db):
    id = judged(db, "trial")
    with pytest.raises(RoundRunning, match="round 1 is on trial"):
        judged(db, "trial")
    checkpoints.serve(db, 1)
    assert trials.all_trials(db)[0].outcome == "ended by owner" and rounds.list_rounds(db)[0].status == "rejected"
    assert checkpoints.get_checkpoint(db, id).status == "rejected"
    better = judged(db, "confirm")
    assert checkpoints.serve(db, better).version == 2, "by hand it is confirmed"
    assert rounds.list_rounds(db)[0].status == "promoted" and checkpoints.get_checkpoint(db, better).status == "serving"
    ended = trials.all_trials(db)[1]
    assert not checkpoints.end_trial(db, ended, "rolled back", {}, "too late", 1)
    assert checkpoints.serving(db).id == better


def test_the_champion_of_a_trial_is_kept_however_old_and_where_it_is_damaged_an_ancestor_serves(db):
    first = judged(db, "judge")
    later = [judged(db, "judge") for _ in range(7)]
    checkpoints.serve(db, first)
    judged(db, "trial")
    assert checkpoints.prune(db, keep=5) == later[:-5] and not checkpoints.get_checkpoint(db, first).pruned_at
    (db.parent / checkpoints.get_checkpoint(db, first).path / "w").write_text("damaged")
    compare(db, LOSSES)
    assert trial.settle(db, shared=False).outcome == "rolled back" and checkpoints.serving(db).version == 0


def test_on_a_shared_page_one_person_alone_decides_nothing(db):
    judged(db, "trial")
    compare(db, WINS * 8)
    assert trial.settle(db, shared=True) is None
    compare(db, WINS, "bob")
    assert trial.settle(db, shared=True).outcome == "confirmed"


def rate(db, checkpoint, thumbs):
    for liked in thumbs:
        turn = conversations.add_turn(db, conversations.start_conversation(db, "ann"), as_prompt("Why?"))
        k = conversations.add_completion(db, turn.id, "student", text="so", checkpoint_id=checkpoint)
        collect.thumb(db, "ann", k, liked)


def test_thumbs_alarm_where_the_version_is_liked_far_less_than_the_one_before(db):
    assert watch(db) is None
    rate(db, 1, [True] * (FEWEST - 1))
    id = judged(db, "trial")
    assert watch(db) is None, "too few have rated the one before"
    rate(db, 1, [True] * 12)
    assert watch(db).evidence == 1 and not watch(db).alarm
    rate(db, id, [True, False] * 4)
    assert not watch(db).alarm
    rate(db, id, [False] * 8)
    now = watch(db)
    assert now.alarm and now.liked == (4, 16) and now.liked_before == (21, 21) and now.before > 0.8
    assert trials.running(db).outcome == "running", "it alarms, and acts on nothing"


def test_thumbs_hardly_ever_alarm_where_nothing_is_worse():
    draws = np.random.default_rng(5).random((400, 200)) < 0.7
    assert sum(worst(row, 0.7) >= 20 for row in draws) <= 0.05 * 400
    lower = np.random.default_rng(6).random((100, 100)) < 0.4
    assert sum(worst(row, 0.7) >= 20 for row in lower) > 95


def test_a_mode_is_one_of_three(db):
    settings = Settings(home=db.parent)
    assert current(settings).promotion == "trial"
    with pytest.raises(ValueError, match="one of trial, confirm, judge"):
        change(settings, {"promotion": "people"}, "owner")
    change(settings, {"promotion": "confirm"}, "owner")
    assert current(settings).promotion == "confirm" and current(replace(settings)).promotion == "confirm"
