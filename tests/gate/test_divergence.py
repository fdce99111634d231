"""Divergence that is exact, and the guards that it sets: a student that is only sharper is named."""

import numpy as np
import pytest
import torch
from parts import Spoken

from kdloop import packs
from kdloop.feedback.examples import Split
from kdloop.gate import drift
from kdloop.gate.guards import Spread, divergence_guards
from kdloop.methods import step_size
from kdloop.raters import preference_model
from kdloop.student.scoring import Divergence, at_temperature_1, divergence
from kdloop.student.transformers import TransformersEngine
from storage.conversations import as_prompt

PROMPTS = [as_prompt(q) for q in packs.prompts("general", "train")[:4]]


@pytest.fixture(scope="module")
def engine(tiny_student):
    return TransformersEngine(tiny_student, dtype=torch.float32)


class Sharpened:
    """An engine whose logits are those of another, times a factor."""

    def __init__(self, engine, factor):
        self.engine, self.factor = engine, factor

    def complete(self, prompts, sampling, seeds):
        return self.engine.complete(prompts, sampling, seeds)

    def distributions(self, prompts, completions):
        for logp in self.engine.distributions(prompts, completions):
            yield (logp * self.factor).log_softmax(-1)


def test_a_distribution_has_the_log_probability_of_each_token_at_its_place(engine):
    said = [("Yes, gladly.", True), ("No", False), ("", False), ("Well, it depends on what you mean by it.", True)]
    scores = [s for found in engine.logprobs(PROMPTS, said) for s in found]
    rows = []
    for batch in engine.distributions(PROMPTS, said):
        rows.append(batch)
        assert not torch.is_inference_mode_enabled(), "what runs between two batches may train"
    rows = torch.cat(rows)
    assert len(rows) == len(scores) and torch.allclose(rows.exp().sum(-1), torch.ones(len(rows)), atol=1e-4)
    tokens = [engine.template.completion_ids(*s) for s in said]
    heads = engine.template.prompts_ids(PROMPTS)
    order = sorted((i for i in range(4) if tokens[i]), key=lambda i: len(heads[i]) + len(tokens[i]))
    at = [t for i in order for t in tokens[i]]
    assert np.allclose(sorted(rows[range(len(at)), at].tolist()), sorted(scores), atol=1e-4)


def test_divergence_is_that_of_two_known_distributions():
    class Known(Spoken):
        def __init__(self, *p):
            self.p = torch.tensor([p])

        def distributions(self, prompts, completions):
            yield self.p.log()

    found = divergence(Known(0.5, 0.5), Known(0.9, 0.1), PROMPTS[:1], [("a", True)])
    assert found.forward == pytest.approx(0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1), abs=1e-6)
    assert found.reverse == pytest.approx(0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5), abs=1e-6)
    assert (found.entropy_p, found.entropy_q) == pytest.approx((np.log(2), 0.325083), abs=1e-5)


def test_sampling_at_temperature_1_follows_the_whole_distribution(engine):
    """The mean of -log p of what is drawn is the entropy: with top_p 0.9 it would be far below."""
    drawn = engine.complete(PROMPTS * 16, at_temperature_1(8), list(range(64)))
    said = [s.said for s in drawn]
    scores = [s for found in engine.logprobs(PROMPTS * 16, said) for s in found]
    entropy = divergence(engine, engine, PROMPTS * 16, said).entropy_p
    assert -np.mean(scores) == pytest.approx(entropy, rel=0.05)


def test_a_sharpened_student_breaks_the_guard_of_entropy_and_an_equal_one_none():
    """On a Zipf distribution, as words have it."""

    class Skewed(Spoken):
        def distributions(self, prompts, completions):
            rank = torch.arange(1, 2001).float()
            yield (-1.2 * rank.log()).log_softmax(-1).repeat(len(prompts), 1)

    base = Skewed(lambda p, seed: f"{p[-1]['content']} {seed * 7 % 89}")
    broken = {}
    for factor in (1.0, 1.05, 1.3, 1.6, 0.7):
        found = divergence_guards(Sharpened(base, factor), base, base, Spread.of(PROMPTS, 1))
        broken[factor] = [g.name for g in found if not g.ok]
    assert broken[1.0] == broken[1.05] == []
    assert all("entropy per token, change" in broken[factor] for factor in (1.3, 1.6, 0.7)), broken


def test_samples_that_are_alike_for_one_prompt_break_a_guard():
    questions = packs.prompts("general", "train")
    varied = Spoken(lambda p, seed: questions[seed % 300])
    same = Spoken(lambda p, seed: p[-1]["content"])
    found = {g.name: g for g in divergence_guards(same, varied, varied, Spread.of(PROMPTS, 1))}
    assert not found["samples of one prompt alike, rise"].ok
    assert all(g.ok for name, g in found.items() if name != "samples of one prompt alike, rise")


def test_a_step_that_diverges_too_far_is_shortened_until_it_does_not():
    read = []

    def at(scale, kl, entropy):
        read.append(scale)
        return Divergence(kl * scale**2, 0.0, 2.9, 2.9 * (1 + entropy * scale))

    assert step_size.shortened(2.0, lambda s: at(s, 0.01, -0.01)) == (2.0, 0.04) and len(read) == 1
    scale, kl = step_size.shortened(2.0, lambda s: at(s, 0.2, -0.01))
    assert 0.8 * 0.24 < kl <= 0.24 and scale < 1.1
    scale, _ = step_size.shortened(2.0, lambda s: at(s, 0.001, -0.18))
    assert 0.9 < scale <= 0.2 / 0.18 and len(read) == 5


def test_the_drift_says_whether_the_judge_has_moved_or_the_student():
    from test_raters import votes

    pairs = votes(64, lambda i: False)
    split = Split(pairs[:40], pairs[40:])
    rater = preference_model.fit(split.train, split.held_out)

    class Likes(Spoken):
        """More likely: short texts, or long ones."""

        def __init__(self, sign):
            self.sign = sign

        def logprobs(self, prompts, completions):
            return [[self.sign * -0.01 * len(text)] * 2 for text, *_ in completions]

    before = drift.read(rater, split, Likes(-1))
    assert len(before) == 24 and set(before) == {e.rows[0] for e in split.held_out}
    still = drift.sentence(drift.read(rater, split, Likes(-1)), before)
    assert "judge has not moved" in still and "student has not moved" in still
    student = drift.sentence(drift.read(rater, split, Likes(1)), before)
    assert "judge has not moved" in student and "student has moved" in student and "in 24 (before 0)" in student
    other = preference_model.fit(split.train, votes(64, lambda i: True)[40:])
    judge = drift.sentence(drift.read(other, split, Likes(-1)), before)
    assert "judge has moved" in judge and "student has not moved" in judge
    assert drift.sentence(before, {}) == "" and drift.read(rater, Split([], []), Likes(1)) == {}
