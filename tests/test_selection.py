"""Which examples a round trains on, and where it starts."""

from dataclasses import replace

import pytest
from test_methods import example

from kdloop import recipes, selection


def votes(n):
    return [example(i) for i in range(n)]


def elicited(n):
    return [replace(example(1000 + i), source="verifier", round=7) for i in range(n)]


@pytest.mark.parametrize("name", [n for n in recipes.names() if recipes.load(n).pack == "sums"])
def test_a_recipe_with_checks_trains_on_what_it_elicited_alone(name):
    recipe = recipes.load(name)
    train = selection.relevant([*votes(100), *elicited(20)], recipe)
    chosen = selection.select("sft", train, recipe, None)
    assert len(chosen) == 20 and all(e.round == 7 for e in chosen)


@pytest.mark.parametrize(("name", "said", "ai"), [("contrast", 32, 32), ("votes", 60, 20)])
def test_votes_and_what_was_elicited_have_a_share_each_and_take_what_is_left(name, said, ai):
    recipe = recipes.VOTES if name == "votes" else recipes.load(name)
    recipe = replace(recipe, examples=said + ai)
    for n_votes, n_elicited, expected in (
        (99, 99, (said, ai)),
        (5, 99, (5, said + ai - 5)),
        (99, 5, (said + ai - 5, 5)),
    ):
        train = selection.relevant([*votes(n_votes), *elicited(n_elicited)], recipe)
        chosen = selection.select("dpo", train, recipe, None)
        assert (sum(e.source == "human" for e in chosen), sum(e.round == 7 for e in chosen)) == expected
    newest = [e for e in chosen if e.source == "human"]
    assert newest[0].conversation == "98"


def test_votes_are_learned_from_the_base_while_all_of_them_fit():
    recipe = replace(recipes.VOTES, examples=80)
    assert selection.from_base(recipe, 60) and not selection.from_base(recipe, 61)
    assert selection.from_base(replace(recipe, knowledge=()), 80)
    assert not selection.from_base(replace(recipes.load("rejection"), start="auto"), 1), "it would not learn that vote"
