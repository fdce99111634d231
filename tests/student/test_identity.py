"""Another student on a home, other weights in a directory, a home on another machine: nothing stale answers, and what
is handed over names a model that others can find."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from kdloop.chat import arena
from kdloop.evaluation import measure
from kdloop.feedback.examples import Example
from kdloop.knowledge import feature
from kdloop.methods.distill import stored
from kdloop.methods.lora import Plan, trainable_student
from kdloop.rounds.run import run
from kdloop.rounds.training import publish
from kdloop.settings import Settings
from kdloop.student import AdapterRefused
from kdloop.student.base import HUB_STUDENT, NoStudent, origin
from kdloop.student.engines import as_gguf
from kdloop.student.identity import Incomplete, base_model, identity, name_base
from kdloop.student.serving import Serving, WrongWeights, check, fingerprint
from kdloop.student.transformers import TransformersEngine
from kdloop.ui import models
from storage import checkpoints, rounds
from storage.checkpoints import OtherStudent
from storage.conversations import Completion, as_prompt
from storage.database import new_id

CACHED = "/c/hub/models--Qwen--Qwen3-0.6B/snapshots/f00d"


def me():
    """Somebody whom the pace of downloads does not keep waiting."""
    return {"person": new_id(), "address": "127.0.0.1"}


def engine(directory):
    return TransformersEngine(str(directory), dtype=torch.float32, device="cpu")


@pytest.fixture
def copied(tiny_student, tmp_path):
    """A student of one's own to change."""
    return Path(shutil.copytree(tiny_student, tmp_path / "copied"))


def trained_further(directory, only=None, by=0.5):
    """Other weights beside the config that is there; with `only`, one tensor of them."""
    weights = load_file(directory / "model.safetensors")
    torch.manual_seed(3)
    changed = {k: v + by * torch.randn_like(v) if only in (None, k) else v for k, v in weights.items()}
    save_file(changed, directory / "model.safetensors", metadata={"format": "pt"})


def published(settings, source, known=True):
    """A champion that a round would have published: of the student in `source`."""
    db, model = settings.db, trainable_student(str(source), None, torch.float32, 1)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.05)
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    rounds.release_lease(db, "me")
    if known:
        k = publish(settings, round, checkpoints.lineage(db)[0], model, engine(source), "dpo", {})
    else:  # as an older kdloop did
        metrics = {}

        def save(directory):
            model.save_pretrained(directory)
            metrics["fingerprint"] = fingerprint(engine(source).load(directory))

        k = checkpoints.publish(db, round.id, save, parent_id=1, method="dpo", seed=1, metrics=metrics)
    return checkpoints.promote(db, k.id, round.id)


def test_a_student_is_the_same_wherever_it_lies_and_whenever_it_was_written(tiny_student, copied):
    config = json.loads((copied / "config.json").read_text())
    config |= {"_name_or_path": "/somewhere/else", "transformers_version": "9.9"}
    (copied / "config.json").write_text(json.dumps(config, indent=7))
    (copied / "README.md").write_text("# A card")
    assert identity(copied) == identity(tiny_student)


@pytest.mark.parametrize(
    "change", ["all weights", "one norm", "a layer's own", "config", "template", "tokenizer", "half precision"]
)
def test_whatever_changes_what_a_student_says_makes_it_another(copied, change):
    before = identity(copied)
    if change == "all weights":
        trained_further(copied, by=1e-3)
    elif change == "one norm":
        trained_further(copied, only="model.norm.weight")
    elif change == "a layer's own":
        trained_further(copied, only="model.layers.1.mlp.up_proj.weight", by=1e-3)
    elif change == "config":
        config = json.loads((copied / "config.json").read_text())
        (copied / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    elif change == "template":
        path = copied / "chat_template.jinja"
        path.write_text(path.read_text().replace("assistant", "helper"))
    elif change == "tokenizer":
        path = copied / "tokenizer.json"
        path.write_text(path.read_text().replace('"id": 2', '"id": 3', 1))
    else:
        weights = {k: v.half() for k, v in load_file(copied / "model.safetensors").items()}
        save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    assert identity(copied) != before


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_weights_that_are_cut_off_are_refused_by_name(copied, keep):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(Incomplete, match=r"model\.safetensors is cut off"):
        identity(copied)
    with pytest.raises(NoStudent, match="cannot be loaded"):
        engine(copied)


@pytest.mark.parametrize(("name", "new"), [("num_hidden_layers", 3), ("hidden_size", 96)])
def test_new_weights_beside_an_old_config_are_refused_before_they_answer(copied, name, new):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {name: new, "head_dim": 24 if new == 96 else 16}))
    with pytest.raises(NoStudent, match=str(copied)):
        engine(copied)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("change", ["further", "one layer more", "one layer less", "wider", "another family"])
def test_the_champion_of_another_student_does_not_answer(db, copied, tmp_path, capsys, change, known):
    settings = Settings(home=db.parent, student=str(copied))
    k, other = published(settings, copied, known), tmp_path / "other"
    assert Serving(db, lambda: engine(copied)).current()[1].id == k.id
    shutil.copytree(copied, other)
    if change == "further":
        trained_further(other)
    else:
        config = AutoConfig.from_pretrained(copied)
        if change == "another family":
            numbers = {"n_embd": 64, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
            config = AutoConfig.for_model("gpt2", vocab_size=config.vocab_size, **numbers)
        else:
            changes = {"one layer more": {"num_hidden_layers": 3}, "one layer less": {"num_hidden_layers": 1}}
            config.update(changes.get(change, {"hidden_size": 96, "head_dim": 24}))
        AutoModelForCausalLM.from_config(config).save_pretrained(other)
    serving = Serving(db, lambda: engine(other))
    assert serving.current()[1].version == 0
    told = capsys.readouterr().err
    assert f"v0 answers instead of {k.name}" in told and (not known or "trained on another student" in told)
    assert arena.opponent(db, serving)[1].version == 0, "nor is it met in the Arena"


def test_a_home_says_once_that_its_student_is_another_and_finds_the_first_again(db, copied, tiny_student, capsys):
    settings = Settings(home=db.parent, student=str(copied))
    k = published(settings, copied)
    first = Serving(db, lambda: engine(copied))
    first.know_student()
    assert "another student" not in capsys.readouterr().err
    kept = shutil.copytree(copied, copied.parent / "kept")
    trained_further(copied)
    second = Serving(db, lambda: engine(copied))
    second.know_student()
    assert "used with another student, or with other weights" in capsys.readouterr().err
    second.know_student()
    assert "used with" not in capsys.readouterr().err and second.current()[1].version == 0
    with pytest.raises(OtherStudent, match="set KDLOOP_STUDENT to that one again"):
        measure.against_base(settings, "sums", 2)
    with pytest.raises(Exception, match="another student"):
        models.download(settings, k.id, "merged", me())
    assert Serving(db, lambda: engine(kept)).current()[1].id == k.id


def test_a_round_from_the_champion_of_another_student_fails_in_words(db, copied):
    settings = Settings(home=db.parent, student=str(copied))
    published(settings, copied)
    trained_further(copied)
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    with pytest.raises(OtherStudent, match=r"serve v0 \(Models tab\)"):
        run(settings, round)


def test_a_fingerprint_of_other_tokens_or_of_none_is_no_match(db, tiny_student):
    base, k = engine(tiny_student), checkpoints.serving(db)
    for told in ({}, {"fingerprint": [-1.0]}, {"fingerprint": [float("nan")] * len(fingerprint(base))}):
        with pytest.raises(WrongWeights):
            check(base, type(k)(**vars(k) | {"metrics": told}))


def test_an_adapter_with_other_layers_is_refused_and_not_filled_up(copied, tmp_path):
    trainable_student(str(copied), None, torch.float32, 1).save_pretrained(tmp_path / "a")
    path = tmp_path / "a" / "adapter_model.safetensors"
    weights = load_file(path)
    save_file({k: v for k, v in weights.items() if ".layers.1." not in k}, path)
    with pytest.raises(AdapterRefused, match=r"other layers: .*layers\.1"):
        engine(copied).load(tmp_path / "a")


def test_the_gguf_of_a_student_is_written_again_for_other_weights_beside_the_same_config(copied, tmp_path):
    first = as_gguf(str(copied), tmp_path)
    assert as_gguf(str(copied), tmp_path) == first
    trained_further(copied)
    second = as_gguf(str(copied), tmp_path)
    assert second != first and list(tmp_path.glob("*.gguf")) == [second]
    tensor = next(t for t in GGUFReader(second).tensors if t.name == "output_norm.weight")
    assert np.allclose(tensor.data, load_file(copied / "model.safetensors")["model.norm.weight"], atol=1e-6)


def test_features_of_another_vocabulary_are_left_out_even_where_the_lengths_agree(tiny_student, tmp_path):
    base, said = engine(tiny_student), Completion("a", "t", "teacher", None, "It is salt.")
    example = Example(as_prompt("Why?"), said, None, "c", ("row",), "teacher")
    kept = feature.top_k(base, example.prompt, said.said, 4)
    path, plan = feature.sidecar(tmp_path, "row"), Plan(1, stored=tmp_path)
    feature.save(path, kept)
    assert len(stored.rows(base.tokenizer, [example], plan)) == 1
    other = AutoTokenizer.from_pretrained(tiny_student)
    other.add_tokens(["<one more>"])
    assert stored.rows(other, [example], plan) == []


@pytest.mark.parametrize(
    ("student", "source", "name"),
    [
        ("", "/home/ann/data/student", HUB_STUDENT),
        ("org/model", "/home/ann/.cache/huggingface/hub/models--org--model/snapshots/0123abc", "org/model"),
        (
            "/c/hub/models--Qwen--Qwen3-0.6B/snapshots/f00d",
            "/c/hub/models--Qwen--Qwen3-0.6B/snapshots/f00d",
            "Qwen/Qwen3-0.6B",
        ),
    ],
)
def test_a_student_is_called_what_others_can_find(student, source, name):
    assert base_model(student, source, HUB_STUDENT) == name


def test_a_directory_is_called_by_its_config_or_by_its_own_name(copied):
    assert base_model(str(copied), copied, HUB_STUDENT) == "copied"
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"_name_or_path": "org/model"}))
    assert base_model(str(copied), copied, HUB_STUDENT) == "org/model"
    (copied / "config.json").write_text(json.dumps(config | {"_name_or_path": str(copied)}))
    assert base_model(str(copied), copied, HUB_STUDENT) == "copied"


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("form", ["adapter", "gguf", "merged"])
def test_a_download_names_no_place_on_this_machine(db, copied, form, known):
    """Those that an older kdloop published, too."""
    settings = Settings(home=db.parent, student=str(copied))
    k = published(settings, copied, known)
    with zipfile.ZipFile(models.download(settings, k.id, form, me())) as archive:
        assert not [n for n in archive.namelist() if str(copied.parent).encode() in archive.read(n)]
        card = archive.read("README.md").decode()
        assert f"`copied` is a directory of the machine that trained it, with the identity {identity(copied)}" in card
        assert "base_model" not in card.split("---")[1], "the Hub would look for it"
        if form == "adapter":
            assert json.loads(archive.read("adapter_config.json"))["base_model_name_or_path"] == "copied"


def test_a_published_checkpoint_names_the_hubs_model_and_is_still_loaded_offline(db, copied, tmp_path):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"_name_or_path": HUB_STUDENT}))
    settings = Settings(home=db.parent, student=str(copied))
    k = published(settings, copied)
    directory = checkpoints.adapter_dir(db, k, identity(copied))
    assert json.loads((directory / "adapter_config.json").read_text())["base_model_name_or_path"] == HUB_STUDENT
    assert not [f for f in directory.iterdir() if str(copied.parent).encode() in f.read_bytes()]
    assert Serving(db, lambda: engine(copied)).current()[1].id == k.id
    with zipfile.ZipFile(models.download(settings, k.id, "gguf", me())) as archive:
        archive.extract("adapter.gguf", tmp_path)
        assert f"base_model: {HUB_STUDENT}" in archive.read("README.md").decode()
    fields = GGUFReader(tmp_path / "adapter.gguf").fields
    assert fields["general.base_model.0.repo_url"].contents() == f"https://huggingface.co/{HUB_STUDENT}"


def test_a_downloaded_adapter_loads_elsewhere_by_the_name_that_it_gives(db, copied, tmp_path, monkeypatch):
    """Where the name leads to the student: here a directory of that name, elsewhere the Hub."""
    settings = Settings(home=db.parent, student=str(copied))
    k = published(settings, copied)
    with zipfile.ZipFile(models.download(settings, k.id, "adapter", me())) as archive:
        archive.extractall(tmp_path / "got")
    told = json.loads((tmp_path / "got" / "manifest.json").read_text())["files"]
    assert told == {n: checkpoints.sha256(tmp_path / "got" / n) for n in told} and "adapter_config.json" in told
    monkeypatch.chdir(copied.parent)
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "got", dtype=torch.float32)
    ours = engine(copied).load(checkpoints.adapter_dir(db, k)).model
    ids = torch.tensor([[1, 2, 3, 4]])
    assert torch.allclose(loaded(ids).logits, ours(ids).logits, atol=1e-4)


def test_the_embedded_students_card_names_the_hubs_model_and_the_file_it_is(tmp_path):
    told = origin("", tmp_path)
    assert "SmolLM2-135M-Instruct.Q4_1.gguf, a quantized copy of HuggingFaceTB/SmolLM2-135M-Instruct" in told
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "adapter_config.json").write_text('{"base_model_name_or_path": "/home/ann/data/student"}')
    name_base(tmp_path / "a", HUB_STUDENT)
    assert json.loads((tmp_path / "a" / "adapter_config.json").read_text()) == {"base_model_name_or_path": HUB_STUDENT}
