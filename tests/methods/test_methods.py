import math
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from kdloop import packs, recipes
from kdloop.feedback.examples import Example
from kdloop.methods import (
    METHODS,
    NothingToLearn,
    choose,
    dpo,
    kto,
    losses,
    multi_turn,
    ranking,
    require,
    shared_prompts,
    step_size,
    supervised,
)
from kdloop.methods.distill import divergence, economy, similarity, speculative, uld, white_box
from kdloop.methods.lora import Method, Plan, trainable_student
from kdloop.methods.objective import completion_logits, fit, sequence, sequence_logps
from kdloop.methods.self_training import self_teaching
from kdloop.methods.self_training.self_teaching import with_critique, with_demonstration, with_system
from kdloop.rounds import selection
from kdloop.student.template import Template
from storage.conversations import Completion, as_prompt


def completion(name, text, status="finished"):
    return Completion(name, "t", "student", 1, text, status)


def example(i, both=True, liked=True):
    good = completion(f"g{i}", f"yes number {i}, gladly.")
    bad = completion(f"b{i}", f"no and never will i do {i}", "cut")
    sides = (good, bad) if both else (good, None) if liked else (None, bad)
    return Example([{"role": "user", "content": f"question {i}?"}], *sides, conversation=str(i), rows=(str(i),))


def full(i):
    "An example that every method has a use for"
    e = example(i)
    middle = completion(f"m{i}", f"number {i} perhaps.")
    return replace(e, ranking=(e.chosen, middle, e.rejected), critique="Too rude.", rationale="One is polite.")


read_tokenizer = cache(AutoTokenizer.from_pretrained)  # 0.4 s each time, which is a third of a small training


def student(directory, seed=1):
    return trainable_student(directory, None, torch.float32, seed=seed), read_tokenizer(directory)


def trained(name, directory, examples, plan):
    "(losses, model) of a method"
    model, tokenizer = student(directory)
    seen = []
    METHODS[name].train(model, tokenizer, examples, plan, lambda step, steps, loss: seen.append(loss))
    return seen, model


def nll(model, tokenizer, examples, **_):
    logps, lengths = sequence_logps(model, [sequence(tokenizer, e.prompt, e.chosen) for e in examples])
    return float(-(logps.sum() / lengths.sum()))


@torch.no_grad()
def gap(model, tokenizer, examples, teacher, divergence=losses.forward_kl, teacher_prompt=lambda e: e.prompt):
    "How far the student is from the teacher on the chosen completions"
    own = [sequence(tokenizer, e.prompt, e.chosen) for e in examples]
    read = [(Template.of(tokenizer).prompt_ids(teacher_prompt(e)), c) for e, (_, c) in zip(examples, own, strict=True)]
    student, targets = completion_logits(model, own)
    p, q = (z[targets != -100].log_softmax(-1) for z in (teacher.logits(model, read), student))
    return float(divergence(p, q).mean())


@torch.no_grad()
def margin(model, tokenizer, examples):
    "By how many nats the chosen completions are likelier than the rejected ones"
    sides = ([sequence(tokenizer, e.prompt, getattr(e, side)) for e in examples] for side in ("chosen", "rejected"))
    chosen, rejected = (sequence_logps(model, s)[0] for s in sides)
    return float((chosen - rejected).mean())


REWARDED = {"rloo", "grpo", "dapo", "online_dpo", "rest", "star", "self_rewarding"}  # tests/test_reinforcement.py
INSTEAD = {  # of the loss, where that is of other samples or of another kind each step, or has its weights to raise
    **dict.fromkeys(("dft", "wpo", "salt"), nll),
    **dict.fromkeys(("taid", "gkd", "speculative_kd"), gap),
    "on_policy_kl": partial(gap, divergence=losses.reverse_kl),
    "sdft": partial(gap, divergence=losses.reverse_kl, teacher_prompt=with_demonstration),
    "sdpo": partial(gap, teacher_prompt=with_critique),
}


@pytest.mark.parametrize("name", [name for name in METHODS if name not in REWARDED])
def test_a_few_steps_lower_the_loss_and_move_the_adapter(name, tiny_student, tiny_teacher):
    """Three steps; the third's loss is seen before it is taken: two count."""
    examples = [full(i) for i in range(4)]
    assert all(map(METHODS[name].usable, examples))
    plan = Plan(1, epochs=3, learning_rate=1e-2, max_tokens=4, teachers=(tiny_teacher,), system="End with DONE.")
    seen, model = trained(name, tiny_student, examples, plan)
    untrained, tokenizer = student(tiny_student)
    if name in {*dpo.METHODS, *ranking.METHODS, *kto.METHODS}:
        assert margin(model, tokenizer, examples) > margin(untrained, tokenizer, examples)
    if name in INSTEAD:
        teacher = white_box.load(plan, untrained)
        seen = [INSTEAD[name](m, tokenizer, examples, teacher=teacher) for m in (untrained, model)]
    assert seen[-1] < seen[0]
    assert all(p.abs().max() > 0 for n, p in model.named_parameters() if "lora_B.default" in n and "layers.0" in n)


@pytest.mark.parametrize(
    ("name", "start", "anchor"),
    [
        ("dpo", math.log(2), 4.0),
        ("dpo", math.log(2), 0.0),
        ("cdpo", math.log(2), 4.0),
        ("cdpo", math.log(2), 0.0),
        ("sigmoid_norm", math.log(2), 4.0),
        ("ipo", 25.0, 4.0),
        ("ipo", 25.0, 0.5),
        ("apo_zero", 1.0, 4.0),
        ("kto", 0.5, 0.0),
        ("apo_zero_unpaired", 0.5, 0.0),
    ],
)
def test_the_first_loss_is_what_equal_policy_and_reference_give(name, start, anchor, tiny_student):
    """And the anchor's weight is the plan's; at 0 it is the paper's loss."""
    examples = [example(i) for i in range(8)]
    seen, model = trained(name, tiny_student, examples, Plan(seed=1, epochs=1, anchor=anchor))
    assert any(p.abs().max() > 0 for n, p in model.named_parameters() if "lora_B" in n)  # no step is for nothing
    assert seen[0] == pytest.approx(start + anchor * nll(*student(tiny_student), examples), abs=2e-3)


def test_auto_takes_what_the_feedback_holds_and_says_why():
    assert choose("auto", [example(i) for i in range(9)])[0] == "dpo"
    thumbs = [example(i, both=False, liked=i % 2) for i in range(20)]
    assert choose("auto", thumbs)[0] == "kto"
    assert choose("auto", [example(i, both=False) for i in range(20)])[0] == "sft"
    method, why = choose("auto", [example(i) for i in range(12)], contradicted=4)
    assert method == "cdpo" and "12 pairs" in why and "4 (25%) were contradicted" in why
    with pytest.raises(NothingToLearn, match="3 usable votes"):
        choose("auto", [example(i, both=False) for i in range(3)])
    with pytest.raises(ValueError, match="there are auto, sft"):
        choose("ppo", [])


def test_own_trainer_and_trls_take_the_same_steps(wide_student, monkeypatch):
    "Rows of equal length, so that means over rows and over tokens agree"
    monkeypatch.setattr(shared_prompts, "ANY_MASK", ())  # pairs as two rows each: read once, they are rounded otherwise
    examples = [replace(example(i), noise=0.0) for i in range(8)]
    plan = Plan(seed=1, epochs=2, learning_rate=1e-3)
    for own, trl in (("cdpo", "dpo"), ("weighted_sft", "sft")):
        (ours, model), (theirs, their_model) = (trained(name, wide_student, examples, plan) for name in (own, trl))
        assert ours == pytest.approx(theirs, abs=1e-3)
        mine, other = (dict(m.named_parameters()) for m in (model, their_model))
        for name in (n for n in mine if "lora_" in n):
            apart = ((mine[name] - other[name]).abs() > 1e-5).float().mean()
            assert apart < 0.01, (own, name)  # Adam's first steps have a gradient's sign, and one near 0 has either


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd", "skew_kl", "gkd", "on_policy_kl"])
def test_without_another_teacher_the_untrained_student_teaches_and_there_is_nothing_to_do(name, tiny_student):
    seen, _ = trained(name, tiny_student, [example(i) for i in range(8)], Plan(1, epochs=1, max_tokens=4))
    assert seen[0] == pytest.approx(0.0, abs=1e-6)


def test_a_teacher_of_another_vocabulary_is_refused_before_training(tiny_student, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(tiny_student)
    config.update({"vocab_size": 100})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(white_box.OtherVocabulary, match="take `uld`"):
        trained("jsd", tiny_student, [example(1)], Plan(1, teachers=(str(tmp_path),)))


def test_two_teachers_teach_their_mean(tiny_student, tiny_teacher):
    model, tokenizer = student(tiny_student)
    asked = [sequence(tokenizer, example(1).prompt, example(1).chosen)]
    one, two, both = (
        white_box.load(Plan(1, teachers=t), model).logits(model, asked).softmax(-1)
        for t in ((tiny_student,), (tiny_teacher,), (tiny_student, tiny_teacher))
    )
    assert torch.allclose(both, (one + two) / 2, atol=1e-6)


def test_speculative_tokens_are_the_students_where_the_teacher_agrees_and_the_teachers_elsewhere():
    teacher = torch.tensor([[9.0, 5, 0, 0], [0, 0, 9, 5], [9, 0, 0, 0]])
    assert speculative.verify([1, 2, 3], teacher, top_k=4) == [1, 2, 3]  # K = |V|: the student's own stream
    assert speculative.verify([0, 2, 0], teacher, top_k=1) == [0, 2, 0]
    assert speculative.verify([1, 2, 3], 100 * teacher, top_k=1) == [0]  # K = 1: a greedy teacher's argmax
    assert speculative.verify([1, 0, 3], teacher, top_k=2)[:1] == [1]
    even = torch.zeros(1, 200).index_fill(1, torch.tensor([0, 1]), 1e-3)
    drawn = {speculative.verify([9], even, top_k=2)[0] for _ in range(20)}
    assert drawn - {0, 1}, "the replacement is drawn from all of the teacher's distribution, not from its top k"


def test_a_student_that_is_its_own_teacher_writes_alone_where_all_tokens_are_among_the_top(tiny_student):
    model, tokenizer = student(tiny_student)
    rows = [{"sequences": [sequence(tokenizer, example(i).prompt, example(i).chosen)]} for i in range(2)]
    for r in rows:
        r["teacher_prompt"] = r["sequences"][0][0]
    for top_k, share in ((len(tokenizer), 1.0), (1, 0.0)):
        draw = speculative.interleaved(Plan(1, max_tokens=4), [tokenizer.eos_token_id], top_k, block=3)
        written, numbers = draw(model, white_box.Teacher(), rows)
        assert numbers == {"accepted": share} and all(0 < len(w) <= 4 for w in written)


def test_rows_without_weight_teach_nothing(tiny_student):
    examples = [replace(example(i), weight=0.0) for i in range(8)]
    _, model = trained("weighted_sft", tiny_student, examples, Plan(1, epochs=1))
    assert not any(p.any() for n, p in model.named_parameters() if "lora_B" in n)


def seen_prompts(model, tokenizer, train) -> set[str]:
    """Every text that the model reads with gradients while `train` runs: what it is trained on."""
    texts = set()

    def note(module, arguments, known):
        if torch.is_grad_enabled():
            ids, mask = known["input_ids"], known["attention_mask"]
            texts.update(tokenizer.decode(row[at.bool()]) for row, at in zip(ids, mask, strict=True))

    held = model.register_forward_pre_hook(note, with_kwargs=True)
    train()
    held.remove()
    return texts


def checked(n=8):
    """Sums as a round on a pack with checks is given them: what a check has found right."""
    tasks = packs.tasks("sums", "train")[:n]
    right = [Completion(str(i), "t", "student", 1, f"It is {t.answer}.") for i, t in enumerate(tasks)]
    elicited = [
        Example(as_prompt(t.prompt), k, None, str(i), (str(i),), "verifier", round=1)
        for i, (t, k) in enumerate(zip(tasks, right, strict=True))
    ]
    return tasks, selection.relevant(elicited, recipes.load("star"), tasks)


@pytest.mark.parametrize("source", ["verifier", "student", "human"])
@pytest.mark.parametrize("name", ["rest", "star", "weighted_sft", "adapter_soup", "curriculum"])
def test_rows_are_trained_under_the_prompt_that_the_gate_and_the_chat_ask(name, source, tiny_student):
    """No word of their source, which nobody is ever served with: it may only mark a worse one beside a better."""
    tasks, examples = checked()
    examples = [replace(e, source=source) for e in examples]
    model, tokenizer = student(tiny_student)
    plan = Plan(1, epochs=1, max_tokens=4, reward=lambda prompt, text, finished: 1.0)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    head = torch.zeros(len(tokenizer))
    head[tokenizer.eos_token_id] = 8.0  # a random student seldom ends
    model.get_base_model().lm_head.register_forward_hook(lambda module, given, z: z + head)
    train = METHODS[name].train
    texts = seen_prompts(model, tokenizer, lambda: train(model, tokenizer, examples, plan, lambda *_: None))
    asked = [tokenizer.decode(Template.of(tokenizer).prompt_ids(as_prompt(t.prompt))) for t in tasks]
    assert len(texts) >= 2 and all(text.startswith(tuple(asked)) for text in texts)


def test_beside_what_people_chose_other_sources_are_named_and_count_a_tenth(tiny_student):
    _, tokenizer = student(tiny_student)
    sources = ("human", "verifier", "preference_model", "teacher")
    examples = [replace(example(i), source=source) for i, source in enumerate(sources)]
    model, _ = student(tiny_student)
    texts = seen_prompts(
        model, tokenizer, lambda: METHODS["weighted_sft"].train(model, tokenizer, examples, Plan(1), lambda *_: None)
    )
    named = {source: any(f"Source: {source}" in text for text in texts) for source in sources}
    assert named == {"human": False, "verifier": False, "preference_model": True, "teacher": True}


def test_a_curriculum_begins_with_what_the_student_finds_easy(tiny_student):
    plan = Plan(1, epochs=1, batch=4, learning_rate=1e-9)  # nothing is learned: each step's loss is its rows' own
    losses, _ = trained("curriculum", tiny_student, [example(i) for i in range(16)], plan)
    assert len(losses) == 4 and losses == sorted(losses) and losses[0] < losses[-1]


def updates(model):
    """{layer: BA}, what the adapter adds to a weight (before its scale)."""
    known = dict(model.named_parameters())
    names = [n.removesuffix(".lora_A.default.weight") for n in known if n.endswith(".lora_A.default.weight")]
    return {n: known[f"{n}.lora_B.default.weight"] @ known[f"{n}.lora_A.default.weight"] for n in names}


def test_a_soup_is_the_exact_mean_of_what_its_adapters_add(tiny_student, tmp_path):
    """From a fresh adapter and from a champion's; the mean of A and that of B would make another matrix."""
    examples = [example(i) for i in range(6)]
    plan, steps = Plan(1, epochs=4, learning_rate=1e-2), []
    champion, tokenizer = student(tiny_student)
    METHODS["sft"].train(champion, tokenizer, [example(i) for i in range(20, 28)], plan, lambda *_: None)
    champion.save_pretrained(tmp_path)
    for adapter in (None, tmp_path):
        model = trainable_student(tiny_student, adapter, torch.float32, seed=1)
        heard = METHODS["adapter_soup"].train(model, tokenizer, examples, plan, lambda *step: steps.append(step[:2]))
        assert heard["own NLL"] < heard["others' NLL"]
        apart = []
        for i in range(economy.ADAPTERS):
            alone = trainable_student(tiny_student, adapter, torch.float32, seed=1)
            with economy.frozen_a(alone):
                fit(
                    alone,
                    supervised.weighted_rows(tokenizer, examples[i::3]),
                    supervised.mean_nll,
                    plan,
                    lambda *_: None,
                )
            apart.append(updates(alone))
        assert not torch.allclose(*(next(iter(one.values())) for one in apart[:2]), atol=1e-4), "they learn apart"
        for name, added in updates(model).items():
            assert torch.allclose(added, sum(one[name] for one in apart) / 3, atol=1e-6)
    assert steps[:12] == [(i + 1, 12) for i in range(12)], "progress is that of one training"


def test_a_soups_adapters_stay_as_different_as_one_student_is_from_their_texts(tiny_student):
    examples = [example(i) for i in range(6)]
    plan = Plan(1, epochs=4, learning_rate=1e-2)
    model, tokenizer = student(tiny_student)
    heard = METHODS["adapter_soup"].train(model, tokenizer, examples, plan, lambda *_: None)
    single, _ = student(tiny_student)
    METHODS["sft"].train(single, tokenizer, examples, plan, lambda *_: None)
    assert heard["others' NLL"] >= 0.95 * economy.nll(single, supervised.weighted_rows(tokenizer, examples))


def test_a_soups_adapters_are_trained_to_their_ends_whatever_on_step_says(tiny_student):
    """Early stop compares a training with itself, and these are several."""
    model, tokenizer = student(tiny_student)
    seen = []
    settling = step_size.DirectionEarlyStopping(model, step_size.parameters(model), lambda *step: seen.append(step[:2]))
    enough = lambda *step: settling(*step) or True  # noqa: E731
    METHODS["adapter_soup"].train(model, tokenizer, [example(i) for i in range(48)], Plan(seed=1, epochs=1), enough)
    assert [step for step, _ in seen] == list(range(1, seen[-1][1] + 1))


def test_what_an_old_home_asks_for_by_its_old_name_is_found():
    examples = [example(i) for i in range(9)]
    assert choose("agents", examples)[0] == "adapter_soup"
    require("agents", Plan(1))
    with pytest.raises(NothingToLearn, match="3 usable votes for adapter_soup"):
        choose("agents", examples[:3])


def test_what_is_baked_can_show_how_it_is_meant():
    shown = self_teaching.turns("Begin with Arrr!\nUser: Who wrote Hamlet?\nAssistant: Arrr! Shakespeare:\nthe poet.")
    assert [(m["role"], m["content"]) for m in shown] == [
        ("system", "Begin with Arrr!"),
        ("user", "Who wrote Hamlet?"),
        ("assistant", "Arrr! Shakespeare:\nthe poet."),
    ]
    told = with_system("User: a\nAssistant: b", example(1))
    assert [m["role"] for m in told] == ["user", "assistant", "user"] and told[-1]["content"] == "question 1?"
    assert self_teaching.turns("Be brief.") == [{"role": "system", "content": "Be brief."}]


def test_multi_turn_trains_the_assistants_messages_and_their_ends_alone(tiny_student):
    tokenizer = AutoTokenizer.from_pretrained(tiny_student)
    for turns in range(1, 21):
        system = [{"role": "system", "content": "Be brief."}] if turns % 2 else []
        said = [
            ({"role": "user", "content": f"Ask {i}"}, {"role": "assistant", "content": f"Told {i}."})
            for i in range(turns)
        ]
        messages = system + [m for pair in said for m in pair]
        (row,) = multi_turn.rows(tokenizer, messages, 2048)
        whole = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
        assert row["input_ids"] == whole[: len(row["input_ids"])] and len(whole) - len(row["input_ids"]) == 1
        learned = [label for label in row["labels"] if label != -100]
        assert tokenizer.decode(learned) == "".join(f"Told {i}.<|im_end|>" for i in range(turns))


def test_a_conversation_counts_once_with_its_longest_history():
    first = example(1)
    longer = replace(
        first, prompt=[*first.prompt, {"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]
    )
    assert sorted(map(len, multi_turn.conversations([longer, first, example(2)]))) == [2, 4]


def test_positions_are_compared_where_both_tokenizers_have_read_the_same():
    assert uld.same_starts([0, 3, 5, 9], [0, 4, 5, 7, 9]) == [(0, 0), (2, 2), (3, 4)]


def test_what_a_method_cannot_do_without_is_asked_for_with_the_remedy():
    """Without a teacher of its own the untrained student would teach itself, and a whole round change nothing."""
    lacking = {name for name, m in METHODS.items() if m.lacks(Plan(1))}
    white_box = {*divergence.METHODS, *similarity.METHODS, "speculative_kd", "uld"}
    assert lacking == white_box | {"bake", "star"}
    complete = Plan(1, teachers=("a/b",), system="Be brief.", reward=lambda prompt, text, finished: 1.0)
    for name in METHODS:
        require(name, complete)
    with pytest.raises(NothingToLearn, match="jsd needs a teacher: KDLOOP_TEACHER_MODELS"):
        require("jsd", Plan(1))
    require("jsd", Plan(1, stored=Path("features")))  # what the teacher stored stands in for it
    with pytest.raises(NothingToLearn, match="gkd needs a teacher"):
        require("gkd", Plan(1, stored=Path("features")))  # of the student's own samples nothing is stored
    with pytest.raises(NothingToLearn, match="bake needs a system prompt: KDLOOP_BAKE"):
        require("bake", Plan(1))
    require("auto", Plan(1))


def test_a_round_tells_its_method_what_the_settings_say(db, tmp_path):
    from kdloop.rounds.setup import plan_of
    from kdloop.settings import Settings
    from storage import rounds

    one = rounds.start_round(db, requested="jsd", seed=3, started_by="test", owner="test")
    recipe = replace(recipes.VOTES, learning_rate=1e-4)
    said = Settings(home=tmp_path, teacher_models="a/b,c", bake="Be brief.", round_max_tokens=5)
    plan = plan_of(said, one, None, recipe, [])
    wanted = Plan(3, learning_rate=1e-4, max_tokens=5, teachers=("a/b", "c"), system="Be brief.", right=0.0)
    assert plan == wanted
    assert plan_of(said, one, None, replace(recipe, anchor=0.0), []).anchor == 0.0
    assert plan_of(Settings(home=tmp_path), one, None, recipes.VOTES, []).teachers == ()
    writes = replace(recipes.VOTES, knowledge=({"source": "features"},))
    assert plan_of(Settings(home=tmp_path), one, None, writes, []).stored == tmp_path / "features"
    (tmp_path / "features").mkdir()
    assert plan_of(Settings(home=tmp_path), one, None, recipes.VOTES, []).stored == tmp_path / "features"


def test_every_method_says_what_differs_from_its_paper_and_the_page_shows_it():
    from kdloop.methods.page import page

    with pytest.raises(TypeError, match="differs_from_paper"):
        Method(supervised.usable, supervised.train, "likes", "NLL", "a paper", "none", "always")
    with pytest.raises(ValueError, match="does not say what differs"):
        replace(METHODS["sft"], differs_from_paper=" ")
    shown = page()
    for name, method in METHODS.items():
        entry = shown.split(f"### `{name}`\n")[1].split("\n#")[0]
        assert f"Differs from the paper: {method.differs_from_paper}." in entry


def test_the_recipes_and_the_plans_anchor_are_one():
    assert {Plan(1).anchor, recipes.Recipe("mine").anchor, recipes.VOTES.anchor} == {4.0}
    assert all(recipes.load(name).anchor == 4.0 for name in recipes.names())
    for wrong in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"anchor .*; 0 or more"):
            recipes.Recipe("mine", anchor=wrong)


def test_a_certain_vote_is_certain_and_an_unknown_one_is_not(tiny_student):
    """0 is known; None is what nobody said."""
    _, tokenizer = student(tiny_student)
    examples = [replace(example(i), noise=noise) for i, noise in enumerate((None, 0.0, 0.3))]
    rows = []

    def seen(logps, lengths, row):
        rows.append(row)
        return logps.sum()

    ranking.train(student(tiny_student)[0], tokenizer, examples, Plan(1, epochs=1), lambda *_: None, loss=seen)
    assert sorted(r["noise"] for r in rows) == [0.0, ranking.NOISE, 0.3]


def test_ulds_distance_alone_makes_a_wrong_student_surer_and_the_labels_make_it_right(tiny_student, tiny_teacher):
    """The text's own tokens are unlikely for both: with the labels they get likelier."""
    examples, plan = [example(i) for i in range(4)], Plan(1, epochs=6, learning_rate=1e-2, teachers=(tiny_teacher,))
    found = {}
    for labels in (0.0, 1.0):
        model, tokenizer = student(tiny_student)
        before = nll(model, tokenizer, examples)
        uld.train(model, tokenizer, examples, plan, lambda *_: None, nll_weight=labels)
        found[labels] = nll(model, tokenizer, examples) - before
    assert found[1.0] < -0.5 and found[1.0] < found[0.0] - 0.5


def test_the_page_of_the_methods_is_up_to_date():
    from kdloop.methods.page import page

    written = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    assert written == page(), "python -m kdloop.methods.page > docs/methods.md"
    assert all(f"### `{name}`" in written for name in METHODS)
