"""Decoding at fixed shapes and draws by counter, against the growing cache, on the CPU: a GPU takes the same steps."""

import json
from copy import copy
from threading import Event

import numpy as np
import pytest
import torch
from devices import Distant, a_second_device
from parts import randomized
from peft import PeftModel
from scipy.stats import kstest
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen3Config

from kdloop import packs
from kdloop.methods.lora import trainable_student
from kdloop.student import Sampling, static
from kdloop.student.draws import SeededSampler, uniform
from kdloop.student.merging import merged, merged_with, plain_updates
from kdloop.student.norms import Fused, fuse_norms
from kdloop.student.transformers import TransformersEngine, attends_to_all
from storage.conversations import as_prompt

QUESTIONS = packs.prompts("general", "gate")[:5]
ASKED = [as_prompt(q) for q in (*QUESTIONS, "Hi", *QUESTIONS[:3])]


@pytest.fixture
def engine(tiny_teacher):
    return TransformersEngine(tiny_teacher, dtype=torch.float32)


@pytest.fixture
def fixed(engine):
    engine.static = True
    return engine


def ids(engine, asked, sampling, seeds):
    """What is drawn for each, and nothing after an end."""
    rows = [[] for _ in asked]
    heads = [engine.tokenizer.apply_chat_template(a, add_generation_prompt=True)["input_ids"] for a in asked]
    for drawn in engine.decode(heads, sampling, seeds):
        for row, token in drawn.items():
            rows[row].append(token)
    return rows


@pytest.mark.parametrize("temperature", [0.0, 0.7, 4.0])
def test_the_fixed_cache_gives_the_tokens_of_the_growing_one(temperature, engine):
    sampling, seeds = Sampling(21, temperature, 0.95), [7 * i for i in range(len(ASKED))]
    grown = ids(engine, ASKED, sampling, seeds)
    engine.static = True
    assert ids(engine, ASKED, sampling, seeds) == grown and len(engine.decoders) == 1
    assert len({tuple(row) for row in grown}) == 6 + (temperature > 0) * 3


def test_a_row_draws_the_same_alone_and_in_a_batch_and_in_a_decoder_that_served_others(fixed):
    sampling, seeds = Sampling(12, 1.5), list(range(len(ASKED)))
    batch = ids(fixed, ASKED, sampling, seeds)
    assert [ids(fixed, [a], sampling, [seed])[0] for a, seed in zip(ASKED, seeds, strict=True)] == batch
    assert ids(fixed, ASKED[::-1], sampling, seeds[::-1]) == batch[::-1]
    assert sorted(d.rows for d in fixed.decoders) == [1, 16], "one for a row, one for the batch, both used again"


def test_rows_end_at_any_of_the_ends_and_the_batch_with_the_last_of_them(fixed):
    sampling, seeds = Sampling(40, 3.0), list(range(len(ASKED)))
    whole = ids(fixed, ASKED, sampling, seeds)
    fixed.template = copy(fixed.template)
    fixed.template.ends = (whole[0][4], whole[1][9], whole[2][0])
    fixed.decoders.clear()
    cut = ids(fixed, ASKED, sampling, seeds)
    for before, after in zip(whole, cut, strict=True):
        end = next((at for at, token in enumerate(before) if token in fixed.template.ends), len(before) - 1)
        assert after == before[: end + 1]
    assert {len(row) for row in cut} >= {1, 5, 10, 40}


def test_a_stream_stops_at_the_next_token_and_its_decoder_serves_the_next(fixed):
    stop, seen = Event(), []
    for piece in fixed.stream(ASKED[0], Sampling(100, 2.0), 3, stop):
        seen.append(piece)
        if len(seen) == 5:
            stop.set()
    assert seen[-1].status == "stopped" and seen[-1].completion_tokens == 5
    *_, whole = fixed.stream(ASKED[0], Sampling(100, 2.0), 3, Event())
    assert whole.text.startswith(seen[-1].text[:4]) and len(fixed.decoders) == 1


def test_a_fixed_decoder_reads_and_draws_on_one_device(tiny_student, monkeypatch):
    here = TransformersEngine(tiny_student, dtype=torch.float32).complete(ASKED, Sampling(6, 1.0), list(range(9)))
    with a_second_device(monkeypatch):
        engine = TransformersEngine(tiny_student, dtype=torch.float32)
        engine.static = True
        there = engine.complete(ASKED, Sampling(6, 1.0), list(range(9)))
        assert type(engine.decoders[0].tokens) is Distant
    assert [s.text for s in there] == [s.text for s in here]


def test_numbers_by_counter_are_uniform_and_independent():
    """In seeds that follow each other, steps that do, tokens that do: none tells of another."""
    tokens = torch.arange(300).expand(400, 300)
    first, second = (uniform(torch.arange(400), torch.tensor([step]), tokens).double().numpy() for step in (0, 1))
    assert first.min() > 0 and first.max() < 1
    for some in (first.flatten(), first[0], first[:, 0], second[:, 7], first[::7, ::11].flatten()):
        assert kstest(some, "uniform").pvalue > 0.001
    for one, other in ((first, second), (first[1:], first[:-1]), (first[:, 1:], first[:, :-1])):
        assert abs(np.corrcoef(one.flatten(), other.flatten())[0, 1]) < 0.015
    assert len(np.unique(first)) > 0.99 * first.size


def test_tokens_are_drawn_as_often_as_they_are_likely():
    scores = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -9.0])
    n, how = 40_000, Sampling(1, temperature=0.8, top_p=0.9, top_k=5)
    drawn = SeededSampler.of(how, [97 * i for i in range(n)], "cpu").draw(scores.expand(n, -1))
    kept = torch.softmax(scores[:5] / 0.8, -1)
    kept = kept * (kept.cumsum(-1) - kept < 0.9)
    found = torch.bincount(drawn.flatten(), minlength=6) / n
    assert torch.allclose(found[:5], kept / kept.sum(), atol=0.01) and found[5] == 0


def test_a_draw_depends_on_seed_and_token_and_not_on_what_else_is_likely():
    """What makes common random numbers: two models that differ little draw the same token mostly."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(500, 50, generator=generator) * 2
    other = one + 0.05 * torch.randn(500, 50, generator=generator)
    how, seeds = Sampling(1, temperature=1.0, top_p=1.0), list(range(500))
    same = SeededSampler.of(how, seeds, "cpu").draw(one) == SeededSampler.of(how, seeds, "cpu").draw(other)
    assert same.float().mean() > 0.93


def config(kind, **values):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return kind(**sizes, num_key_value_heads=2, head_dim=8, vocab_size=64, **values)


def test_what_cannot_be_recorded_keeps_its_growing_cache():
    for kind, values, whole, fits in (
        (LlamaConfig, {}, True, True),
        (Qwen3Config, {}, True, True),
        (MistralConfig, {"sliding_window": 16}, False, True),
        (MistralConfig, {"sliding_window": None}, True, True),
        (LlamaConfig, {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, True, False),
    ):
        model = AutoModelForCausalLM.from_config(config(kind, **values))
        assert (attends_to_all(model.config), static.fits(model)) == (whole, fits), (kind, values)


@pytest.mark.parametrize("kind", [LlamaConfig, Qwen3Config])
def test_fused_norms_compute_the_same_in_copies_too(kind):
    model = AutoModelForCausalLM.from_config(config(kind)).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    tokens = torch.arange(10)[None]
    expected = model(tokens).logits
    norms = sum("norm" in name for name, _ in model.named_parameters())
    assert fuse_norms(model) == norms
    assert fuse_norms(model) == norms, "a model that shares its weights with a fused one is fused again"
    assert torch.allclose(model(tokens).logits, expected, atol=1e-4)
    assert any(isinstance(m, Fused) for m in merged(model, None).modules())


def trained(directory):
    return randomized(trainable_student(directory, None, torch.float32, seed=3), 0.2)


def test_an_adapter_is_merged_as_peft_does_from_a_file_and_from_a_model_in_training(tiny_student, tmp_path):
    training, base = trained(tiny_student), AutoModelForCausalLM.from_pretrained(tiny_student)
    training.save_pretrained(tmp_path)
    whole = AutoModelForCausalLM.from_pretrained(tiny_student)
    expected = dict(PeftModel.from_pretrained(whole, tmp_path).merge_and_unload().named_parameters())
    before = {name: p.clone() for name, p in base.named_parameters()}
    for found in (merged(base, tmp_path), merged_with(base, training)):
        assert all(torch.allclose(p, expected[name], atol=1e-6) for name, p in found.named_parameters())
        assert found.get_input_embeddings().weight is base.get_input_embeddings().weight, "what no adapter changes"
    assert all(torch.equal(p, before[name]) for name, p in base.named_parameters())


@pytest.mark.parametrize("changed", [{"use_rslora": True}, {"use_dora": True}, {"rank_pattern": {"q_proj": 4}}])
def test_an_adapter_that_is_more_than_plain_lora_goes_through_peft(changed, tiny_student, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(tiny_student)
    trained(tiny_student).save_pretrained(tmp_path)
    known = json.loads((tmp_path / "adapter_config.json").read_text())
    assert plain_updates(base, known, tmp_path) and plain_updates(base, known | changed, tmp_path) is None
