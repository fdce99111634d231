"""How much memory it takes, predicted by a config and measured: each in a process of its own, whose peak is read."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_gguf import random_student

from kdloop.methods.lora import trainable_student

ROOT = Path(__file__).parents[2]
FACTOR = 1.5  # as the formula's docstring says
SHAPE = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 6, "num_attention_heads": 8}
TOKENS = 128  # of a prompt with its completion, each half of them
MEASURED = """
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event

import torch, trl.trainer.dpo_trainer
from test_methods import completion, example

from kdloop.methods import METHODS
from kdloop.methods.lora import RANK, Plan, trainable_student
from kdloop.student import Sampling, footprint
from kdloop.student.transformers import TransformersEngine
from storage.conversations import as_prompt

def resident(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))

student, kind, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3])
before, dtype = resident("VmRSS"), torch.float32
engine = TransformersEngine(student, dtype=dtype)
shape = footprint.Shape.of(engine.untrained, RANK)

def worded(n):
    empty = len(engine.template.prompt_ids(as_prompt("")))
    return as_prompt(" mill" * (n - empty))

if kind == "serving":
    predicted = footprint.serving(shape, dtype, tokens)
    adapter = Path(sys.argv[4])
    champion = engine.load(adapter)
    list(champion.stream(worded(tokens - 8), Sampling(8), 1, Event()))
    following = engine.load(adapter)  # beside the champion, which still answers
else:
    predicted = footprint.training(shape, dtype, "cpu", tokens)
    engine.complete([worded(tokens // 2)] * 64, Sampling(4), list(range(64)))
    model = trainable_student(student, None, dtype, 1, engine.untrained)
    said = [completion("", f" {word}" * (tokens // 2 - 1)) for word in ("good", "bad")]
    rows = [replace(example(i), prompt=worded(tokens // 2), chosen=said[0], rejected=said[1]) for i in range(4)]
    METHODS["dpo"].train(model, engine.tokenizer, rows, Plan(1, epochs=1, batch=4), lambda *_: None)
    merged = [engine.load_trained(model) for _ in range(2)]
print(resident("VmHWM") - before, int(sum(predicted.values())))
"""


@pytest.fixture(scope="module")
def student(student_home, tmp_path_factory):
    return random_student(
        student_home, "llama", tmp_path_factory.mktemp("mid") / "student", **SHAPE, initializer_range=0.02
    )


@pytest.mark.parametrize(("kind", "tokens"), [("serving", 2048), ("round", TOKENS)])
def test_the_measured_peak_is_near_what_was_predicted(kind, tokens, student, tmp_path):
    adapter = tmp_path / "adapter"
    if kind == "serving":
        trainable_student(str(student), None, torch.float32, seed=1).save_pretrained(adapter)
    paths = [ROOT, ROOT / "tests", ROOT / "tests" / "methods"]
    code = f"import sys; sys.path[:0] = {list(map(str, paths))}\n{MEASURED}"
    command = [sys.executable, "-c", code, str(student), kind, str(tokens), str(adapter)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    measured, predicted = map(int, told.splitlines()[-1].split())
    assert predicted / FACTOR <= measured <= predicted * FACTOR, (kind, measured / 2**20, predicted / 2**20)
