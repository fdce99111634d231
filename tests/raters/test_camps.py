"""Two camps are found where people like opposite things, with their people; elsewhere none."""

import random
from dataclasses import replace

from test_preference_model import WORDS

from kdloop.feedback.examples import Example
from kdloop.raters import camps
from storage.conversations import Completion, as_prompt

PAIRS = 60  # of a short text and a long one


def vote(i, rater, likes_short):
    draw = random.Random(i % PAIRS)
    ends = draw.choices(".!", k=2)
    texts = [" ".join(draw.choices(WORDS, k=k + draw.randint(0, 4))) + end for k, end in zip((4, 9), ends, strict=True)]
    short, long = (Completion(f"{i}{side}", "t", "student", 1, text) for side, text in enumerate(texts))
    chosen, rejected = (short, long) if likes_short else (long, short)
    return Example(as_prompt(f"Tell me of {draw.choice(WORDS)}"), chosen, rejected, f"c{i}", (str(i),), rater=rater)


def said(people, votes, seed):
    """`people` are rater -> how often they like the shorter one; each votes so many times, in turns."""
    draw = random.Random(seed)
    order = [rater for _ in range(votes) for rater in people]
    return [vote(draw.randrange(PAIRS), rater, draw.random() < people[rater]) for rater in order]


def test_four_who_like_less_and_four_who_like_more_are_two_camps_and_a_coin_is_in_neither():
    people = {f"less {i}": 1.0 for i in range(4)} | {f"more {i}": 0.0 for i in range(4)} | {"coin": 0.5}
    votes = said(people, 14, 1)
    found = camps.find([*votes, *said({"few": 0.0}, 4, 2)])
    assert found.p_value < 0.01
    assert sorted(sorted(camp.people) for camp in found.both) == [
        [f"{w} {i}" for i in range(4)] for w in ("less", "more")
    ]
    assert [camp.votes for camp in found.both] == [56, 56]
    likes = {camp.people[0].split()[0]: camp.likes for camp in found.both}
    assert "less length" in likes["less"] and "more length" in likes["more"], likes
    assert not {"few", "coin"} & {person for camp in found.both for person in camp.people}
    written = [replace(e, chosen=replace(e.chosen, author="human")) for e in votes]
    assert camps.find(written) is None, "corrections are no choices"
    judged = [replace(e, source="judge") for e in votes]
    assert camps.find(judged) is None and camps.find(votes[:20]) is None


def test_one_taste_is_one_camp_also_beside_a_coin_whose_model_points_anywhere():
    for seed in range(3):
        assert camps.find(said({f"p{i}": 0.8 for i in range(8)}, 14, seed)) is None
    for seed in (21, 30, 33):  # whose coin's model misses the others' votes, while theirs do not miss its
        assert camps.find(said({f"p{i}": 1.0 for i in range(4)} | {"coin": 0.5}, 14, seed)) is None


def test_coins_are_no_camps():
    assert [camps.find(said(dict.fromkeys("abc", 0.5), 12, seed)) for seed in range(20)] == [None] * 20
