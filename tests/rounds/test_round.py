"""Whole rounds in this process, on a random two-layer student: how they begin and end, not what is learned."""

import json
from dataclasses import replace

import pytest
import torch
from parts import vote
from safetensors.torch import load_file
from test_selection import taught

from kdloop import packs, recipes
from kdloop.evaluation import pack_new, pack_remove
from kdloop.feedback.examples import from_feedback
from kdloop.gate import guards, spending, verdict
from kdloop.methods.lora import trainable_student
from kdloop.packs import Task
from kdloop.recipes import Recipe
from kdloop.rounds import selection
from kdloop.rounds.run import run
from kdloop.rounds.setup import plan_of
from kdloop.rounds.tasks import GATE_TASKS, training_tasks
from kdloop.settings import Settings
from kdloop.student.journal import Journal
from storage import ancestry, checkpoints, conversations, rounds
from storage.conversations import as_prompt


@pytest.fixture
def ended(db, byte_student):
    """A function: runs a round on a small student to its end; the round's row."""

    def to_its_end(recipe, requested="auto", journal=None, **settings):
        started = rounds.start_round(db, requested=requested, seed=1, started_by="test", owner="me", recipe=recipe)
        settings = {"round_max_tokens": 8, "gate_prompts": 4} | settings
        run(Settings(home=db.parent, student=byte_student, **settings), started, journal)
        rounds.release_lease(db, "me")
        return rounds.get_round(db, started.id)

    return to_its_end


@pytest.mark.parametrize("method", ["jsd", "hidden_l2", "uld", "bake"])
def test_a_method_without_what_it_needs_is_refused_before_anything_is_elicited(db, ended, method):
    refused = ended(recipes.load("verified").as_dict(), method)
    assert refused.status == "rejected" and f"{method} needs a" in refused.verdict["reason"]
    assert "KDLOOP_" in refused.verdict["reason"] and not conversations.find_conversations(db, f"round {refused.id}")


def test_a_reward_by_the_packs_checks_needs_prompts_alone(db, ended, monkeypatch, tmp_path):
    """GRPO on a pack of sums without anybody's feedback, through all phases; the random student gets none right."""
    monkeypatch.setenv("KDLOOP_HOME", str(db.parent))
    lines = (f'{{"prompt": {json.dumps(t.prompt)}, "answer": {t.answer}}}\n' for t in packs.tasks("sums", "train"))
    (tmp_path / "sums.jsonl").write_text("".join(lines))
    pack_new.new("mine", str(tmp_path / "sums.jsonl"), "mit", disclaimer="Reckon it again.")
    recipe = replace(recipes.load("grpo"), pack="mine", prompts=8, examples=8, passes=2)
    judged = ended(recipe.as_dict())
    assert judged.status == "rejected" and judged.method == "grpo", judged.error
    assert judged.verdict["judged_by"] == f"checks of {GATE_TASKS} prompts" and judged.counts["train"] == 8
    assert judged.metrics["reward"] == 0 and set(judged.seconds) == {"elicit", "train", "gate"}
    base, candidate = checkpoints.lineage(db)
    assert candidate.parent_id == checkpoints.serving(db).id == base.id
    pack_remove.remove("mine")
    assert packs.disclaimers(db, base, candidate) == {"mine": "Reckon it again."} and not packs.disclaimers(db, base)


def test_the_packs_checks_are_the_reward_and_its_held_out_prompts_are_not_asked(db):
    recipe, split = recipes.load("grpo"), from_feedback(db, None, "sums")
    tasks = training_tasks(recipe, split, 1)
    started = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    reward = plan_of(Settings(), started, None, recipe, tasks).reward
    asked, right = as_prompt(tasks[0].prompt), f"It is {tasks[0].answer}"
    assert [reward(asked, text, True) for text in (right, "It is 1000", "")] == [1, 0, 0]
    assert reward(asked, right, False) == 0, "it was cut: it might have gone on to another number"
    asked = {packs.normal(e.question) for e in selection.relevant([], recipe, tasks)}
    assert len(asked) == recipe.prompts and not asked & packs.held_out("general", "sums")
    assert plan_of(Settings(), started, None, recipes.VOTES, [Task("Hello?")]).reward is None


def test_what_a_method_finds_out_as_it_trains_refuses_the_round_with_the_reason(db, ended):
    """A random student gives its own answers no points."""
    recipe = replace(recipes.load("grpo"), method="self_rewarding", prompts=8, examples=8)
    refused = ended(recipe.as_dict())
    assert refused.status == "rejected" and "gave a score in 0%" in refused.verdict["reason"], refused.error
    assert refused.candidate_id is None


def test_a_recipe_says_how_far_to_bake(ended):
    recipe = replace(recipes.load("grpo"), method="bake", prompts=8, examples=8, passes=2)
    scales = {}
    for strength in (1.0, 0.5):
        baked = ended(replace(recipe, strength=strength).as_dict(), bake="End with DONE.")
        assert baked.method == "bake", baked.error
        scales[strength] = baked.metrics["step scale"]
    assert scales[0.5] == scales[1.0] / 2 > 0


def test_a_round_learns_a_teachers_distribution_that_it_stored_without_asking_it_again(
    db, ended, byte_teacher, tmp_path
):
    (tmp_path / "teachers.toml").write_text(
        f'[[teacher]]\nname = "local"\ndirectory = "{byte_teacher}"\nterms = "allowed"\n'
    )
    steps = {"knowledge": ({"source": "features", "k": 16},), "method": "forward_kl", "start": "champion"}
    recipe = Recipe("mine", pack="sums", prompts=10, examples=10, passes=4, **steps)
    judged = ended(recipe.as_dict(), teachers=str(tmp_path / "teachers.toml"))
    assert judged.status in ("promoted", "on trial", "rejected") and judged.method == "forward_kl", judged.error
    assert judged.counts["elicited"] == {"features": judged.counts["train"]} and judged.metrics["loss"] > 0
    assert len(list((db.parent / "features").glob("*.npz"))) == judged.counts["train"] >= 8


@pytest.fixture
def blocked(monkeypatch):
    """The gate finds each candidate better, and a guard blocks each."""
    for module, name, value in (
        (spending, "LOOKS", ((1.0, 1e9),)),
        (spending, "MIN_DECIDED", 0),
        (verdict, "LEAST_WIN_RATE", 0.0),
        (guards, "MAX_REPETITION_RISE", -10.0),
    ):
        monkeypatch.setattr(module, name, value)


def test_a_votes_round_goes_on_from_what_a_recipe_has_taught_and_replays_it(db, ended, byte_student, blocked, tmp_path):
    """The circle in small: an adapter that serves, votes, pairs by the preference model, training, gate; and a step
    that is shortened twice, as a guard blocks it."""
    adapted = trainable_student(byte_student, None, torch.float32, seed=1)
    sums = [f"What is {i} plus {i}, would you say?" for i in range(40)]
    champion = taught(db, recipes.load("rejection").as_dict(), sums, save=adapted.save_pretrained)
    vote(db, 60)
    judged = ended(replace(recipes.VOTES, prompts=2, passes=4).as_dict(), journal=Journal(tmp_path))
    assert judged.status == "rejected" and judged.method == "dpo", judged.error or judged.verdict
    assert checkpoints.get_checkpoint(db, judged.candidate_id).parent_id == champion.id
    assert judged.counts["replayed"] == pytest.approx(judged.counts["train"] / 4, abs=1)
    assert "checks passed that were learned, change" in judged.verdict["guards"]
    trained = set(ancestry.trained_on(db, checkpoints.get_checkpoint(db, judged.candidate_id)))
    assert len(trained & set(ancestry.trained_on(db, champion))) == judged.counts["replayed"]

    tries = judged.verdict["tries"]
    numbers = [gate["number"] for gate in (*(t["gate"] for t in tries), judged.verdict["gate"])]
    assert numbers == [1, 2, 3] and rounds.gates_since(db, champion.id, judged.id + 1) == 3
    assert len({t["gate"]["seed"] for t in tries} | {judged.verdict["gate"]["seed"]}) == 3, "on prompts drawn anew"
    assert judged.status == "rejected" and "was shortened to 0.49 of its length, as" in judged.verdict["reason"]
    assert [k.status for k in checkpoints.lineage(db)].count("rejected") == 1, "each in the place of the one before"
    candidate = checkpoints.get_checkpoint(db, judged.candidate_id)
    assert candidate.metrics == judged.metrics | {"student": candidate.metrics["student"]}
    start, (_, end) = (torch.load(tmp_path / f"{name}.pt", weights_only=False)[0] for name in ("start", "trained"))
    written = load_file(checkpoints.adapter_dir(db, candidate) / "adapter_model.safetensors")
    for name, b in end.items():
        a = start[name]
        moved = a + candidate.metrics["step scale"] * (b - a)
        torch.testing.assert_close(written[name.replace(".default", "")], moved, rtol=1e-4, atol=1e-6)
