"""A student in 4 bits: what bitsandbytes holds is trained beside, never merged, and served as it was trained."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from parts import vote
from test_methods import full
from test_selection import taught
from transformers import AutoConfig, AutoModelForCausalLM

from kdloop import recipes
from kdloop.methods import METHODS, step_size
from kdloop.methods.lora import RANK, Plan, trainable_student
from kdloop.rounds.run import run
from kdloop.settings import Settings
from kdloop.student import Sampling, footprint, memory
from kdloop.student.base import read_weights
from kdloop.student.quantized import NoQuantization
from kdloop.student.serving import PROBE, PROBE_COMPLETION, fingerprint
from kdloop.student.transformers import TransformersEngine
from storage import checkpoints, rounds
from storage.conversations import as_prompt

LLAMA_70B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
}


@pytest.fixture(scope="module")
def four_bits(tiny_student):
    return TransformersEngine(tiny_student, dtype=torch.float32, bits=4)


def test_an_adapter_is_trained_beside_four_bits_and_served_as_it_was_trained(four_bits, tiny_student, tmp_path):
    before, packed = fingerprint(four_bits), four_bits.untrained.model.layers[0].mlp.up_proj.weight
    assert packed.dtype is torch.uint8
    model = trainable_student(tiny_student, None, torch.float32, 1, four_bits.untrained)
    assert model.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight is packed, "a second copy of the base"
    examples, losses = [full(i) for i in range(4)], []
    plan = Plan(1, epochs=4, learning_rate=1e-2, max_length=256)
    METHODS["dpo"].train(model, four_bits.tokenizer, examples, plan, lambda step, steps, loss: losses.append(loss))
    assert losses[-1] < losses[0] and all(p.dtype is torch.float32 for p in model.parameters() if p.requires_grad)
    settled, now = step_size.parameters(model), four_bits.load_trained(model)
    model.save_pretrained(tmp_path, selected_adapters=["default"])
    loaded = four_bits.load(tmp_path)
    assert fingerprint(loaded) == pytest.approx(fingerprint(now), abs=1e-3) != before
    with torch.no_grad():
        [p.zero_() for name, p in model.named_parameters() if name in settled]
    assert fingerprint(now) == pytest.approx(fingerprint(loaded), abs=1e-3), "an engine of its own, not the training's"
    assert fingerprint(four_bits) == before
    [sample] = loaded.complete([as_prompt("How are you?")], Sampling(6, temperature=0), [1])
    assert sample.completion_tokens


def test_an_evaluation_leaves_four_bits_as_they_were_read(tiny_student):
    """Whatever the CPU: on one with AVX512-BF16 bitsandbytes would pack them, and no gradient come through."""
    model = read_weights(tiny_student, torch.float32, bits=4)
    layers = [layer for layer in model.modules() if type(layer).__name__ == "Linear4bit"]
    assert layers and not any(layer.support_avx512bf16_for_cpu for layer in layers)
    with torch.no_grad():
        model.eval()(torch.tensor([[1, 2, 3]]))
    words = model.get_input_embeddings()(torch.tensor([[1, 2, 3]])).detach().requires_grad_()
    model.train()(inputs_embeds=words).logits.sum().backward()
    assert words.grad.abs().sum() > 0


def test_four_bits_take_less_memory_and_say_nearly_the_same(four_bits, tiny_student):
    whole = TransformersEngine(tiny_student, dtype=torch.float32)
    near, exact = (engine.logprobs([PROBE], [PROBE_COMPLETION])[0] for engine in (four_bits, whole))
    assert near != exact and near == pytest.approx(exact, abs=0.5)
    assert four_bits.untrained.get_memory_footprint() < whole.untrained.get_memory_footprint()


def test_a_whole_round_in_four_bits_from_a_champion(db, byte_student):
    adapted = trainable_student(byte_student, None, torch.float32, seed=1)
    taught(db, recipes.load("rejection").as_dict(), ["What is 1 and 1?"], save=adapted.save_pretrained)
    vote(db, 50)
    votes = replace(recipes.VOTES, knowledge=(), passes=8).as_dict()
    started = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me", recipe=votes)
    run(Settings(home=db.parent, student=byte_student, round_max_tokens=8, gate_prompts=4, bits=4), started)
    judged = rounds.get_round(db, started.id)
    assert judged.status in ("promoted", "on trial", "rejected") and judged.method == "dpo", judged.error
    candidate = checkpoints.adapter_dir(db, checkpoints.get_checkpoint(db, judged.candidate_id))
    published = TransformersEngine(byte_student, candidate, bits=4)
    assert fingerprint(published) == pytest.approx(judged.metrics["fingerprint"], abs=0.1)


def test_without_bitsandbytes_it_says_what_to_install(tiny_student, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(NoQuantization, match="pip install bitsandbytes"):
        read_weights(tiny_student, torch.float32, bits=4)
    with pytest.raises(NoQuantization, match="there are 4 and 16"):
        read_weights(tiny_student, torch.float32, bits=8)


def test_a_round_that_fits_no_memory_is_refused_in_numbers_before_weights_are_read(db, tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "config.json").write_text(json.dumps(LLAMA_70B))
    started = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    with pytest.raises(footprint.NoRoom, match=r"needs about [\d,.]+ GiB, and .* GiB are free .*KDLOOP_BITS=4"):
        run(Settings(home=db.parent, student=str(tmp_path / "large")), started)


def test_what_recomputing_and_four_bits_save_is_in_the_numbers(tiny_student):
    with torch.device("meta"):
        shape = footprint.Shape.of(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tiny_student)), RANK)
    takes = [
        sum(footprint.training(shape, torch.bfloat16, "cuda", 2048, bits, recomputed).values())
        for bits, recomputed in ((16, False), (16, True), (4, True))
    ]
    assert takes == sorted(takes, reverse=True)
    config, room = shape.config, 2**30
    kept = memory.kept_tokens(config, torch.bfloat16, room)
    assert (
        memory.trained(config, torch.bfloat16, kept, room)
        == 1
        == memory.trained(config, torch.bfloat16, 10 * kept, room)
    )
    assert memory.trained(config, torch.bfloat16, kept // 4, room) == 4
