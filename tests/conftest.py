import fcntl
import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import pytest

from kdloop.student.base import find_student
from storage import checkpoints
from storage.database import open_database

SLOW = (  # a folder or a file each, minutes first: `make test` begins with them, and no worker waits for one at the end
    "tests/browser/",
    "tests/loop/",
    "tests/methods/",
    "tests/evaluation/",
    "tests/student/",
    "tests/rounds/",
    "tests/raters/",
    "tests/real/",
    "tests/recipes/",
    "tests/knowledge/",
    "tests/test_",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: next((i for i, at in enumerate(SLOW) if item.nodeid.startswith(at)), len(SLOW)))


@pytest.fixture
def db(tmp_path):
    path = open_database(tmp_path / "kdloop.db")
    checkpoints.ensure_base(path)
    return path


@pytest.fixture(scope="session")
def student_home(tmp_path_factory):
    """A home with the embedded student converted once, for all workers of pytest-xdist: nobody writes to it."""
    own = tmp_path_factory.getbasetemp()
    home = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "home"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        find_student("", home)
    return home


@pytest.fixture(scope="session")
def tiny_student(student_home, tmp_path_factory):
    """A model directory: two random layers, the student's own tokenizer and chat template."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    directory = tmp_path_factory.mktemp("tiny")
    config = AutoConfig.from_pretrained(student_home / "student")
    config.update({"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128})
    config.update({"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    AutoTokenizer.from_pretrained(student_home / "student").save_pretrained(directory)
    assert json.loads((directory / "config.json").read_text())["num_hidden_layers"] == 2
    return str(directory)


@pytest.fixture(scope="session")
def byte_student(tmp_path_factory):
    """A model directory: two random layers over bytes, the smallest that a round can sample from and train. A round of
    it takes a third of what one of `tiny_student` does, whose vocabulary is the student's."""
    return random_over_bytes(tmp_path_factory.mktemp("bytes"), layers=2, seed=0)


@pytest.fixture(scope="session")
def byte_teacher(tmp_path_factory):
    """Another random model of the same vocabulary, one layer deeper."""
    return random_over_bytes(tmp_path_factory.mktemp("byte-teacher"), layers=3, seed=7)


def random_over_bytes(directory, layers, seed):
    import torch
    from families import TEMPLATES, byte_level
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_level(TEMPLATES["qwen2_5"])
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": layers, "num_attention_heads": 2}
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **ids)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="session")
def tiny_teacher(tiny_student, tmp_path_factory):
    """Another random model of the same vocabulary, one layer deeper and wider."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    directory = tmp_path_factory.mktemp("teacher")
    config = AutoConfig.from_pretrained(tiny_student)
    config.update({"num_hidden_layers": 3, "hidden_size": 96, "head_dim": 24, "initializer_range": 0.2})
    torch.manual_seed(7)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    AutoTokenizer.from_pretrained(tiny_student).save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="session")
def talker(tiny_student, tmp_path_factory):
    """A two-layer student that says "yes" or "no", each about half of the time: a reward has something to choose."""
    import torch
    from test_methods import completion, example
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kdloop.methods.objective import sequence, sequence_logps

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
