"""`python -m kdloop doctor --student`: what it says of a student, and what it says where there is none."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from families import TEMPLATES, byte_level
from test_gguf import random_student
from transformers import AutoConfig

from kdloop import __main__ as cli
from kdloop.methods.lora import RANK, trainable_student
from kdloop.settings import Settings
from kdloop.student import audit, footprint, report
from kdloop.student.gguf import NotConvertible, write_student
from kdloop.student.transformers import device_and_dtype


@pytest.fixture
def copied(tiny_student, tmp_path, monkeypatch):
    """A copy of the tiny student to harm, in a folder that holds nothing else, and where the command is called."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(tiny_student, tmp_path / "student"))


def changed(directory: Path, **values) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({k: v for k, v in (config | values).items() if v is not None}))


def without(directory: Path, *patterns: str) -> None:
    for file in [f for pattern in patterns for f in directory.glob(pattern)]:
        file.unlink()


def asked(directory: str | Path, capsys) -> tuple[int, str]:
    """(exit status, what was said)."""
    try:
        status = cli.main(["doctor", "--student", str(directory)])
    except SystemExit as ended:
        status = ended.code
    told = capsys.readouterr()
    return status, told.out + told.err


def test_a_student_that_fits_is_described_and_nothing_is_written(copied, capsys):
    before = sorted(copied.parent.rglob("*"))
    status, said = asked(copied, capsys)
    assert status == 0 and sorted(copied.parent.rglob("*")) == before
    for words in (
        "turns              works",
        "end                works: `<|im_end|>`",
        "memory, both",
        "takes it",
        "F32",
    ):
        assert words in said
    assert str(device_and_dtype()[1]).removeprefix("torch.") in said


def cut_weights(d: Path) -> None:
    file = d / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


BAD = {  # what is wrong -> (how it is made, what is said)
    "no directory": (shutil.rmtree, "There is no directory"),
    "no config": (lambda d: without(d, "config.json"), "has no config.json"),
    "an adapter": (lambda d: (d / "config.json").rename(d / "adapter_config.json"), "is an adapter"),
    "half a config": (lambda d: (d / "config.json").write_text('{"model_type": "lla'), "is no whole JSON object"),
    "a config of a list": (lambda d: (d / "config.json").write_text("[1]"), "is no whole JSON object"),
    "an unknown family": (lambda d: changed(d, model_type="pelican"), "describes no causal language model"),
    "a size that is a word": (lambda d: changed(d, hidden_size="wide"), "hidden_size"),
    "no heads": (lambda d: changed(d, num_attention_heads=0), "describes no causal language model"),
    "a million layers": (lambda d: changed(d, num_hidden_layers=10**6), "1000000 layers"),
    "code of its own": (
        lambda d: changed(d, model_type="pelican", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.M"}),
        "describes no causal language model",
    ),
    "an encoder": (lambda d: encoder(d, "bert", "BertForMaskedLM"), "It is a BertForMaskedLM"),
    "an encoder without a name": (lambda d: encoder(d, "bert", None), "does not write on from a text"),
    "an encoder and a decoder": (lambda d: encoder(d, "t5", "T5ForConditionalGeneration"), "no causal language model"),
    "a classifier": (lambda d: changed(d, architectures=["LlamaForSequenceClassification"]), "does not write on"),
    "no tokenizer": (lambda d: without(d, "tok*", "chat*", "special*", "vocab*", "merges*"), "no tokenizer that can"),
    "half a tokenizer": (lambda d: (d / "tokenizer.json").write_text('{"model": '), "no tokenizer that can"),
    "a base model": (lambda d: untemplated(d), "has no chat template: it is a base model"),
    "a tokenizer of another": (lambda d: changed(d, vocab_size=100), "not of one model"),
    "weights that are cut off": (cut_weights, "cut off or damaged"),
    "weights of a smaller model": (lambda d: changed(d, num_hidden_layers=9), "where its config describes"),
    "quantized weights": (lambda d: changed(d, quantization_config={"quant_method": "gptq", "bits": 4}), "(gptq)"),
}


def encoder(directory: Path, family: str, name: str | None) -> None:
    config = AutoConfig.for_model(family, architectures=[name] if name else None)
    (directory / "config.json").write_text(config.to_json_string(use_diff=False))


def untemplated(directory: Path) -> None:
    without(directory, "chat_template.jinja")
    said = json.loads((directory / "tokenizer_config.json").read_text())
    (directory / "tokenizer_config.json").write_text(
        json.dumps({k: v for k, v in said.items() if k != "chat_template"})
    )


@pytest.mark.parametrize("wrong", BAD)
def test_what_is_no_student_is_a_sentence(copied, wrong, capsys):
    harm, words = BAD[wrong]
    harm(copied)
    before = sorted(copied.parent.rglob("*"))
    status, said = asked(copied, capsys)
    assert status == 2 and words in said.splitlines()[-1] and "Traceback" not in said
    assert sorted(copied.parent.rglob("*")) == before, "nothing is written"


@pytest.mark.parametrize("name", ["../nowhere", "nobody", "a/b/c"])
def test_what_is_neither_a_directory_nor_a_name_of_the_hub(name, capsys):
    status, said = asked(name, capsys)
    assert status == 2 and "nor is that a name of the Hub" in said


def test_without_the_hub_a_name_says_what_to_do(capsys):
    status, said = asked("nobody/has-this-one", capsys)
    assert status == 2 and "connect this machine to the Hub" in said and "name a model directory" in said


def test_a_large_student_is_refused_in_numbers_by_its_config_alone(copied, capsys):
    without(copied, "*.safetensors")
    large = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64}
    changed(copied, **large, num_key_value_heads=8, head_dim=128)
    status, said = asked(copied, capsys)
    assert status == 1 and "refused            serving needs " in said and " GiB are free on this " in said
    assert "million parameters" in said and "weights are not here yet" in said


def test_a_template_that_renders_no_text_is_refused(copied, capsys):
    (copied / "chat_template.jinja").write_text("{{ bos_token }}")
    status, said = asked(copied, capsys)
    assert status == 1 and "refused            chat: refused: The student's chat template does not show" in said


def test_a_short_context_and_a_llama_cpp_that_does_not_take_it_are_said(copied, capsys):
    changed(
        copied, max_position_embeddings=512, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    )
    status, said = asked(copied, capsys)
    assert status == 0 and "set KDLOOP_CONTEXT_TOKENS=512" in said
    assert "does not take it: GGUF is written for plain rotary embeddings" in said
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--student", str(copied), "--engine", "steam"])
    assert cli.main(["doctor", "--student", str(copied), "--engine", "llamacpp"]) == 1


GGUF = {
    "llama": {},
    "qwen3": {},
    "gemma3_text": {"query_pre_attn_scalar": 7},
    "phi3": {"pad_token_id": 0},
    "olmo2": {},
}


@pytest.mark.parametrize("family", GGUF)
def test_llama_cpp_takes_what_is_written_for_it(student_home, family, tmp_path):
    student = random_student(student_home, family, tmp_path / "student", **GGUF[family])
    refused = audit.llamacpp_refuses(audit.read(str(student)))
    try:
        write_student(student, tmp_path / "student.gguf")
        assert refused == ""
    except NotConvertible as error:
        assert refused and refused in str(error)


def test_other_tokenizers_are_read_with_the_template_that_they_have(student_home, tmp_path):
    student = random_student(student_home, "llama", tmp_path / "student", byte_level(TEMPLATES["gemma"]))
    found = report.audit(audit.read(str(student)), Settings(), "transformers", RANK)
    assert "begins the user's message" in str(found) and not found.refusals


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text", "gpt2"])
def test_parameters_are_counted_without_weights(student_home, family, tmp_path):
    values = {"n_layer": 2, "n_embd": 64, "n_head": 4} if family == "gpt2" else {}
    student = random_student(student_home, family, tmp_path / "student", **values)
    files = audit.read(str(student))
    assert all(p.is_meta for p in files.model.parameters())
    shape = footprint.Shape.of(files.model, RANK)
    model = trainable_student(str(student), None, torch.float32, seed=1)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert shape.parameters == sum(p.numel() for p in model.parameters()) - trained
    assert shape.adapter == trained
    assert report.audit(files, Settings(), "transformers", RANK).lines


def test_a_student_that_takes_no_adapter_is_refused(student_home, tmp_path, capsys):
    student = random_student(student_home, "mamba", tmp_path / "student")
    status, said = asked(student, capsys)
    assert status == 2 and "No adapter can be trained on a mamba" in said and "Traceback" not in said
