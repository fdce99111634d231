"""A round's training by two processes: it is the training by one, and they end with the round, however it ends."""

import json
import os
import pickle
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import psutil
import pytest
import torch
from all_methods import STOPPED, trained
from families import TEMPLATES
from parts import vote
from safetensors.torch import load_file, save_file
from test_methods import full
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from kdloop.methods import ALONE, FAMILIES, METHODS, NothingToLearn, step_size
from kdloop.methods.lora import Plan, trainable_student
from kdloop.recipes import VOTES
from kdloop.rounds import ranks, several
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings, of_child, visible_gpus
from kdloop.student import footprint
from kdloop.student.template import Template
from kdloop.student.transformers import TransformersEngine
from storage import checkpoints, rounds
from storage.conversations import as_prompt
from storage.database import open_database


@pytest.fixture
def settings(tmp_path, tiny_student):
    settings = Settings(home=tmp_path, student=tiny_student, processes=2, round_max_tokens=8, gate_prompts=4)
    checkpoints.ensure_base(open_database(settings.db))
    return settings


def job(settings: Settings, examples: list, **values) -> several.Job:
    """A training of a queued round."""
    round = rounds.start_round(settings.db, requested="auto", seed=1, started_by="test", owner="me")
    rounds.advance(settings.db, round.id, "training")
    rounds.release_lease(settings.db, "me")
    plan = Plan(1, epochs=3, learning_rate=1e-2, max_length=values.pop("max_length", 2048))
    what = {"method": "dpo", "adapter": None, "dtype": torch.float32, "early_stop": True, "gpus": []}
    return several.Job(round.id, examples=examples, plan=plan, source=settings.student, **what | values)


def started(settings: Settings) -> tuple:
    model = trainable_student(settings.student, None, torch.float32, seed=1)
    return model, step_size.parameters(model)


def family(pid: int) -> list[psutil.Process]:
    """The processes below it."""
    try:
        return [p for p in psutil.Process(pid).children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []


def ranks_of(pid: int) -> list[psutil.Process]:
    """The two processes that train, once they are there."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        found = [p for p in family(pid) if "kdloop.rounds.ranks" in p.cmdline() and "--module" not in p.cmdline()]
        if len(found) == 2:
            return found
        time.sleep(0.1)
    raise AssertionError(f"There are {len(found)} processes that train")


def all_stop(processes: list[psutil.Process], stopped: bool = True) -> bool:
    """Or all go on. Within seconds: of a process that has many threads one stops after the other."""
    deadline = time.monotonic() + 30
    while any((p.status() == psutil.STATUS_STOPPED) != stopped for p in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def all_end(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=60)[1]


def test_two_processes_train_what_one_does_by_a_method_of_each_family(tiny_student, tiny_teacher, tmp_path):
    """Ten rows: the last batch is smaller, and its only micro-batch one process's. (By all: 142 s, docs/log.md.)"""
    families = ([name for name in family.METHODS if name not in ALONE] for family in FAMILIES)
    names = sorted({STOPPED, *[found[0] for found in families if found][:6]})
    assert len(names) > 5 and {"sft", "dpo", "kto"} < {*names}
    plan = Plan(1, epochs=2, learning_rate=1e-2, max_tokens=4, teachers=(tiny_teacher,))
    asked = tiny_student, [full(i) for i in range(10)], plan
    (tmp_path / "asked").write_bytes(pickle.dumps((names, *asked)))
    launch = several.command(tmp_path, 2)
    launch = [*launch[: launch.index("--module")], str(Path(__file__).parent / "all_methods.py"), str(tmp_path)]
    subprocess.run(launch, env=of_child() | {"ACCELERATE_USE_CPU": "true"}, check=True)
    for name in names:
        alone, losses, whole = trained(name, *asked)
        before = trained_nothing(tiny_student, alone)
        for folder, rank in product((tmp_path, tmp_path / "sharded"), range(2)):
            together = load_file(folder / f"{name}-{rank}")
            off = sum(float((together[k] - alone[k]).norm() ** 2) for k in alone) ** 0.5
            assert off <= 0.01 * before, f"{name}: off by {off:.2g}, trained by {before:.2g}"
            found, kept = pickle.loads((folder / f"{name}-{rank}.told").read_bytes())
            assert found == pytest.approx(losses, rel=1e-3, abs=1e-5), name
            part = whole / (1 if folder == tmp_path else 2)
            assert kept == pytest.approx(part, rel=0.001), f"{name}: process {rank} keeps {kept} of {whole} bytes"
        assert name != STOPPED or len(losses) == 2


def trained_nothing(student: str, adapter: dict) -> float:
    """How far the adapter is from where its training began."""
    model = trainable_student(student, None, torch.float32, seed=1)
    start = step_size.parameters(model)
    wave = {k: 0.02 * torch.sin(torch.arange(w.numel())).view_as(w) for k, w in start.items()}
    return sum(float((adapter[k] - start[k] - wave[k]).norm() ** 2) for k in start) ** 0.5


def test_the_model_gets_what_they_have_trained_and_the_round_shows_their_steps(settings, capfd):
    """Of a student that is split over them."""
    asked, (model, start) = job(settings, [full(i) for i in range(10)], sharded=True), started(settings)
    metrics = several.train(settings, asked, model, start)
    (told,) = re.findall(r"([\d.]+) MiB of the student's ([\d.]+) MiB are kept here", capfd.readouterr().out)
    assert float(told[0]) == pytest.approx(float(told[1]) / 2, abs=0.1)
    assert metrics["loss"] > 0 and metrics["rewards/margins"] == metrics["rewards/margins"]
    assert any(not torch.equal(p, start[name]) for name, p in model.named_parameters() if name in start)
    assert [(p.step, p.steps) for p in rounds.progress(settings.db, asked.round_id)] == [(i, 6) for i in range(1, 7)]
    assert not list((settings.home / "rounds" / f"{asked.round_id:06d}").iterdir())


def test_the_rounds_own_process_holds_the_weights_once_where_others_train(settings, tmp_path):
    engine = TransformersEngine(settings.student, dtype=torch.float32)
    model = trainable_student(settings.student, None, torch.float32, 1, engine.untrained, elsewhere=True)
    theirs = {p.data_ptr() for p in engine.untrained.parameters()}
    assert {p.data_ptr() for p in model.parameters() if not p.requires_grad} == theirs
    start = step_size.parameters(model)
    step_size.place(model, start, {name: p + 0.1 for name, p in start.items()}, 1.0)
    model.save_pretrained(tmp_path / "adapter")
    said = [as_prompt("Hi")], [("there", True)]
    (before,), (trained,), (loaded,) = (
        e.logprobs(*said) for e in (engine, engine.load_trained(model), engine.load(tmp_path / "adapter"))
    )
    assert trained == pytest.approx(loaded, abs=1e-5) != before


def test_what_they_find_out_is_raised_as_by_one_process(settings):
    with pytest.raises(NothingToLearn, match="longer than the 4 tokens"):
        several.train(settings, job(settings, [full(0)], max_length=4), *started(settings))
    for rank, at in ((0, 2.0), (1, 1.0)):  # as ranks.py writes them
        told = {"at": at, "rank": rank, "type": "OSError", "message": f"No space, says {rank}"}
        (settings.home / f"{several.ERROR}-{rank}").write_text(json.dumps(told))
    first = several.failure(settings.home, 1)
    assert type(first) is several.ProcessFailed
    assert str(first) == "Process 1 of those that train: OSError: No space, says 1"


def test_what_they_train_is_rendered_with_the_rounds_own_switch_for_thoughts(settings, tmp_path, monkeypatch):
    """In this process, as the only one of them: the template's own default would be on."""
    student, tokenizer = tmp_path / "thinks", AutoTokenizer.from_pretrained(settings.student)
    tokenizer.chat_template = TEMPLATES["qwen3"]
    AutoModelForCausalLM.from_pretrained(settings.student).save_pretrained(student)
    tokenizer.save_pretrained(student)
    settings = replace(settings, student=str(student), thinking="off")
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    asked = job(settings, [full(i) for i in range(4)], method="sft")
    save_file(started(settings)[1], tmp_path / several.START)
    ranks.train(tmp_path, asked)
    found, off = load_file(tmp_path / several.TRAINED), {}
    for thinking in ("off", ""):
        model, _ = started(settings)
        tokenizer = AutoTokenizer.from_pretrained(student, padding_side="left")
        Template.of(tokenizer, thinking)
        METHODS["sft"].train(model, tokenizer, asked.examples, asked.plan, lambda *_: None)
        off[thinking] = max(float((found[k] - p).abs().max()) for k, p in step_size.parameters(model).items())
    assert off["off"] < 1e-6 < off[""]


def test_where_one_is_killed_the_others_end_and_the_round_is_told(settings):
    before = family(os.getpid())  # a browser of other tests
    with ThreadPoolExecutor(1) as beside:
        asked = job(settings, [full(i) for i in range(200)])
        training = beside.submit(several.train, settings, asked, *started(settings))
        ranks = ranks_of(os.getpid())
        everybody = [p for p in family(os.getpid()) if p not in before]
        while not rounds.progress(settings.db, asked.round_id) and not training.done():
            time.sleep(0.1)
        ranks[1].kill()
        with pytest.raises(several.ProcessFailed, match=r"process [01] was ended by SIGKILL"):
            training.result(timeout=120)
    assert all_end(everybody)


def test_a_method_that_cannot_be_split_is_trained_by_one_and_says_so():
    settings = Settings(processes=4)
    assert [several.processes(settings, name) for name in ("dpo", "kto", "grpo", "taid")] == [4, 4, 1, 1]
    assert several.in_words(settings, "dpo") == "; 4 processes train"
    assert several.in_words(settings, "grpo") == "; one process trains, as grpo samples while it trains"
    assert several.processes(Settings(processes=100), "dpo") == several.BATCH
    assert several.in_words(Settings(), "grpo") == several.in_words(Settings(), "dpo") == ""
    assert set(ALONE) < set(METHODS)


def test_a_student_that_no_gpu_has_room_for_is_split_and_one_that_all_lack_room_for_is_refused(tmp_path):
    """By numbers, of a student of 3.5 billion: the first GPU has room for all of it, or each for its part."""
    LlamaConfig(hidden_size=4096, num_hidden_layers=16).save_pretrained(student := tmp_path / "large")
    shape, tokens = footprint.shape_of(student, 16), 64
    whole = footprint.least(shape, torch.bfloat16, "cuda", tokens, 16) / footprint.FACTOR
    shares = [footprint.sharded(shape, torch.bfloat16, tokens, n) / footprint.FACTOR for n in (2, 4, 8)]
    assert whole > shares[0] > shares[1] > shares[2]
    ask = partial(footprint.must_be_sharded, student, 16, torch.bfloat16, tokens)
    assert not ask([int(whole) + 1, 0])
    assert ask([int(shares[0]) + 1] * 2)
    with pytest.raises(footprint.NoRoom, match=r"on each of 2 that split its weights, and [\d.]+ GiB are free"):
        ask([int(shares[0]) + 1, int(shares[0]) - 1])
    assert ask([int(shares[1]) + 1] * 4)


def test_a_round_whose_gpus_are_all_given_away_says_so_and_refuses_what_one_process_trains(settings, monkeypatch):
    """As far as it goes without a GPU: this process has none left."""
    monkeypatch.setattr(several, "GPUS", ["0", "1", "2"])
    settings = replace(settings, processes=0)
    assert several.sharded() and several.processes(settings, "kto") == 3
    assert "3 processes train a student that is split over them" in several.in_words(settings, "kto")
    several.require_shareable("kto")
    with pytest.raises(NothingToLearn, match="gkd samples while it trains, which one process does"):
        several.require_shareable("gkd")


def test_each_process_is_given_one_of_the_gpus_that_the_round_sees(settings, monkeypatch):
    """As far as it goes without one: by CUDA's names."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5b2f,7")
    assert visible_gpus(3) == ["3", "GPU-5b2f", "7"] and visible_gpus(2) == ["3", "GPU-5b2f"]
    asked = job(settings, [full(0)], gpus=["3", "7"])
    assert several.environment(settings, asked)["CUDA_VISIBLE_DEVICES"] == "3,7"
    assert "ACCELERATE_USE_CPU" not in several.environment(settings, asked)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus(2) == ["0", "1"]


def test_a_round_with_two_processes_is_paused_cancelled_and_ended_with_all_of_them(settings):
    """(What becomes of them where the round's process is killed: below, with the app.)"""
    vote(settings.db, 60)
    supervisor = Supervisor(settings)
    round = supervisor.start("dpo", recipe=replace(VOTES, knowledge=(), passes=400).as_dict())
    ranks = ranks_of(supervisor.child.pid)
    everybody = [psutil.Process(supervisor.child.pid), *family(supervisor.child.pid)]
    assert {os.getpgid(p.pid) for p in everybody} == {supervisor.child.pid}
    with supervisor.yielding():
        supervisor.tick()
        assert all_stop(ranks)
    supervisor.tick()
    assert all_stop(ranks, False)
    rounds.request_cancel(settings.db, round.id)
    assert supervisor.wait().status == "cancelled"
    assert all_end(everybody)


PARENT = """
import sys, time
from pathlib import Path
from kdloop.recipes import VOTES
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
supervisor = Supervisor(Settings(home=Path({home!r}), student={student!r}, processes=2))
supervisor.start("dpo", recipe={recipe!r})
print(supervisor.child.pid, flush=True)
input()
with supervisor.yielding():
    supervisor.tick()
    print("paused", flush=True)
    time.sleep(600)
"""


def test_an_app_that_is_killed_amid_a_reply_leaves_none_of_them(settings):
    vote(settings.db, 60)
    recipe = replace(VOTES, knowledge=(), passes=400).as_dict()
    code = PARENT.format(home=str(settings.home), student=settings.student, recipe=recipe)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    app = subprocess.Popen([sys.executable, "-c", code], env=of_child(), **pipes)
    pid = int(app.stdout.readline())
    ranks = ranks_of(pid)
    everybody = [psutil.Process(pid), *family(pid)]
    print("go", file=app.stdin, flush=True)
    assert app.stdout.readline() == "paused\n"
    assert all_stop(ranks)
    app.kill()
    app.wait()
    assert all_end(everybody)
