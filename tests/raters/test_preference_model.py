"""The preference model at scale: a refit after one vote, and raters who cannot be predicted from themselves."""

import random
from dataclasses import replace

import numpy as np
from parts import context

from kdloop import packs
from kdloop.feedback.examples import Example, from_feedback
from kdloop.knowledge.self_knowledge import best_of_n, rank
from kdloop.raters import preference_model
from storage.conversations import Completion, Draft, as_prompt

WORDS = ["bread", "river", "cloud", "music", "garden", "winter", "letter", "stone", "market", "window", "story"]


def vote(i, rater="ann", likes_short=True):
    """A choice between one of 200 short and one of 200 long texts."""
    draw = random.Random(i % 200)
    short, long = (Completion(f"{i}{n}", "t", "student", 1, " ".join(draw.choices(WORDS, k=n)) + ".") for n in (6, 18))
    chosen, rejected = (short, long) if likes_short else (long, short)
    return Example(as_prompt(f"Tell me of {draw.choice(WORDS)}"), chosen, rejected, f"c{i}", (str(i),), rater=rater)


def test_ten_thousand_votes_and_one_more_are_fitted():
    votes = [vote(i) for i in range(10_000)]
    before, after = preference_model.fit(votes), preference_model.fit([*votes, vote(10_000)])
    assert after.skill.proven and abs(after.weights - before.weights).max() < 0.1


def test_what_was_read_is_kept_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(preference_model, "MAX_CACHED", 50)
    asked = [f"Question {i}?" for i in range(80)]
    said = [("Bread and rivers.", True)] * 80
    first, again = preference_model.read(asked, said), preference_model.read(asked, said)
    assert (first[0] == again[0]).all() and (first[1] == again[1]).all()
    assert len(preference_model.FEATURE_CACHE) == 50 and ("Question 79?", *said[0]) in preference_model.FEATURE_CACHE


def test_a_rater_who_is_a_coin_counts_less_and_one_with_another_taste_does_not():
    flips = [True, False] * 40
    random.Random(1).shuffle(flips)
    steady = [vote(i) for i in range(80)]
    coin = [vote(i, "bob", flip) for i, flip in enumerate(flips)]
    contrary = [vote(i, "eve", likes_short=False) for i in range(80)]
    reliability = preference_model.fit([*steady, *coin]).reliability
    assert reliability["ann"] == 1 and reliability["bob"] < 0.5, reliability
    assert preference_model.fit(steady).reliability == {"ann": 1.0}
    assert min(preference_model.fit([*steady, *contrary]).reliability.values()) > 0.9


def test_a_vote_counts_as_much_as_its_raters_weight():
    """Two raters of opposite taste: who has the greater weight is learned, and equal weights are no weights."""
    likes = [vote(i) for i in range(40)] + [vote(i + 40, "eve", likes_short=False) for i in range(40)]
    unseen = [vote(i) for i in range(80, 100)]

    def agrees(ann, eve):
        weighed = [replace(e, weight=ann if e.rater == "ann" else eve) for e in likes]
        model = preference_model.fit(weighed)
        sides = [[e.chosen.said for e in unseen], [e.rejected.said for e in unseen]]
        p = model.probabilities([e.question for e in unseen], *sides)
        return (p > 0.5).mean()

    assert agrees(1.0, 0.1) > 0.9 and agrees(0.1, 1.0) < 0.1
    assert agrees(0.2, 0.2) == agrees(1.0, 1.0)


def test_a_completion_that_repeats_its_prompt_is_the_worst_of_its_group():
    rater, asked = preference_model.fit([vote(i) for i in range(80)]), "Tell me of bread and river and cloud."
    short, long = (" ".join(["music garden winter letter"] * n) + "." for n in (2, 5))
    said = [Draft(text, "finished", "student") for text in (asked, short, long)]
    echo, best, worst = rater.scores([asked] * 3, [s.said for s in said])
    assert echo > best > worst, "by this rater's taste the shortest is the best"
    ((_, chosen, rejected, probability),) = rank(rater, [as_prompt(asked)], [said], sure=0.99)
    assert (chosen, rejected, probability) == (said[1], said[0], 1.0)
    ((_, chosen, rejected, _),) = rank(rater, [as_prompt(asked)], [said[1:]], sure=0.5)
    assert (chosen, rejected) == (said[1], said[2]), "by taste, where all are answers"
    assert rank(rater, [as_prompt(asked)], [[said[0], said[0], said[0]]], sure=0.5) == []


def test_the_best_may_leave_its_prompt_hardly_more_than_the_worst():
    rater, asked = preference_model.fit([vote(i) for i in range(80)]), "What is bread made of?"
    astray = Draft("Music plays.", "finished", "student")
    near = Draft("Bread is made of flour, water, salt and yeast.", "finished", "student")
    far = Draft(
        "A winter letter in the garden was about music, and it was sent to a house by the sea.", "finished", "s"
    )
    ((_, chosen, rejected, _),) = rank(rater, [as_prompt(asked)], [[astray, near, far]], sure=0.5)
    assert (chosen, rejected) == (astray, far), "the shortest, by this rater's taste"
    ((_, chosen, rejected, _),) = rank(rater, [as_prompt(asked)], [[astray, near]], sure=0.5, astray=2.0)
    assert (chosen, rejected) == (astray, near)
    assert rank(rater, [as_prompt(asked)], [[astray, near]], sure=0.5, astray=0.1) == []


def test_the_best_are_preferred_to_their_prompt_said_again_where_a_recipe_asks_for_that(db):
    rater = preference_model.fit([vote(i) for i in range(80)])
    m = context(db, lambda messages, seed: " ".join(["bread river"] * (1 + seed % 8)), pack="general")
    m, tasks = replace(m, rater=rater), packs.tasks("general", "train")[:6]
    assert best_of_n(m, tasks, sure=0.5, echoes=2, astray=2.0) == 8
    rows = from_feedback(db, m.round.id).train
    again = [e for e in rows if e.rejected.text == e.question]
    best = {e.question: e.chosen.text for e in rows if e not in again}
    assert len(again) == 2 and len(best) == 6 and all(e.chosen.text == best[e.question] for e in again)
    assert {(e.source, e.rejected.author, e.rejected.name) for e in again} == {("student", "human", "the prompt")}


def test_folds_at_once_are_folds_one_by_one():
    """Each vote's margin is that of a model fitted without its conversation's fold."""
    draw = np.random.default_rng(2)
    x, prior = draw.normal(size=(60, 5)) + 0.3, np.full(5, 0.5)
    groups = [f"c{i // 2}" for i in range(60)]
    margins = preference_model.cross_validated(x, groups, prior)
    numbers = {g: i for i, g in enumerate(dict.fromkeys(groups))}
    fold = np.array([numbers[g] % preference_model.FOLDS for g in groups])
    for k in range(preference_model.FOLDS):
        _, mode, _ = preference_model.laplace(x[None, fold != k], prior)
        assert np.allclose(margins[fold == k], x[fold == k] @ mode[0], atol=1e-3)
    assert not preference_model.cross_validated(x, ["one"] * 60, prior).any(), "nothing to learn it from"


def test_a_taste_for_one_thing_is_soon_proven_and_a_coin_is_not():
    def proven(taste, seed):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(18, 49))
        return preference_model.flip_test(x * (np.sign(x[:, 3]) if taste else rng.choice([-1, 1], 18))[:, None]) < 0.01

    assert sum(proven(True, seed) for seed in range(6)) >= 4
    assert sum(proven(False, seed) for seed in range(6)) <= 1
