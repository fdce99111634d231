"""Methods that learn from a reward, on a random two-layer student and a planted reward."""

import math
from dataclasses import replace

import pytest
import torch
from test_methods import completion, example, student
from transformers import AutoModelForCausalLM, AutoTokenizer

from kdloop.bench import reward as bench
from kdloop.methods import METHODS, NothingToLearn, iterated, reinforcement, reward_model
from kdloop.methods.lora import Plan
from kdloop.methods.objective import sequence, sequence_logps


@pytest.fixture(scope="session")
def talker(tiny_student, tmp_path_factory):
    """A two-layer student that says "yes" or "no", each about half of the time: a reward has something to choose."""
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_student), AutoModelForCausalLM.from_pretrained(tiny_student)
    rows = [sequence(tokenizer, example(i).prompt, completion("", word)) for i in range(8) for word in ("yes", "no")]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(45):
        (-sequence_logps(model, rows)[0].mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    directory = tmp_path_factory.mktemp("talker")
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def is_yes(question, completion):
    return float(completion.startswith("yes"))


def chance_of_yes(model, tokenizer):
    rows = [sequence(tokenizer, example(i).prompt, completion("", "yes")) for i in range(8)]
    return float(sequence_logps(model, rows)[0].exp().mean())


@pytest.mark.parametrize(
    ("name", "rate"), [("rloo", 2e-3), ("grpo", 2e-3), ("rest", 5e-3), ("online_dpo", 1e-2), ("star", 2e-2)]
)
def test_what_is_rewarded_gets_likelier(name, rate, talker):
    model, tokenizer = student(talker)
    before = chance_of_yes(model, tokenizer)
    plan = Plan(1, epochs=6, learning_rate=rate, max_tokens=2, reward=is_yes)
    METHODS[name].train(model, tokenizer, [example(i) for i in range(8)], plan, lambda *_: None)
    assert 0.3 < before < 0.7 and chance_of_yes(model, tokenizer) > before + 0.1


def test_beta_holds_the_policy_near_the_reference(talker):
    moved = {}
    for beta in (0.05, 5.0):
        model, tokenizer = student(talker)
        before, plan = (
            chance_of_yes(model, tokenizer),
            Plan(1, epochs=6, learning_rate=5e-3, max_tokens=2, reward=is_yes),
        )
        reinforcement.train(model, tokenizer, [example(i) for i in range(8)], plan, lambda *_: None, "grpo", beta)
        moved[beta] = chance_of_yes(model, tokenizer) - before
    assert abs(moved[5.0]) < 0.7 * moved[0.05]


def test_rewards_rise_further_than_by_the_best_of_n_and_the_kl_stays_bounded(talker):
    """The bench's comparison, with 8 prompts; the bound is what saying "yes" always would cost, ln(1 / p(yes))."""
    prompts = [example(i).question for i in range(8)]
    plan = Plan(1, epochs=10, learning_rate=5e-3, max_tokens=2, reward=is_yes)
    control, *arms = bench.run(talker, ["rloo", "grpo"], prompts, prompts * 12, plan)
    assert control["arm"] == "best_of_n" and [a["arm"] for a in arms] == ["rloo", "grpo"]
    for arm in (control, *arms):
        assert arm["n"] == 96 and 0.3 < arm["before"] < 0.7
        assert arm["after"] > arm["before"]
        assert 0.001 < arm["kl"] < math.log(1 / 0.3)
    for arm in arms:
        assert arm["low"] > 0 and arm["after"] > control["after"]


def test_any_check_can_be_the_reward_of_the_comparison(talker, monkeypatch, capsys):
    monkeypatch.setenv("KDLOOP_STUDENT", talker)
    asked = ["--pack", "general", "--prompts", "8", "--held-out", "32", "--max-tokens", "2", "--epochs", "1"]
    bench.main([*asked, "--methods", "rloo", "--check", '{"check": "regex", "pattern": "^yes"}'])
    control, arm = (line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| `"))
    assert [row[1].strip() for row in (control, arm)] == ["`best_of_n`", "`rloo`"]
    before = {float(row[2].split(" to ")[0]) for row in (control, arm)}
    assert len(before) == 1 and 0.1 < before.pop() < 0.9, "the general pack's prompts have no checks of their own"


def pairs(n, text=("good word", "bad thing")):
    return [
        replace(
            example(i), chosen=completion(f"g{i}", f"{text[0]} {i}"), rejected=completion(f"b{i}", f"{text[1]} {i}")
        )
        for i in range(n)
    ]


def test_a_reward_model_starts_at_ln_2_and_learns_a_planted_preference(tiny_student):
    model, tokenizer = student(tiny_student)
    seen = []
    plan = Plan(1, epochs=6, learning_rate=5e-3)
    reward = reward_model.reward_of(model, tokenizer, pairs(16), plan, lambda step, steps, loss: seen.append(loss))
    assert seen[0] == pytest.approx(math.log(2), abs=1e-5) and seen[-1] < 0.1
    assert reward("question 20?", "good word 20") > reward("question 20?", "bad thing 20")


def test_a_reward_model_that_fails_on_held_out_pairs_locks_what_needs_it(tiny_student):
    model, tokenizer = student(tiny_student)
    coins = [e if i % 4 else replace(e, chosen=e.rejected, rejected=e.chosen) for i, e in enumerate(pairs(16))]
    plan = Plan(1, epochs=6, learning_rate=1e-2, max_tokens=4)
    with pytest.raises(NothingToLearn, match="0% of 4 held-out pairs, 70% are needed"):
        METHODS["rloo"].train(model, tokenizer, coins, plan, lambda *_: None)
    with pytest.raises(NothingToLearn, match="needs 8 pairs"):
        METHODS["rest"].train(model, tokenizer, coins[:3], plan, lambda *_: None)


def test_a_higher_threshold_keeps_a_part_of_what_a_lower_one_kept():
    grown, rewards = list(range(20)), [((7 * i) % 20) / 20 for i in range(20)]
    kept = [set(iterated.improve(grown, rewards, q)) for q in (0.25, 0.5, 0.75)]
    assert kept[0] > kept[1] > kept[2] and len(kept[2]) == 5


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("Fine. Score: 4", 4.0),
        ("**Score:** 3/5", 3.0),
        ("Score: 4 at first... score: 2.5", 2.5),
        ("Score: 9", None),
        ("4 of 5", None),
    ],
)
def test_a_judgement_without_a_score_is_none_and_not_a_number(text, points):
    assert iterated.score(text) == points


def test_best_and_worst_make_the_pair_and_equal_ones_none():
    group = [completion(str(i), f"text {i}") for i in range(4)]
    made = iterated.best_and_worst([example(1), example(2)], [group, group], [1, None, 4, 2, 3, 3, None, 3])
    assert [(e.chosen.text, e.rejected.text) for e in made] == [("text 2", "text 0")]


def test_a_student_that_cannot_judge_is_not_its_own_judge(tiny_student):
    model, tokenizer = student(tiny_student)
    with pytest.raises(NothingToLearn, match="gave a score in 0%"):
        METHODS["self_rewarding"].train(model, tokenizer, [example(1)], Plan(1, max_tokens=4), lambda *_: None)
