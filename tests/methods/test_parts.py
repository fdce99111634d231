"""A training that is cut after a step, and taken up by another process's objects, gives the adapter of one in a go."""

from dataclasses import replace

import pytest
import torch
from test_methods import example, full, read_tokenizer, student

from kdloop.methods import FAMILIES, IN_PARTS, METHODS, step_size
from kdloop.methods.lora import Plan
from kdloop.student.journal import Journal, OutOfTime

OF_FAMILIES = [found[0] for family in FAMILIES if (found := [name for name in family.METHODS if name in IN_PARTS])]
PLAN = Plan(seed=5, epochs=3, batch=4, learning_rate=1e-3)


def adapter(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def trained(method, directory, examples, plan, cut_after=()):
    """(the adapter, the metrics, losses by step); with a journal in parts that end after these steps."""
    losses, ends = {}, list(cut_after)
    while True:
        model, tokenizer = student(directory)

        def on_step(step, steps, loss, plan=plan):
            losses[step] = loss
            if ends and step == ends[0]:
                ends.pop(0)
                plan.journal.end_soon()

        try:
            metrics = METHODS[method].train(model, tokenizer, examples, plan, on_step)
            return adapter(model), metrics, losses
        except OutOfTime:
            plan = replace(plan, journal=Journal(plan.journal.folder))


def examples_for(method, n=8):
    made = [full(i) for i in range(n)]
    if METHODS[method].usable(made[0]):
        return made
    return [example(i, both=False, liked=bool(i % 2)) for i in range(n)]


@pytest.mark.parametrize("method", OF_FAMILIES)  # of all 19: docs/log.md
def test_parts_of_a_training_give_the_adapter_of_one_in_a_go(method, tiny_student, tmp_path):
    examples = examples_for(method)
    whole, told, losses = trained(method, tiny_student, examples, PLAN)
    parts, told_in_parts, in_parts = trained(
        method, tiny_student, examples, replace(PLAN, journal=Journal(tmp_path)), cut_after=(2, 3)
    )
    assert losses.keys() == in_parts.keys() and len(losses) > 4
    assert losses == pytest.approx(in_parts, rel=1e-6)
    worst = max(float((whole[name] - parts[name]).abs().max()) for name in whole)
    moved = max(float((whole[name] - first).abs().max()) for name, first in adapter(student(tiny_student)[0]).items())
    assert worst <= 1e-6 < moved, f"{method}: {worst} of {moved}"
    ours = told.keys() - {k for k in told if "runtime" in k or "per_second" in k or k == "train_loss"}
    assert {k: told_in_parts[k] for k in ours if "num_tokens" not in k} == pytest.approx(
        {k: told[k] for k in ours if "num_tokens" not in k}, rel=1e-4, abs=1e-6
    )


def test_early_stopping_compares_with_directions_of_the_part_before(tiny_student, tmp_path, monkeypatch):
    monkeypatch.setattr(step_size, "MIN_STEPS", 4)
    monkeypatch.setattr(step_size, "CONVERGED_COSINE", -1.0)  # it ends at the first look, which needs step 2's

    def part(journal, cut_at=None):
        model, tokenizer = student(tiny_student)
        steps = []

        def told(step, all, loss):
            steps.append(step)
            if step == cut_at:
                journal.end_soon()

        stopping = step_size.DirectionEarlyStopping(model, step_size.parameters(model), told)
        METHODS["dpo"].train(model, tokenizer, [full(i) for i in range(8)], replace(PLAN, journal=journal), stopping)
        return steps, stopping.directions

    with pytest.raises(OutOfTime):
        part(Journal(tmp_path), cut_at=3)
    steps, directions = part(Journal(tmp_path))
    assert steps == [4] and len(directions) == 4
    assert not torch.equal(directions[1], directions[2])


def test_a_part_whose_time_is_up_at_its_last_step_ends_the_training(tiny_student, tmp_path):
    plan = replace(PLAN, journal=Journal(tmp_path))
    _, _, losses = trained("sft", tiny_student, examples_for("sft"), plan, cut_after=(6,))
    assert max(losses) == 6 and not list(tmp_path.glob("training*"))


def test_another_device_keeps_the_rows_of_a_pass(tiny_student, tmp_path):
    model, _ = student(tiny_student)
    from kdloop.methods.lora import micro_batch

    plan = replace(PLAN, journal=Journal(tmp_path))
    assert micro_batch(model, plan, 2, [10]) == 2
    assert micro_batch(model, replace(plan, journal=Journal(tmp_path)), 4, [10]) == 2
    assert read_tokenizer(tiny_student)
