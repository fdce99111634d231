"""The champion in memory: what answers while another is loaded, and when one cannot be."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Event, current_thread

import pytest
import torch
from parts import published, randomized

from kdloop.methods.lora import trainable_student
from kdloop.student import Sampling
from kdloop.student.serving import Serving, WrongWeights, check, fingerprint
from kdloop.student.transformers import TransformersEngine
from storage import checkpoints
from storage.checkpoints import Checkpoint
from storage.conversations import as_prompt
from storage.database import transaction


@pytest.fixture(scope="module")
def base(tiny_student):
    return TransformersEngine(tiny_student)


def promoted(db, base, seed=1):
    """A checkpoint whose weights differ from the base's."""
    return checkpoints.promote(db, published(db, base, seed).id)


def damage(db, k):
    (checkpoints.adapter_dir(db, k) / "adapter_model.safetensors").write_bytes(b"not these")


def test_a_damaged_champion_leaves_the_one_before_answering(db, base):
    serving = Serving(db, lambda: base)
    first = promoted(db, base)
    assert serving.current()[1].id == first.id and fingerprint(serving.current()[0]) != fingerprint(base)
    damage(db, promoted(db, base, seed=2))
    engine, checkpoint = serving.current()
    assert checkpoint.id == first.id and fingerprint(engine) == first.metrics["fingerprint"]


def test_an_app_whose_champion_is_damaged_starts_with_the_base_and_follows_a_roll_back(db, base, capsys):
    first = promoted(db, base)
    damage(db, second := promoted(db, base, seed=2))
    serving = Serving(db, lambda: base)
    assert serving.current()[1].version == 0
    assert f"v0 answers instead of {second.name}" in capsys.readouterr().err
    checkpoints.serve(db, first.id)
    assert serving.current()[1].id == first.id


def test_weights_that_are_not_the_published_ones_do_not_answer(db, base):
    k = promoted(db, base)
    with transaction(db) as c:
        c["checkpoints"].update(k.id, {"metrics": json.dumps({"fingerprint": [-1.0] * len(k.metrics["fingerprint"])})})
    assert Serving(db, lambda: base).current()[1].version == 0


def test_who_asks_while_a_champion_is_loaded_does_not_wait(db, base):
    begun, go = Event(), Event()

    class Slow:
        source, name, tokenizer = base.source, base.name, base.tokenizer

        def load(self, adapter):
            begun.set()
            go.wait(30)
            return base.load(adapter)

    serving = Serving(db, Slow)
    serving.current()
    k = promoted(db, base)
    with ThreadPoolExecutor(1) as beside:
        loading = beside.submit(serving.current)
        begun.wait(30)
        assert serving.current()[1].version == 0
        go.set()
        assert loading.result()[1].id == k.id == serving.current()[1].id


def test_replies_are_read_at_few_lengths_and_computed_by_one_thread(tiny_student):
    """PyTorch keeps memory for each length and each thread that it ever computed with: an app would grow."""
    engine, lengths, threads = TransformersEngine(tiny_student), set(), set()

    def watch(module, args, named):
        threads.add(current_thread().name)
        if "input_ids" in named:  # the prompt; a step's one token is positional
            lengths.add(named["input_ids"].size(1))

    engine.model.register_forward_pre_hook(watch, with_kwargs=True)
    with ThreadPoolExecutor(8) as people:
        for n in (1, 9, 17, 25):
            replies = engine.stream(as_prompt("word " * n), Sampling(4), n, Event())
            for _ in range(2):
                people.submit(next, replies).result()
            people.submit(list, replies).result()
    assert len(threads) == 1 and next(iter(threads)).startswith("decoder")
    assert len(lengths) <= 2 and all(n % 32 == 0 for n in lengths)


@pytest.mark.slow
def test_a_checkpoint_that_was_published_in_fp32_answers_in_bf16_and_another_one_does_not(student_home, tmp_path):
    """A round and the chat, or two machines, may compute in different types."""
    source = str(student_home / "student")
    randomized(trainable_student(source, None, torch.float32, 1), 0.05).save_pretrained(tmp_path)
    known = {"fingerprint": fingerprint(TransformersEngine(source, tmp_path, torch.float32))}
    published = Checkpoint(2, 1, 1, 1, "promoted", "", "dpo", 1, known, "", None, None)
    check(TransformersEngine(source, tmp_path, torch.bfloat16), published)
    with pytest.raises(WrongWeights):
        check(TransformersEngine(source, None, torch.bfloat16), published)
