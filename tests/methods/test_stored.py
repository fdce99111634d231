"""A teacher's stored distribution in place of a teacher that reads along."""

from dataclasses import replace

import pytest
import torch
from parts import context
from test_methods import example, student, trained
from transformers import AutoModelForCausalLM, AutoTokenizer

from kdloop import packs
from kdloop.feedback.examples import from_feedback
from kdloop.knowledge import feature
from kdloop.methods import METHODS, NothingToLearn, losses
from kdloop.methods.distill import divergence, stored, white_box
from kdloop.methods.lora import Plan
from kdloop.raters.teacher import Teacher
from kdloop.student.transformers import TransformersEngine
from storage.conversations import as_prompt

ON_TEXT = [name for name in (*divergence.METHODS, "kd_lora", "salt") if name not in ("gkd", "on_policy_kl")]


@pytest.fixture(scope="module")
def decided_teacher(tiny_teacher, tmp_path_factory):
    """The random teacher with a head ten times as sure, as a trained one is: 64 tokens hold most of its mass."""
    model, directory = AutoModelForCausalLM.from_pretrained(tiny_teacher), tmp_path_factory.mktemp("decided")
    with torch.no_grad():
        model.lm_head.weight.mul_(10)
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(tiny_teacher).save_pretrained(directory)
    return str(directory)


def loss_of(name):
    """Of a position; TAID's has a schedule, which begins anew."""
    return divergence.taid_loss(10) if name == "taid" else METHODS[name].train.keywords["loss"]


def adapter(model):
    return [p for name, p in model.named_parameters() if "lora_B" in name]


def kept_beside(directory, teacher, examples, k):
    engine = TransformersEngine(teacher, dtype=torch.float32)
    for e in examples:
        feature.save(feature.sidecar(directory, e.rows[0]), feature.top_k(engine, e.prompt, e.chosen.said, k))
    return directory


@pytest.mark.parametrize("name", ON_TEXT)
def test_with_all_of_the_vocabulary_it_is_the_live_teacher(name, tiny_student, tiny_teacher, tmp_path):
    """Loss and gradients; what lies in the file has half precision."""
    model, tokenizer = student(tiny_student)
    examples = [example(i) for i in range(3)]
    plan = Plan(1, stored=kept_beside(tmp_path, tiny_teacher, examples, k=len(tokenizer)))
    alone = stored.rows(tokenizer, examples, plan)
    read = [r | {"teacher_prompt": r["sequences"][0][0]} for r in alone]
    live, learned = white_box.load(Plan(1, teachers=(tiny_teacher,)), model), adapter(model)
    for progress in (0.0, 0.5):
        mine, _ = stored.objective(loss_of(name))(model, alone, progress)
        theirs, _ = divergence.objective(live, loss_of(name), 0.0, None, 1)(model, read, progress)
        assert mine.item() == pytest.approx(theirs.item(), rel=1e-3)
        gradients = [torch.cat([g.flatten() for g in torch.autograd.grad(x, learned)]) for x in (mine, theirs)]
        assert (gradients[0] - gradients[1]).norm() < 0.05 * gradients[1].norm()  # signs of near ties, too


@pytest.mark.parametrize("d", [losses.forward_kl, losses.reverse_kl, losses.gjsd], ids=lambda d: d.__name__)
def test_64_tokens_and_the_tail_are_close_to_it(d, student_home):
    """The real student teaches itself at another temperature. What is lumped together can only bring the two nearer."""
    engine = TransformersEngine(str(student_home / "student"))
    said = as_prompt("What is the capital of France?"), ("Paris is the capital of France.", True)
    full, kept = feature.distribution(engine, *said), feature.top_k(engine, *said, 64)
    q = (0.7 * full).log_softmax(-1)
    exact, close = d(full, q).mean().item(), d(feature.completed(kept, q), q).mean().item()
    assert 0.85 * exact < close < 1.01 * exact  # seen: 0.99, 0.92 and 0.98 of it


def test_what_a_recipe_stores_is_what_its_method_learns_without_the_teacher(db, tiny_student, decided_teacher):
    m = context(db, None, pack="general", teachers=[Teacher("local", directory=decided_teacher, terms="allowed")])
    tokenizer = student(tiny_student)[1]
    writer = TransformersEngine(tiny_student)
    m = replace(m, writers=((writer, m.writers[0][1]),), sampling=replace(m.sampling, max_tokens=6))
    written = feature.features(m, packs.tasks("general", "train")[:8], k=64)
    examples = [e for e in from_feedback(db, m.round.id).train if e.round == m.round.id]
    plan = Plan(1, epochs=4, learning_rate=1e-2, stored=feature.folder(db))
    assert len(stored.rows(tokenizer, examples, plan)) == len(examples) == written >= 6
    seen, _ = trained("forward_kl", tiny_student, [*examples, example(1)], plan)  # one of them has none beside it
    assert seen[-1] < seen[0] and seen[0] > 0.1


def test_texts_without_it_or_of_other_tokens_are_left_out_and_none_is_a_refusal(tiny_student, tiny_teacher, tmp_path):
    tokenizer, e = student(tiny_student)[1], example(1)
    beside = kept_beside(tmp_path, tiny_teacher, [e], k=4)
    plan = Plan(1, stored=beside)
    edited = replace(e, chosen=replace(e.chosen, text=e.chosen.text + " And more."))
    assert not stored.rows(tokenizer, [edited, example(2)], plan)
    with pytest.raises(NothingToLearn, match=r"None of 2 texts .* needs a teacher"):
        trained("jsd", tiny_student, [edited, example(2)], plan)
    for name in ("kd_lora", "salt"):
        assert METHODS[name].lacks(Plan(1)) == ""
    seen, _ = trained("kd_lora", tiny_student, [edited, example(2)], plan)  # the labels teach where no teacher does
    assert seen[0] > 0
