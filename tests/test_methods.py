import math

import pytest
import torch

from kdloop.methods import METHODS, NothingToLearn, choose, dpo
from kdloop.methods.lora import Plan, trainable_student
from kdloop.pairs import Example
from storage.conversations import Completion


def example(i, both=True, liked=True):
    good = Completion(f"g{i}", "t", "student", 1, f"yes number {i}, gladly.", "finished")
    bad = Completion(f"b{i}", "t", "student", 1, f"no and never will i do {i}", "cut")
    sides = (good, bad) if both else (good, None) if liked else (None, bad)
    return Example([{"role": "user", "content": f"question {i}?"}], *sides, conversation=str(i), rows=(str(i),))


@pytest.mark.parametrize("name", METHODS)
def test_two_epochs_lower_the_loss_and_move_the_adapter(name, tiny_student):
    from transformers import AutoTokenizer

    model = trainable_student(tiny_student, None, torch.float32, seed=1)
    before = {n: p.clone() for n, p in model.named_parameters() if p.requires_grad}
    losses = []
    examples = [example(i) for i in range(8)]
    METHODS[name].train(
        model,
        AutoTokenizer.from_pretrained(tiny_student),
        examples,
        Plan(seed=1, epochs=6, learning_rate=1e-2),
        lambda step, steps, loss: losses.append(loss),
    )
    assert losses[-1] < losses[0]
    moved = [n for n, p in model.named_parameters() if n in before and not torch.equal(p, before[n])]
    assert any("lora_B.default" in n for n in moved)


def test_dpo_starts_at_ln_2_plus_its_anchor_and_kto_at_one_half(tiny_student):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_student)
    for name, floor in (("dpo", math.log(2)), ("kto", 0.5)):
        losses = []
        model = trainable_student(tiny_student, None, torch.float32, seed=1)
        METHODS[name].train(
            model,
            tokenizer,
            [example(i) for i in range(8)],
            Plan(seed=1, epochs=1),
            lambda step, steps, loss, into=losses: into.append(loss),
        )
        if name == "kto":
            assert losses[0] == pytest.approx(floor, abs=1e-3)
        else:
            nll = (losses[0] - floor) / dpo.ANCHOR
            assert nll == pytest.approx(math.log(49152), abs=0.3)  # a random model's, a token


def test_auto_takes_what_the_feedback_holds_and_says_why():
    assert choose("auto", [example(i) for i in range(9)])[0] == "dpo"
    thumbs = [example(i, both=False, liked=i % 2) for i in range(20)]
    assert choose("auto", thumbs)[0] == "kto"
    assert choose("auto", [example(i, both=False) for i in range(20)])[0] == "sft"
    with pytest.raises(NothingToLearn, match="3 usable votes"):
        choose("auto", [example(i, both=False) for i in range(3)])
    with pytest.raises(ValueError, match="there are: auto, sft"):
        choose("ppo", [])
