"""Votes on the same completions: one example, all their owners, the net weight, and how many said the opposite."""

from itertools import permutations

import pytest
import test_collect

from kdloop import methods
from kdloop.feedback import collect
from kdloop.feedback.examples import Example, from_feedback, relative_weights, trusted
from kdloop.knowledge.rows import training_id
from kdloop.methods import METHODS
from kdloop.rounds import selection
from kdloop.rounds.run import record_rows
from storage import ancestry, checkpoints, conversations, feedback, people, rounds
from storage.conversations import as_prompt


def ask(db, *texts, **of):
    """In a conversation that is not held out."""
    return test_collect.ask(db, *texts, id=training_id(), **of)


def asked(db, question="Which?"):
    """(turn, two completions of it): what a duel or the Teach tab shows to several people."""
    left, right = ask(db, "the left one", "the right one", person="round 1", question=question)
    return conversations.completion(db, left).turn_id, left, right


def vote(db, about, rater, choice="left"):
    return collect.prefer(db, rater, *about, choice)


def learned_by(db, split):
    """A checkpoint of a round that trained on the split."""
    id = rounds.start_round(db, requested="dpo", seed=1, started_by="test", owner="me").id
    record_rows(db, rounds.get_round(db, id), split.train, split)
    save = lambda directory: (directory / "w").write_text("1")  # noqa: E731
    made = checkpoints.publish(
        db, id, save, parent_id=checkpoints.serving(db).id, method="dpo", seed=1, metrics={"fingerprint": []}
    )
    rounds.finish_round(db, id, "failed")
    rounds.release_lease(db, "me")
    return made


def test_three_who_agree_are_one_example_that_each_of_them_owns(db):
    about = asked(db)
    rows = [vote(db, about, who) for who in ("ann", "bob", "cy")]
    split = from_feedback(db)
    (e,) = split.train
    assert set(e.rows) == set(rows) and (e.weight, e.noise, e.outvoted) == (3, 0, ())
    made = learned_by(db, split)
    assert ancestry.votes_behind(db, made) == 3
    for who in ("bob", "cy", "ann"):
        assert people.erase(db, who) == [made.id]


def test_who_was_outvoted_is_no_owner_of_the_example_and_of_what_learned_from_it(db):
    """Their vote took from its weight."""
    about = asked(db)
    agree = [vote(db, about, who) for who in ("ann", "bob", "cy")]
    against = [vote(db, about, who, "right") for who in ("dan", "eve")]
    split = from_feedback(db)
    (e,) = split.train
    assert e.chosen.text == "the left one" and set(e.rows) == set(agree) and set(e.outvoted) == set(against)
    assert (e.weight, e.noise, split.dropped["outvoted"]) == (1, 0.4, 2)
    made = learned_by(db, split)
    assert people.erase(db, "eve") == people.erase(db, "ann") == [made.id]


WEIGHTS = {"ann": 0.2, "bob": 1.0, "cy": 0.3, "eve": 0.4}


@pytest.mark.parametrize("order", list(permutations(WEIGHTS))[::5])
def test_the_order_of_votes_changes_no_weight(db, order):
    for who, weight in WEIGHTS.items():
        people.set_weight(db, who, weight)
    about = asked(db)
    for who in order:
        vote(db, about, who, "right" if who == "eve" else "left")
    (e,) = from_feedback(db).train
    assert e.weight == pytest.approx(1.1) and e.noise == pytest.approx(0.4 / 1.9)
    assert dict(e.votes) == {"ann": 0.2, "bob": 1.0, "cy": 0.3, "eve": -0.4}


def test_a_lone_vote_is_as_sure_as_nobody_knows_and_one_that_is_repeated_counts_once(db):
    texts = "the left one", "the right one"
    for _ in range(3):
        collect.choose(db, "ann", *ask(db, *texts), "left")
    (e,) = from_feedback(db).train
    assert (e.weight, e.noise, len(e.rows)) == (1, None, 3), "the same person, in three conversations"


def test_people_who_weigh_the_same_and_disagree_leave_nothing(db):
    about = asked(db)
    vote(db, about, "ann")
    vote(db, about, "bob", "right")
    assert from_feedback(db).train == []
    people.set_weight(db, "bob", 0.5)
    (e,) = from_feedback(db).train
    assert (e.weight, e.noise) == (0.5, pytest.approx(1 / 3))


@pytest.mark.parametrize(("agree", "method"), [(2, "cdpo"), (5, "dpo")])
def test_auto_sees_that_people_disagree_where_a_majority_decides(db, agree, method):
    for i in range(12):
        about = asked(db, f"Which one of the {i} is it?")
        for rater in range(agree):
            vote(db, about, f"person {rater}")
        vote(db, about, "eve", "right")
    split = from_feedback(db)
    assert methods.choose("auto", split.train, split.dropped["contradictory"])[0] == method


def test_a_raters_reliability_counts_in_training_but_not_against_what_they_wrote(db):
    people_said = asked(db)
    for who in ("ann", "bob", "cy"):
        vote(db, people_said, who, "left" if who == "ann" else "right")
    vote(db, asked(db, "And here?"), "bob")
    (k,) = ask(db, "No.", person="bob", question="And you?")
    collect.edit(db, "bob", k, "Yes.")
    train = from_feedback(db).train
    weights = [e.weight for e in trusted(train, {"ann": 1.0, "bob": 0.25, "cy": 1.0})]
    assert [e.weight for e in train] == [1, 1, 1] and weights == [0.25, 0.25, 1]
    assert [e.weight for e in trusted(train, {"cy": 0.1, "bob": 0.1})] == [0, 0.1, 1], "ann was right"
    assert selection.usable("dpo", trusted(train, {"cy": 0.0, "bob": 0.0}), 1) == [train[2]]


def test_many_votes_on_one_example_take_nothing_from_the_others(db):
    """A method that has no weights draws rows by their weight beside one vote, not beside the greatest."""
    about = asked(db)
    for i in range(9):
        vote(db, about, f"person {i}")
    for i in range(20):
        vote(db, asked(db, f"Number {i}?"), "ann")
    train = from_feedback(db).train
    assert len(train) >= 16 and max(relative_weights(train)) == 9
    assert not METHODS["dpo"].weighs and selection.usable("dpo", train, 1) == train


def test_a_ranking_is_found_across_people_who_saw_the_same(db):
    """Ann and Bob chose alike, so their votes are one; Bob went on to correct what he chose."""
    for who in ("ann", "bob"):
        left, right = ask(db, "a thing", "no thing", person=who)
        collect.choose(db, who, left, right, "left")
    collect.edit(db, "bob", left, "the thing itself")
    rankings = [[k.text for k in e.ranking] for e in from_feedback(db).train if e.ranking]
    assert rankings == [["the thing itself", "a thing", "no thing"]]


def test_an_ai_rater_is_not_heard_against_people(db):
    about = turn, left, right = asked(db)
    id = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me").id
    how = {"channel": "ranking", "source": "preference_model", "round_id": id, "score": 0.75}
    feedback.add_feedback(db, turn, rater="model", chosen_id=left, rejected_id=right, **how)
    assert [e.noise for e in from_feedback(db, id).train] == [0.25]
    vote(db, about, "ann", "right")
    split = from_feedback(db, id)
    ((e,),) = [split.train]
    assert (e.chosen.text, e.source, e.weight, e.noise) == ("the right one", "human", 1, None)
    assert split.dropped == {"decided by people": 1}


def test_what_a_conversation_asks_is_all_of_it():
    messages = [*as_prompt("Name a lake."), {"role": "assistant", "content": "Como."}, *as_prompt("A deeper one.")]
    e = Example(messages, None, None, "", ())
    assert [e.question.index(m["content"]) for m in messages] == sorted(
        e.question.index(m["content"]) for m in messages
    )
    assert Example(as_prompt("Name a lake."), None, None, "", ()).question == "Name a lake."
