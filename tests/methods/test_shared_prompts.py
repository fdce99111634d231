"""Pairs whose prompt is read once: the same numbers for less work."""

from contextlib import nullcontext

import pytest
import torch
from parts import randomized
from test_methods import example, student
from trl.trainer.dpo_trainer import DataCollatorForPreference

from kdloop.methods import METHODS, shared_prompts
from kdloop.methods.lora import Plan
from kdloop.methods.shared_prompts import pairs_read_once

PAIRS = [  # prompt, chosen, rejected
    ([5, 6, 7, 8, 9], [10, 11, 12], [13, 14, 15, 16]),
    ([5, 6], [20, 21, 22, 23, 24, 25], [20, 21, 30]),  # they begin alike
    ([40, 41, 42], [43, 44], [43, 44]),
    ([50], [51, 52, 53], [51]),
    ([60, 61], [62], [62, 63, 64, 65]),
]


def collated(pairs):
    """As TRL's DPOTrainer gives them to the model."""
    rows = [dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), pair, strict=True)) for pair in pairs]
    made = DataCollatorForPreference(pad_token_id=0)(rows)
    return {name: made[name] for name in ("input_ids", "attention_mask")}


def counted(model):
    """How many positions its first layer is given, call by call."""
    counts = []
    layer = model.get_base_model().base_model.layers[0]
    layer.register_forward_pre_hook(lambda _, inputs: counts.append(inputs[0].shape[:2].numel()))
    return counts


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_hidden_states_and_gradients_are_those_of_two_rows(attention, tiny_student):
    model, _ = student(tiny_student)
    counts = counted(model)
    randomized(model, 0.1)
    model.double().set_attn_implementation(attention)
    batch = collated(PAIRS)
    backbone, real = model.get_base_model().base_model, batch["attention_mask"].bool()
    weights = torch.randn(real.sum(), backbone.config.hidden_size, generator=torch.Generator().manual_seed(1)).double()
    found = []
    for reading in (nullcontext(), pairs_read_once(model)):
        model.zero_grad()
        with reading:
            states = backbone(**batch, use_cache=False).last_hidden_state
        (states[real] * weights).sum().backward()
        found.append([states[real].detach(), *[p.grad.clone() for p in model.parameters() if p.requires_grad]])
    for two_rows, one_row in zip(*found, strict=True):
        assert torch.allclose(two_rows, one_row, rtol=1e-5, atol=1e-5), float((two_rows - one_row).abs().max())
    assert counts[1] < 0.7 * counts[0]
    backbone(**batch, use_cache=False)
    assert counts[2] == counts[0], "afterwards as before"


@pytest.mark.parametrize("name", ["dpo", "ipo", "sigmoid_norm", "apo_zero", "wpo"])
def test_trainings_on_pairs_read_prompts_once_and_lose_the_same(name, tiny_student, monkeypatch):
    trainings = []
    for kinds in (shared_prompts.ANY_MASK, ()):
        monkeypatch.setattr(shared_prompts, "ANY_MASK", kinds)
        model, tokenizer = student(tiny_student)
        counts, losses = counted(model), []
        on_step = lambda step, steps, loss, seen=losses: seen.append(loss)  # noqa: E731
        METHODS[name].train(model, tokenizer, [example(i) for i in range(16)], Plan(seed=1, epochs=1), on_step)
        trainings.append((sum(counts[-4:]), losses))  # after the reference's
    (once, losses), (twice, expected) = trainings
    assert once < 0.8 * twice
    assert losses == pytest.approx(expected, abs=1e-3)


def test_a_model_with_a_sliding_window_reads_rows_as_they_are(tiny_student):
    """Its mask is its own to make."""
    model, _ = student(tiny_student)
    counts = counted(model)
    backbone = model.get_base_model().base_model
    backbone.config.layer_types = ["sliding_attention"] * len(backbone.layers)
    with pairs_read_once(model):
        backbone(**collated([([1, 2], [3], [4])]), use_cache=False)
    assert counts == [6]
