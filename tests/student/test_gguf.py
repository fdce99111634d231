"""Students of other families, written as GGUF: two random layers with the student's tokenizer, in fp32, as llama.cpp
and as transformers compute them."""

import json

import numpy as np
import pytest
import torch
from families import sentencepiece
from gguf import GGUFReader
from test_template import ZEPHYR
from tokenizers import AddedToken, Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from kdloop import packs
from kdloop.methods.lora import trainable_student
from kdloop.settings import Settings
from kdloop.student import Sampling
from kdloop.student.engines import open_engine
from kdloop.student.gguf import NotConvertible, write_student
from kdloop.student.llamacpp import LlamaCppEngine
from kdloop.student.transformers import TransformersEngine
from storage.conversations import as_prompt

PROMPTS = list(map(as_prompt, packs.prompts("general", "heldout")[:8]))
FAMILIES = {
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 32},
    "gemma": {"num_key_value_heads": 1, "head_dim": 32},
    "gemma3_text": {"num_key_value_heads": 2, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16},
}


def random_student(student_home, family: str, directory, tokenizer=None, **values):
    """`initializer_range`: greedy choices of a random model with small weights are near-ties."""
    tokenizer = tokenizer or AutoTokenizer.from_pretrained(student_home / "student")
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"vocab_size": len(tokenizer), "initializer_range": 0.3, "max_position_embeddings": 512}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **shape | ids | FAMILIES.get(family, {}) | values)
    model = AutoModelForCausalLM.from_config(config)
    for name, weights in model.named_parameters():
        if weights.ndim == 1:  # norms and biases: not all the same, or an error in them would not show
            torch.nn.init.normal_(weights, mean=0.0 if "bias" in name or "gemma" in family else 1.0, std=0.2)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_computes_what_transformers_does(student_home, family, tmp_path):
    student = random_student(student_home, family, tmp_path / "student")
    file = write_student(student, tmp_path / "student.gguf", np.float32)
    ours, theirs = LlamaCppEngine(str(student), file, 256, 2), TransformersEngine(str(student), dtype=torch.float32)
    same(ours, theirs)
    model = trainable_student(str(student), None, torch.float32, seed=1)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.2)
    model.save_pretrained(tmp_path / "adapter")
    same(ours.load(tmp_path / "adapter"), theirs.load(tmp_path / "adapter"))
    assert greedy(ours) != greedy(ours.load(tmp_path / "adapter"))


@pytest.mark.parametrize("space_first", [True, False], ids=["as Llama 2", "as Gemma"])
@pytest.mark.parametrize("family", ["llama", "gemma", "gemma3_text"])
def test_sentencepiece_students_are_read_and_computed_alike(student_home, family, space_first, tmp_path):
    tokenizer = sentencepiece(ZEPHYR, space_first=space_first)
    student = random_student(student_home, family, tmp_path / "student", tokenizer)
    file = write_student(student, tmp_path / "student.gguf", np.float32)
    ours, theirs = LlamaCppEngine(str(student), file, 512, 2), TransformersEngine(str(student), dtype=torch.float32)
    for prompt in PROMPTS[:4]:  # by ids: most of what a random student says are bytes that make no character
        head = theirs.template.prompt_ids(prompt)
        asked = {"prompt": head, "n_predict": 8, "temperature": 0, "return_tokens": True}
        told = ours.server.client.post("../completion", body=asked, cast_to=object)["tokens"]
        drawn = [step[0] for step in theirs.decode([head], Sampling(8, temperature=0), [1])]
        assert theirs.template.until_end(told)[0] == theirs.template.until_end(drawn)[0]
    close(ours, theirs)
    for text in ("the mill stood by the river", "Ärger 😀, 水 \n\n  and  blanks", "a", " until the flood"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        told = ours.server.client.post("../tokenize", body={"content": text}, cast_to=object)
        assert told["tokens"] == ids
        spelled = ours.server.client.post("../detokenize", body={"tokens": ids}, cast_to=object)["content"]
        assert spelled.lstrip() == tokenizer.decode(ids).lstrip()


def test_a_turn_of_a_written_student_ends_as_its_template_says(student_home, tmp_path):
    """llama.cpp stops at what the file says, whatever the token is called."""
    tokenizer = sentencepiece(ZEPHYR.replace("eos_token", "'<stop here>'"))
    tokenizer.add_tokens([AddedToken("<stop here>", special=True)])
    student = random_student(student_home, "llama", tmp_path / "student", tokenizer)
    file = write_student(student, tmp_path / "x.gguf", np.float32)
    engine, end = LlamaCppEngine(str(student), file, 512, 1), tokenizer.convert_tokens_to_ids("<stop here>")
    assert engine.template.ends == (end, tokenizer.eos_token_id)
    assert GGUFReader(file).fields["tokenizer.ggml.eot_token_id"].contents() == end
    asked = {"prompt": engine.template.prompt_ids(PROMPTS[0]), "logit_bias": [[end, 100]], "max_tokens": 9}
    told = engine.server.client.post("/completions", body=asked | {"model": "student"}, cast_to=object)
    assert (told["choices"][0]["finish_reason"], told["choices"][0]["text"]) == ("stop", "")


def test_a_sentencepiece_vocabulary_without_its_bytes_is_refused(student_home, tmp_path):
    tokenizer = sentencepiece(ZEPHYR)
    made = json.loads(tokenizer.backend_tokenizer.to_str())
    made["model"]["vocab"]["odd"] = made["model"]["vocab"].pop("<0x0A>")
    made["added_tokens"] = [t for t in made["added_tokens"] if t["content"] != "<0x0A>"]
    lacking = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(made)), eos_token="</s>")
    student = random_student(student_home, "llama", tmp_path / "student", lacking)
    with pytest.raises(NotConvertible, match=r"lacks 1 of 256 bytes.*KDLOOP_ENGINE=transformers"):
        write_student(student, tmp_path / "x.gguf")


def greedy(engine):
    return [s.text for s in engine.complete(PROMPTS, Sampling(16, temperature=0), [1] * len(PROMPTS))]


def same(ours, theirs):
    assert sum(a == b for a, b in zip(greedy(ours), greedy(theirs), strict=True)) >= len(PROMPTS) - 1
    close(ours, theirs)


def close(ours, theirs):
    said = [("Boil it for seven minutes.", True)] * len(PROMPTS)
    a, b = (np.concatenate(e.logprobs(PROMPTS, said)) for e in (ours, theirs))
    assert np.abs(a - b).mean() < 0.02


def test_the_engine_writes_a_student_that_is_not_the_embedded_one_once(student_home, tmp_path):
    student = random_student(student_home, "qwen2", tmp_path / "mine")
    settings = Settings(home=tmp_path / "home", student=str(student), engine="llamacpp", context_tokens=256)
    settings.home.mkdir()
    assert greedy(open_engine(settings))[0]
    (file,) = settings.home.glob("*.gguf")
    written = file.stat().st_mtime_ns
    open_engine(settings)
    assert file.stat().st_mtime_ns == written


def test_what_gguf_has_no_place_for_is_refused(student_home, tmp_path):
    other = random_student(student_home, "gpt_neox", tmp_path / "other")
    with pytest.raises(NotConvertible, match=r"gpt_neox.*KDLOOP_ENGINE=transformers"):
        write_student(other, tmp_path / "x.gguf")
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    scaled = random_student(student_home, "llama", tmp_path / "scaled", rope_parameters=rope)
    with pytest.raises(NotConvertible, match="plain rotary"):
        write_student(scaled, tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()
