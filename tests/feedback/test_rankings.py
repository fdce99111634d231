"""What feedback/examples.py makes of feedback besides pairs: rankings, critiques, and how sure a rater was."""

from test_collect import ask

from kdloop.feedback import collect
from kdloop.feedback.examples import from_feedback
from kdloop.knowledge.rows import training_id
from storage import conversations, feedback, rounds


def learned(db, round=None):
    split = from_feedback(db, round)
    return [*split.train, *split.held_out]


def test_stars_of_one_turn_become_a_ranking_best_first(db):
    worst, best, middle, also_middle = ask(db, "aa", "bb cc", "dd ee", "ff gg")
    for k, n in ((worst, 1), (best, 5), (middle, 3), (also_middle, 3)):
        collect.stars(db, "ann", k, n)
    (e,) = learned(db)
    assert (e.chosen.text, e.rejected.text) == ("bb cc", "aa")
    first, second, last = (k.text for k in e.ranking)
    assert (first, last) == ("bb cc", "aa") and second in ("dd ee", "ff gg")


def test_a_correction_of_the_completion_that_was_chosen_ranks_three(db):
    left, right = ask(db, "one thing", "another thing")
    collect.choose(db, "ann", left, right, "left")
    collect.edit(db, "ann", left, "the thing itself")
    rankings = [[k.text for k in e.ranking] for e in learned(db) if e.ranking]
    assert rankings == [["the thing itself", "one thing", "another thing"]]


def test_a_correction_of_the_rejected_one_ranks_nothing(db):
    left, right = ask(db, "one thing", "another thing")
    collect.choose(db, "ann", left, right, "left")
    collect.edit(db, "ann", right, "the thing itself")
    assert not any(e.ranking for e in learned(db))


def test_a_critique_stays_with_the_dislike_that_it_explains(db):
    (k,) = ask(db, "a rude text")
    collect.thumb(db, "ann", k, False)
    collect.critique(db, "ann", k, "Too rude.")
    (e,) = learned(db)
    assert e.critique == "Too rude." and e.rejected.text == "a rude text" and not e.rationale


def test_an_ai_raters_pair_is_as_noisy_as_it_said(db):
    left, right = ask(db, "one thing", "another thing", id=training_id())
    turn = conversations.completion(db, left).turn_id
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="test").id
    said = {"chosen_id": left, "rejected_id": right, "score": 0.75, "source": "preference_model", "round_id": round}
    feedback.add_feedback(db, turn, rater="preference model", channel="ranking", **said)
    assert [e.noise for e in learned(db, round)] == [0.25]
