"""Methods that learn from a reward, on a random two-layer student and a planted reward."""

import math
from dataclasses import replace

import pytest
import torch
from test_methods import completion, example, student

from kdloop.evaluation.bench import reward as bench
from kdloop.methods import METHODS, NothingToLearn
from kdloop.methods.lora import Plan
from kdloop.methods.objective import sequence, sequence_logps
from kdloop.methods.rl import reinforcement, reward_model
from kdloop.methods.self_training import iterated
from kdloop.methods.self_training.self_teaching import write
from storage.conversations import as_prompt


def is_yes(prompt, text, finished):
    return float(text.startswith("yes"))


def chance_of_yes(model, tokenizer):
    rows = [sequence(tokenizer, example(i).prompt, completion("", "yes")) for i in range(8)]
    return float(sequence_logps(model, rows)[0].exp().mean())


@pytest.mark.parametrize(
    ("name", "rate"),
    [("rloo", 2e-3), ("grpo", 2e-3), ("dapo", 2e-3), ("rest", 5e-3), ("online_dpo", 1e-2), ("star", 2e-2)],
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
        prompts = [example(i) for i in range(8)]
        METHODS["grpo"].train(model, tokenizer, prompts, plan, lambda *_: None, beta=beta)
        moved[beta] = chance_of_yes(model, tokenizer) - before
    assert abs(moved[5.0]) < 0.7 * moved[0.05]


def test_rewards_rise_further_than_by_the_best_of_n_and_the_kl_stays_bounded(talker):
    """The bench's comparison, with 8 prompts; the bound is what saying "yes" always would cost, ln(1 / p(yes))."""
    prompts = [example(i).question for i in range(8)]
    plan = Plan(1, epochs=5, learning_rate=1e-2, max_tokens=2, reward=is_yes)
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
    reward = reward_model.reward_of(model, tokenizer, pairs(36), plan, lambda step, steps, loss: seen.append(loss))
    assert seen[0] == pytest.approx(math.log(2), abs=1e-5) and seen[-1] < 0.1
    asked = as_prompt("question 50?")
    assert reward(asked, "good word 50", True) > reward(asked, "bad thing 50", True)


def test_the_reward_model_reads_the_end_where_the_end_also_pads(tiny_student):
    """Of two texts that are the same but for the end, people took the finished one: the last token is all there is to
    see. Half of the pairs are longer, so that a batch is padded."""
    model, tokenizer = student(tiny_student)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    same = [f"one word {i}" + " and more" * (i % 2 * 5) for i in range(40)]
    told = [
        replace(example(i), chosen=completion(f"g{i}", text), rejected=completion(f"b{i}", text, "cut"))
        for i, text in enumerate(same)
    ]
    plan = Plan(1, epochs=6, learning_rate=5e-3)
    reward = reward_model.reward_of(model, tokenizer, told, plan, lambda *_: None)
    assert reward(as_prompt("question 50?"), "one word 50", True) > reward(
        as_prompt("question 50?"), "one word 50", False
    )
    assert tokenizer.pad_token_id == tokenizer.eos_token_id, "the student's own tokenizer stays as it is"


def test_no_prompt_is_both_fitted_and_held_out_and_a_prompt_counts_once():
    asked_twice = [e for e in pairs(12) for _ in range(2)]
    train, held_out = reward_model.split(asked_twice)
    assert len(held_out) == 4 and len(train) == 16
    assert not {e.question for e in train} & {e.question for e in held_out}


@pytest.mark.parametrize("pairs_of", [34, 36, 60, 120])
def test_a_coin_passes_the_reward_models_gate_in_at_most_one_of_twenty_cases(pairs_of):
    """All outcomes of a coin, weighed by how likely they are."""
    _, held_out = reward_model.split(pairs(pairs_of))
    n = len(held_out)
    passes = sum(math.comb(n, k) for k in range(n + 1) if not reward_model.at_chance(k, n)) / 2**n
    assert n >= reward_model.MIN_HELD_OUT and 0 < passes < 0.05


def test_a_reward_model_that_is_a_coin_on_held_out_pairs_locks_what_needs_it(tiny_student):
    model, tokenizer = student(tiny_student)
    flipped = [replace(e, chosen=e.rejected, rejected=e.chosen) for e in pairs(36)]
    coins = [one if i % 3 or i % 2 else other for i, (one, other) in enumerate(zip(pairs(36), flipped, strict=True))]
    plan = Plan(1, epochs=6, learning_rate=1e-2, max_tokens=4)
    with pytest.raises(NothingToLearn, match=r"orders 6 of 12 held-out pairs .* \(p = 0.61"):
        METHODS["rloo"].train(model, tokenizer, coins, plan, lambda *_: None)
    with pytest.raises(NothingToLearn, match="needs pairs on 34 prompts or more, there are 33"):
        METHODS["rest"].train(model, tokenizer, pairs(33), plan, lambda *_: None)


@pytest.fixture
def rambler(talker):
    """(model, tokenizer): the talker, which in half of its samples goes on where it would have ended."""
    model, tokenizer = student(talker)
    end = tokenizer.eos_token_id
    more = tokenizer(" yes", add_special_tokens=False)["input_ids"][0]
    flat = torch.full((len(tokenizer),), -30.0)
    flat[[end, more]] = 0.0

    def goes_on(module, given, z):
        ending = z.argmax(-1, keepdim=True) == end
        return torch.where(ending, flat.to(z), z)

    model.get_base_model().lm_head.register_forward_hook(goes_on)
    return model, tokenizer


def longest(prompt, text, finished):
    """A rater of style that likes long texts, and so those best that never end."""
    return float(len(text))


def test_a_cut_completion_gets_the_lowest_reward_of_its_prompts_samples(tiny_student):
    _, tokenizer = student(tiny_student)
    end = tokenizer.eos_token_id
    asked = [as_prompt("a?"), as_prompt("b?")]
    texts = [("good and long", True), ("short", True), ("longer than all and cut", False), ("b", True), ("b on", False)]
    ids = [tokenizer(text)["input_ids"] + [end] * finished for text, finished in texts]
    ids[1] += [end, end]  # padded
    prompts = [asked[0]] * 3 + [asked[1]] * 2
    rewards = reinforcement.as_trl(longest, tokenizer)(prompts=prompts, completion_ids=ids, trainer_state=None)
    assert rewards == [13.0, 5.0, 5.0, 1.0, 1.0]
    told = []
    reinforcement.as_trl(lambda prompt, text, finished: told.append(finished) or 0.0, tokenizer)(prompts, ids)
    assert told == [finished for _, finished in texts], "who rates is told which ones were cut"


@torch.no_grad()
def ends(model, tokenizer, samples=64):
    """The share of samples that the student ends itself."""
    torch.manual_seed(0)
    asked = [example(i % 8).prompt for i in range(samples)]
    written = write(model, tokenizer, asked, Plan(1, max_tokens=3))
    return sum(k.said[1] for k in written) / samples


@pytest.mark.parametrize(("name", "rate"), [("rloo", 5e-3), ("grpo", 5e-3), ("online_dpo", 1e-2), ("rest", 5e-3)])
def test_a_reward_of_length_does_not_teach_to_never_end(name, rate, rambler):
    """The longest are those that were cut: were they scored as texts, they would win each comparison."""
    model, tokenizer = rambler
    before = ends(model, tokenizer)
    plan = Plan(1, epochs=6, learning_rate=rate, max_tokens=3, reward=longest)
    METHODS[name].train(model, tokenizer, [example(i) for i in range(8)], plan, lambda *_: None)
    assert 0.2 < before < 0.95 and ends(model, tokenizer) > before - 0.1


def test_where_all_samples_are_cut_rest_learns_nothing_and_says_so(tiny_student):
    model, tokenizer = student(tiny_student)
    plan = Plan(1, max_tokens=2, reward=longest)
    with pytest.raises(NothingToLearn, match="ended none of its samples within 2 tokens"):
        METHODS["rest"].train(model, tokenizer, [example(i) for i in range(4)], plan, lambda *_: None)
    with pytest.raises(NothingToLearn, match="passed none"):
        METHODS["star"].train(model, tokenizer, [example(i) for i in range(4)], plan, lambda *_: None)


def test_grpo_is_shaos_mean_over_each_completions_own_tokens_and_dapo_is_not(talker, monkeypatch):
    """The settings that TRL's trainers are made with, and a loss: where lengths differ the two differ."""
    made = {}
    for name in ("grpo", "dapo"):
        real = reinforcement.GRPOTrainer.__init__

        def init(self, *arguments, name=name, real=real, **known):
            made[name] = known["args"]
            real(self, *arguments, **known)

        monkeypatch.setattr(reinforcement.GRPOTrainer, "__init__", init)
        model, tokenizer = student(talker)
        plan = Plan(1, epochs=1, max_tokens=2, reward=is_yes)
        METHODS[name].train(model, tokenizer, [example(i) for i in range(4)], plan, lambda *_: None)
        monkeypatch.undo()
    assert (made["grpo"].loss_type, made["dapo"].loss_type) == ("grpo", "dapo")
    assert made["dapo"].mask_truncated_completions and not made["grpo"].mask_truncated_completions
    assert made["grpo"].beta == made["dapo"].beta == reinforcement.KL_WEIGHT > 0


def test_a_higher_threshold_keeps_a_part_of_what_a_lower_one_kept():
    grown, rewards = list(range(20)), [((7 * i) % 20) / 20 for i in range(20)]
    kept = [set(iterated.above_quantile(grown, rewards, q)) for q in (0.25, 0.5, 0.75)]
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


def test_what_was_cut_is_never_the_better_of_a_pair():
    group = [completion("0", "text 0", "cut"), completion("1", "text 1"), completion("2", "text 2")]
    made = iterated.best_and_worst([example(1)], [group], [5, 3, 2])
    assert [(e.chosen.text, e.rejected.text) for e in made] == [("text 1", "text 0")]
    assert iterated.best_and_worst([example(1)], [[replace(k, status="cut") for k in group]], [5, 3, 2]) == []


def test_best_and_worst_make_the_pair_and_equal_ones_none():
    group = [completion(str(i), f"text {i}") for i in range(4)]
    made = iterated.best_and_worst([example(1), example(2)], [group, group], [1, None, 4, 2, 3, 3, None, 3])
    assert [(e.chosen.text, e.rejected.text) for e in made] == [("text 2", "text 0")]


def test_a_student_that_cannot_judge_is_not_its_own_judge(tiny_student):
    model, tokenizer = student(tiny_student)
    with pytest.raises(NothingToLearn, match="gave a score in 0%"):
        METHODS["self_rewarding"].train(model, tokenizer, [example(1)], Plan(1, max_tokens=4), lambda *_: None)
