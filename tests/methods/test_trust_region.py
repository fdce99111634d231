"""The search for how far to follow a training's direction."""

import numpy as np
import pytest
import torch
from parts import Spoken
from test_methods import example, student

from kdloop.methods import METHODS, step_size
from kdloop.methods.lora import Plan, trainable_student
from kdloop.student.transformers import TransformersEngine
from storage.conversations import as_prompt


@pytest.mark.parametrize("curvature", [0.0005, 0.003, 0.03, 0.3])
def test_the_largest_scale_within_the_limit_is_found_in_few_tries(curvature):
    tried = []

    def rise(scale):
        tried.append(scale)
        return curvature * scale**2.3

    scale, found = step_size.line_search(rise, 0.0, 0.03)
    best = min((0.03 / curvature) ** (1 / 2.3), step_size.MAX_SCALE)
    assert found == rise(scale) and found <= 0.03 and scale > 0.8 * best
    assert len(tried) <= step_size.MAX_TRIES + 1


def test_a_direction_that_helps_at_first_is_followed_until_it_hurts():
    """As measured: the base's completions get likelier by 2 % at scale 1, and less likely beyond 2."""
    scale, found = step_size.line_search(lambda s: 0.024 * s**2 - 0.044 * s, 0.0, 0.02)
    assert 2.1 < scale < 2.22 and found <= 0.02


def test_a_direction_that_hurts_at_any_length_is_hardly_followed():
    scale, _ = step_size.line_search(lambda s: 0.5 + s, 0.0, 0.03)
    assert scale < 0.05


def test_the_search_ends_between_two_scales_that_are_close():
    """As measured: within the limit at 2.35, beyond it at 2.40. Two more tries between them moved the scale by 0.01."""
    tried = []

    def rise(scale):
        tried.append(scale)
        return float(np.interp(scale, [0, 2, 2.34, 2.35, 2.40], [0, -0.0524, 0.0090, 0.0095, 0.0215]))

    scale, _ = step_size.line_search(rise, 0.0, 0.02)
    assert 2.33 < scale < 2.40 and len(tried) == 3


def test_rounds_share_a_budget_below_the_gates_guard():
    risen = 0.0
    for _ in range(5):
        assert risen <= step_size.budget(risen) <= step_size.TOTAL_BUDGET
        risen = step_size.budget(risen)
    assert step_size.budget(0.2) == 0.2  # a champion beyond it may be replaced, not pushed further


def test_place_moves_every_trained_parameter_along_the_line(tiny_student):
    model = trainable_student(tiny_student, None, torch.float32, 0)
    start = step_size.parameters(model)
    end = {name: p + 1 for name, p in start.items()}
    step_size.place(model, start, end, 2.5)
    moved = step_size.parameters(model)
    assert moved and all(torch.allclose(moved[name] - start[name], torch.tensor(2.5), atol=1e-5) for name in start)


def test_half_baked_is_half_of_the_way(byte_student):
    base, moved, scales = TransformersEngine(byte_student, dtype=torch.float32), {}, {}
    for strength in (0.5, 1.0):
        model = trainable_student(byte_student, None, torch.float32, 0)
        start = step_size.parameters(model)
        step_size.place(model, start, {name: p + 0.02 for name, p in start.items()}, 1.0)
        scales[strength] = step_size.settle(model, start, base, base, 4, 8, strength)["step scale"]
        moved[strength] = {name: p - start[name] for name, p in step_size.parameters(model).items()}
    assert scales[0.5] == scales[1.0] / 2
    assert all(torch.allclose(moved[0.5][name], moved[1.0][name] / 2, atol=1e-6) for name in moved[1.0])
    assert all(p.any() for p in moved[0.5].values())


def test_styles_see_who_says_the_same_to_all_who_says_only_the_prompt_again_and_who_leaves_it():
    same, echo = Spoken(lambda p, seed: "I am glad to help you with that."), Spoken(lambda p, seed: p[-1]["content"])
    alike, echoed, away = step_size.style(*step_size.sample(same, 96, 64))
    own, nothing_new, near = step_size.style(*step_size.sample(echo, 96, 64))
    assert alike == pytest.approx(1, abs=1e-3) and echoed == 0
    assert own < 0.2 and nothing_new > 0.8
    assert near < 0.2 and away > 0.7


def test_a_rise_read_on_a_third_is_what_all_would_say_where_the_third_sees_another_slope():
    """Completions whose NLL bends alike and slopes each its own way, as measured (docs/log.md)."""
    slopes = np.random.default_rng(0).normal(0, 3, 96)
    words = [("word " * 20, True)] * len(slopes)
    prompts = [as_prompt(str(i)) for i in range(len(slopes))]

    def engine(scale):
        return Scored(lambda prompt: 60 + slopes[int(prompt[-1]["content"])] * scale + 0.4 * scale**2)

    base = engine(0)
    anchors = step_size.AnchorNLL(base, prompts, words, base)
    for scale in (2.0, 3.0, 1.0, 4.0):
        whole, off = anchors.read_all(engine(scale))
        assert anchors.rise(scale, engine(scale)) == pytest.approx(whole, abs=1e-9)
        assert abs(off) > 0.002, "a third alone would be off"


class Scored:
    """An engine that gives each completion the NLL that a function of its prompt says."""

    def __init__(self, nll):
        self.nll = nll

    def logprobs(self, prompts, completions):
        return [[-self.nll(p)] for p in prompts]


def steps_until_settled(model, moves, steps=40):
    start, seen = step_size.parameters(model), []
    on_step = step_size.DirectionEarlyStopping(model, start, lambda step, *_: seen.append(step))
    for step in range(1, steps + 1):
        with torch.no_grad():
            for p in (p for p in model.parameters() if p.requires_grad):
                p.add_(moves(p))
        if on_step(step, steps, 1.0):
            break
    return seen[-1]


def test_a_training_ends_where_half_of_its_steps_had_found_its_direction(tiny_student):
    """The cosine of t steps and half of them is sqrt((t + 4) / (t + 8)) where the noise is twice a step's size, 0.94
    at 28, and sqrt(1 / 2) of noise alone."""
    model = trainable_student(tiny_student, None, torch.float32, 0)
    assert steps_until_settled(model, torch.ones_like) == step_size.MIN_STEPS
    assert 24 <= steps_until_settled(model, lambda p: 1 + 2 * torch.randn_like(p)) <= 32
    assert steps_until_settled(model, torch.randn_like) == 40


def test_a_training_that_has_settled_takes_no_more_steps(tiny_student):
    model, tokenizer = student(tiny_student)
    start, seen = step_size.parameters(model), []
    on_step = step_size.DirectionEarlyStopping(model, start, lambda step, steps, _: seen.append((step, steps)))
    METHODS["dpo"].train(model, tokenizer, [example(i) for i in range(48)], Plan(seed=1, epochs=3), on_step)
    last, steps = seen[-1]
    assert step_size.MIN_STEPS <= last < steps == 18
