"""Which examples a round trains on, and where it starts."""

from dataclasses import replace

import pytest
from test_methods import example
from transformers import AutoTokenizer

from kdloop import packs, recipes
from kdloop.feedback.examples import Split
from kdloop.knowledge.rows import training_id
from kdloop.methods import METHODS
from kdloop.rounds import selection
from storage import checkpoints, conversations, rounds
from storage.conversations import add_completion, as_prompt, start_conversation
from storage.feedback import add_feedback


def votes(n):
    return [example(i) for i in range(n)]


def elicited(n):
    return [replace(example(1000 + i), source="verifier", round=7) for i in range(n)]


@pytest.mark.parametrize("name", [n for n in recipes.names() if recipes.load(n).pack == "sums"])
def test_a_recipe_with_checks_trains_on_what_it_elicited_alone(name):
    recipe = recipes.load(name)
    train = selection.relevant([*votes(100), *elicited(20)], recipe, [])
    chosen = selection.select("sft", train, recipe, 1, None, None)
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
        train = selection.relevant([*votes(n_votes), *elicited(n_elicited)], recipe, [])
        chosen = selection.select("dpo", train, recipe, 1, None, None)
        assert (sum(e.source == "human" for e in chosen), sum(e.round == 7 for e in chosen)) == expected
    newest = [e for e in chosen if e.source == "human"]
    assert newest[0].conversation == "98"


def taught(db, recipe, questions, parent=None, save=lambda directory: (directory / "w").write_text("1")):
    """A round that was promoted, having trained on one pair for each question; the champion that it left."""
    parent = parent or checkpoints.serving(db)
    made = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me", recipe=recipe)
    rows = []
    for question in questions:
        turn = conversations.add_turn(db, start_conversation(db, "round", id=training_id()), as_prompt(question))
        sides = [add_completion(db, turn.id, "student", text=f"{w} thing", checkpoint_id=1) for w in ("good", "bad")]
        said = {"chosen_id": sides[0], "rejected_id": sides[1], "source": "verifier", "round_id": made.id}
        rows.append(add_feedback(db, turn.id, rater="checks", channel="ranking", **said))
    rounds.use_feedback(db, made.id, rows, [])
    k = checkpoints.publish(db, made.id, save, parent_id=parent.id, method="sft", seed=1, metrics={})
    checkpoints.promote(db, k.id, made.id, verdict={})
    rounds.release_lease(db, "me")
    return checkpoints.serving(db)


def test_votes_are_learned_from_the_base_while_all_of_them_fit():
    recipe = replace(recipes.VOTES, examples=80)
    assert selection.from_base(recipe, 60, []) and not selection.from_base(recipe, 61, [])
    assert selection.from_base(replace(recipe, knowledge=()), 80, [])
    assert not selection.from_base(replace(recipes.load("rejection"), start="auto"), 1, []), "it would not learn it"


def test_from_the_base_nothing_may_be_lost_that_a_recipe_has_taught(db):
    voted = taught(db, {}, ["How are you?"])
    voted = taught(db, recipes.VOTES.as_dict(), ["Who are you?"], voted)
    assert selection.from_base(recipes.VOTES, 9, selection.line_of(db, voted))
    counts = taught(db, recipes.load("rejection").as_dict(), ["What is 1 + 1?"], voted)
    assert not selection.from_base(recipes.VOTES, 9, selection.line_of(db, counts))
    after = taught(db, {}, ["Where are you?"], counts)
    assert not selection.from_base(recipes.VOTES, 9, selection.line_of(db, after))
    checkpoints.serve(db, voted.id)  # rolled back: what it has not learned cannot be lost
    assert selection.from_base(recipes.VOTES, 9, selection.line_of(db, checkpoints.serving(db)))


def test_a_quarter_of_a_training_is_what_the_champion_had_trained_on(db):
    sums = [f"What is {i} plus {i}, would you say?" for i in range(30)]
    held_out = packs.prompts("sums", "heldout")[0]
    line = selection.line_of(db, taught(db, recipes.load("rejection").as_dict(), [*sums, held_out]))
    chosen = [example(i) for i in range(24)]
    first, again, other = (selection.replay(db, line, "dpo", chosen, recipes.VOTES, seed) for seed in (1, 1, 2))
    assert len(first) == 8 and first == again != other
    assert {e.question for e in [*first, *other]} <= set(sums)
    known = selection.replay(db, line, "dpo", chosen * 9, recipes.VOTES, 1)
    assert len(known) == 30 and held_out not in {e.question for e in known}
    assert selection.replay(db, line, "dpo", [*chosen, *known], recipes.VOTES, 1) == [], "nothing is there twice"
    assert selection.replay(db, line, "tpo", chosen, recipes.VOTES, 1) == [], "no rankings were there"
    assert selection.replay(db, [], "dpo", chosen, recipes.VOTES, 1) == []


def test_a_raters_weight_acts_in_every_method(db):
    """Of 200 votes half are by one who counts a quarter: a method that does not weigh rows gets a quarter of these."""
    said = [replace(example(i), rater="eve" if i % 2 else "ann", weight=0.25 if i % 2 else 1.0) for i in range(200)]
    assert {m for m in METHODS if METHODS[m].weighs} == {
        *("cdpo", "simpo", "orpo", "tpo", "rrhf", "pro", "weighted_sft", "curriculum", "rest", "star", "adapter_soup")
    }
    for method in ("dpo", "kto", "sft", "spin", "forward_kl", "multi_turn"):
        kept = selection.usable(method, said, 1)
        assert sum(e.rater == "ann" for e in kept) == 100 and 15 <= sum(e.rater == "eve" for e in kept) <= 35
        assert kept == selection.usable(method, said, 1)
    assert selection.usable("cdpo", said, 1) == said
    alone = [e for e in said if e.rater == "eve"]
    assert selection.usable("dpo", alone, 1) == alone, "nobody counts more"


def test_what_was_read_before_elicitation_is_not_tokenized_again_unless_it_has_changed(tiny_student):
    tokenizer = AutoTokenizer.from_pretrained(tiny_student)
    votes_before = Split(votes(4), [example(9)])
    kept = selection.readable(votes_before, tokenizer, 200)
    assert selection.readable(votes_before, None, 200, known=kept) == kept == votes_before
    third = replace(votes_before.train[0].rejected, text="word " * 300)
    ranked = replace(votes_before.train[0], ranking=(*votes_before.train[0].completions, third))
    after = Split([ranked, *votes_before.train[1:], *elicited(1)], votes_before.held_out)
    again = selection.readable(after, tokenizer, 200, known=kept)
    assert again.train == after.train[1:] and again.dropped[selection.TOO_LONG] == 1
