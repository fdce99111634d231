"""A card says whose completions a version learned from, under which terms, and how it was judged."""

import zipfile

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from kdloop.feedback import cards, exports
from kdloop.feedback.examples import MAX_VOTES
from kdloop.methods.lora import trainable_student
from kdloop.settings import Settings
from kdloop.student.base import licence
from kdloop.ui import models
from storage import checkpoints, conversations, feedback, rounds, snapshots, synthetic
from storage.conversations import as_prompt

VERDICT = {"reason": "Promoted: 41 wins, 9 losses.", "n": 64, "guards": {"length": {"value": 1.2, "limit": "<= 2.5"}}}


def version(
    db,
    parent,
    name="",
    licence="",
    restricted=0,
    save=lambda directory: (directory / "w").write_text("1"),
    author="teacher",
):
    """A child of `parent` that was trained on one pair, its chosen completion written by a teacher called `name`."""
    turn = conversations.add_turn(
        db, conversations.start_conversation(db, "ann"), as_prompt(f"Why does {name} like tall ships?")
    )
    how = {
        "author": author,
        "text": f"Because {name} grew up beside a harbour and learned to sail there.",
        "name": name,
        "licence": licence,
        "restricted": restricted,
    }
    theirs = conversations.add_completion(db, turn.id, **how)
    mine = conversations.add_completion(db, turn.id, "student", text="No idea.", checkpoint_id=parent.id)
    row = feedback.add_feedback(db, turn.id, rater="ann", channel="choice", chosen_id=theirs, rejected_id=mine)
    id = rounds.start_round(db, requested="dpo", seed=1, started_by="test", owner="me").id
    rounds.use_feedback(db, id, [row], [])
    child = checkpoints.publish(db, id, save, parent_id=parent.id, method="dpo", seed=1, metrics={})
    checkpoints.promote(db, child.id, id, verdict=VERDICT)
    rounds.release_lease(db, "me")
    return checkpoints.get_checkpoint(db, child.id)


def test_a_models_card_names_its_line_its_sources_and_its_verdict(db):
    base = checkpoints.serving(db)
    first = version(db, base, name="open-teacher", licence="mit")
    second = version(db, first, name="closed-teacher", licence="proprietary", restricted=1)
    card = ModelCard(cards.of_version(db, first, "", "apache-2.0"))
    assert card.data.license == "apache-2.0" and card.data.base_model.endswith("SmolLM2-135M-Instruct")
    assert "v0 → v1" in card.text and "| open-teacher | mit | human | 1 |" in card.text
    assert "41 wins" in card.text and "| length | 1.2 | <= 2.5 |" in card.text and "closed" not in card.text
    card = ModelCard(cards.of_version(db, second, "", "apache-2.0"))
    assert (
        card.data.license == "other" and "terms of closed-teacher, or of who wrote their prompts, forbid" in card.text
    )
    assert "| open-teacher | mit | human | 1 |" in card.text, "what its parent learned from is in it"
    assert "base student as it came" in cards.of_version(db, base, "", "apache-2.0")


def test_a_datasets_card_counts_what_may_leave_and_what_may_not(db):
    first = version(db, checkpoints.serving(db), name="open-teacher", licence="mit")
    version(db, first, name="closed-teacher", restricted=1)
    text = cards.of_dataset(db, {"dpo": 1}, "apache-2.0")
    assert yaml.safe_load(text.split("---")[1])["configs"] == [{"config_name": "dpo", "data_files": "dpo.jsonl"}]
    assert "| open-teacher | mit | 1 |" in text and "closed-teacher" not in text and ": 1 examples" in text


def test_a_datasets_card_counts_all_that_is_exported_and_not_what_a_round_reads(db, tmp_path):
    synthetic.fill(db, MAX_VOTES + 200, [checkpoints.serving(db).id])
    written = exports.publish(db, snapshots.Folder(tmp_path), "apache-2.0")
    assert written["dpo"] > MAX_VOTES
    assert f"| student | – | {2 * written['dpo']} |" in (tmp_path / "README.md").read_text()


def test_no_card_names_the_person_who_wrote_a_better_answer(db):
    k = version(db, checkpoints.serving(db), name="c0ffee-of-ann", author="human")
    model, dataset = cards.of_version(db, k, "", "apache-2.0"), cards.of_dataset(db, {"dpo": 1}, "apache-2.0")
    assert "| people | – | human | 1 |" in model and "| people | – | 1 |" in dataset
    assert "c0ffee" not in model + dataset


def test_the_licence_is_what_the_students_own_card_says(tmp_path):
    assert licence("", tmp_path) == "apache-2.0"
    assert licence(str(tmp_path), tmp_path) == ""
    (tmp_path / "README.md").write_text("---\nlicense: gemma\n---\n# A student\n")
    assert licence(str(tmp_path), tmp_path) == "gemma"


@pytest.mark.parametrize(
    ("form", "file"),
    [("adapter", "adapter_model.safetensors"), ("gguf", "adapter.gguf"), ("merged", "model.safetensors")],
)
def test_a_download_holds_the_weights_and_the_card(db, tiny_student, form, file):
    adapted = trainable_student(tiny_student, None, torch.float32, seed=1)
    k = version(db, checkpoints.serving(db), name="open-teacher", licence="mit", save=adapted.save_pretrained)
    settings = Settings(home=db.parent, student=tiny_student)
    with zipfile.ZipFile(models.download(settings, k.id, form, {"person": "ann"})) as archive:
        assert {file, "README.md"} <= set(archive.namelist())
        assert "| open-teacher | mit | human | 1 |" in archive.read("README.md").decode()
