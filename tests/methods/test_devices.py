"""Tensors of two devices never meet: rounds and every method on a second device, held by a machine that has none."""

from dataclasses import replace

import pytest
import torch
from devices import Distant, a_second_device
from parts import vote
from test_methods import REWARDED, full
from test_selection import taught
from transformers import AutoTokenizer

from kdloop import recipes
from kdloop.methods import METHODS, step_size
from kdloop.methods.distill import stored
from kdloop.methods.lora import Plan, trainable_student
from kdloop.rounds.run import run
from kdloop.settings import Settings
from kdloop.student import Sampling
from kdloop.student.transformers import TransformersEngine
from storage import checkpoints, rounds
from storage.conversations import as_prompt


@pytest.fixture
def there(monkeypatch):
    with a_second_device(monkeypatch) as device:
        yield device


@pytest.mark.parametrize(
    "meet",
    [
        lambda far, near: far - near,
        lambda far, near: near.add_(far),
        lambda far, near: torch.lerp(near, far, 0.5),
        lambda far, near: torch.cat([far, near]),
        lambda far, near: torch.stack([far[0], near[0]]),
        lambda far, near: near[far.long()],
        lambda far, near: near.gather(0, far.long()),
        lambda far, near: torch.nn.functional.linear(far, near),
        lambda far, near: torch.where(far > 0, far, near),
        lambda far, near: far.numpy(),
    ],
)
def test_the_second_device_refuses_what_a_gpu_refuses(meet, there):
    with pytest.raises((RuntimeError, TypeError)):
        meet(torch.ones(3, device=there), torch.ones(3))


def test_the_second_device_takes_what_a_gpu_takes_and_computes_the_same(there):
    far = torch.arange(4.0, device=there)
    assert (far * torch.tensor(2.0)).tolist() == [0, 2, 4, 6] and far[torch.tensor([1, 3])].tolist() == [1, 3]
    assert type(far.cpu()) is torch.Tensor and type(far.cpu().to(there)) is Distant
    layer = torch.nn.Linear(4, 2).to(there)
    layer(far).sum().backward()
    assert layer.weight.grad.tolist() == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize(
    "name", [name for name in METHODS if name != "self_rewarding"]
)  # a random student cannot judge
def test_every_method_trains_where_the_student_lies(name, there, request):
    rewarded = name in REWARDED  # what never ends has no reward
    source, teacher = map(
        request.getfixturevalue, ("talker", "tiny_teacher") if rewarded else ("byte_student", "byte_teacher")
    )
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = trainable_student(source, None, torch.float32, seed=1)
    start, seen = step_size.parameters(model), []
    settling = step_size.DirectionEarlyStopping(model, start, lambda step, steps, loss: seen.append(loss))
    plan = Plan(1, epochs=1, learning_rate=1e-2, max_tokens=3, teachers=(teacher,), system="End with DONE.")
    plan = replace(plan, reward=lambda prompt, text, finished: float(len(text)))
    METHODS[name].train(model, tokenizer, [full(i) for i in range(4)], plan, settling)
    now = {name: p for name, p in model.named_parameters() if name in start}
    assert seen and all(type(p.data) is Distant for p in now.values())
    assert any((now[name] - before).abs().max() > 0 for name, before in start.items())


def test_a_training_settles_and_moves_along_its_line_where_the_student_lies(there, byte_student):
    base = TransformersEngine(byte_student, dtype=torch.float32)
    model = trainable_student(byte_student, None, torch.float32, 0)
    start, ended = step_size.parameters(model), []
    settling = step_size.DirectionEarlyStopping(model, start, lambda *_: None)
    for step in range(1, step_size.MIN_STEPS + 1):
        with torch.no_grad():
            [p.add_(0.002) for p in model.parameters() if p.requires_grad]
        ended.append(settling(step, 40, 1.0))
    assert ended == [False] * (step_size.MIN_STEPS - 1) + [True]
    found = step_size.settle(model, start, base, base, 4, 8)
    name, p = next((name, p) for name, p in model.named_parameters() if name in start)
    assert (p - start[name]).tolist()[0][0] == pytest.approx(
        0.002 * step_size.MIN_STEPS * found["step scale"], rel=1e-3
    )


def test_several_teachers_and_stored_distributions_teach_where_the_student_lies(there, byte_student, byte_teacher):
    model, tokenizer = (
        trainable_student(byte_student, None, torch.float32, 1),
        AutoTokenizer.from_pretrained(byte_student),
    )
    plan = Plan(1, epochs=1, teachers=(byte_teacher, byte_student))
    seen = []
    METHODS["forward_kl"].train(model, tokenizer, [full(i) for i in range(4)], plan, lambda *told: seen.append(told))
    assert seen and stored.rows(tokenizer, [full(0)], plan) == []


@pytest.fixture
def ended(db, byte_student, there):
    """A function: runs a round on a small student, on the second device, to its end; the round's row."""

    def to_its_end(recipe, **settings):
        started = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me", recipe=recipe)
        told = Settings(home=db.parent, student=byte_student, round_max_tokens=8, gate_prompts=4, **settings)
        run(told, started)
        rounds.release_lease(db, "me")
        return rounds.get_round(db, started.id)

    return to_its_end


def test_a_whole_round_of_votes_from_a_champion_runs_on_one_device(db, ended, byte_student):
    adapted = trainable_student(byte_student, None, torch.float32, seed=1)
    sums = [f"What is {i} and {i} together?" for i in range(8)]
    taught(db, recipes.load("rejection").as_dict(), sums, save=adapted.save_pretrained)
    vote(db, 50)
    judged = ended(replace(recipes.VOTES, prompts=2, passes=4).as_dict())
    assert judged.status in ("promoted", "on trial", "rejected") and judged.method == "dpo", judged.error
    assert set(judged.seconds) == {"elicit", "train", "gate"} and judged.counts["replayed"]
    engine = TransformersEngine(
        byte_student, checkpoints.adapter_dir(db, checkpoints.get_checkpoint(db, judged.candidate_id))
    )
    assert type(next(engine.model.parameters()).data) is Distant
    assert engine.complete([as_prompt("Hello?")], Sampling(3), [1])[0].completion_tokens == 3
