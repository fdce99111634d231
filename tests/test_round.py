"""Whole rounds in this process, on a random two-layer student: how they begin and end, not what is learned."""

import pytest

from kdloop import recipes, round
from kdloop.settings import Settings
from storage import conversations, rounds


@pytest.fixture
def ended(db, tiny_student):
    """A function: runs a round on the tiny student to its end; the round's row."""

    def run(recipe, requested="auto", **settings):
        started = rounds.start_round(db, requested=requested, seed=1, started_by="test", owner="me", recipe=recipe)
        settings = {"round_max_tokens": 8, "gate_prompts": 4} | settings
        round.run(Settings(home=db.parent, student=tiny_student, **settings), started)
        rounds.release_lease(db, "me")
        return rounds.get_round(db, started.id)

    return run


@pytest.mark.parametrize("method", ["jsd", "hidden_l2", "uld", "bake"])
def test_a_method_without_what_it_needs_is_refused_before_anything_is_elicited(db, ended, method):
    refused = ended(recipes.load("verified").as_dict(), method)
    assert refused.status == "rejected" and f"{method} needs a" in refused.verdict["reason"]
    assert "KDLOOP_" in refused.verdict["reason"] and not conversations.find_conversations(db, f"round {refused.id}")
