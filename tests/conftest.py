import fcntl
import gc
import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import pytest

from kdloop.student.base import find_student
from storage import checkpoints, files
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

SIZES = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: next((i for i, at in enumerate(SLOW) if item.nodeid.startswith(at)), len(SLOW)))


def pytest_runtest_logreport(report):
    """A failure is told when it happens: what CI ends has no summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        why = report.longreprtext.strip().rpartition("\n")[2][:300]
        print(f"\n{report.nodeid} ({report.when}): {why}", flush=True)


@pytest.fixture(scope="module", autouse=True)
def nothing_old_is_collected_again():
    """Trainers end with `gc.collect()`, which takes 0.4 s where all that is imported here is looked through."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def db(tmp_path):
    path = open_database(tmp_path / "kdloop.db")
    checkpoints.ensure_base(path)
    return path


@pytest.fixture
def fp32(monkeypatch):
    """As on a CPU without units for bf16, in which what is computed together is rounded otherwise than what is not."""
    import torch

    for units in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, units, lambda: False)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A function: the directory of that name, made by `make(directory)` once for all workers of pytest-xdist, who
    write nothing into it."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def directory(name, make):
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / name).exists():
                with files.whole(shared / name) as partial:
                    partial.mkdir()
                    make(partial)
        return shared / name

    return directory


@pytest.fixture(scope="session")
def student_home(made_once):
    """A home with the embedded student converted."""
    return made_once("home", lambda home: find_student("", home))


@pytest.fixture(scope="session")
def tiny_student(student_home, made_once):
    """A model directory: two random layers, the student's own chat template, and the first of its vocabulary."""
    sizes = SIZES | {"vocab_size": 11264}  # "yes" and "no" are a token each
    return str(made_once("tiny", lambda to: random_like(student_home / "student", to, 0, sizes)))


def random_like(source, directory, seed, changed):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(source)
    config.update(changed)
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    AutoTokenizer.from_pretrained(source).save_pretrained(directory)
    keep_the_first(config.vocab_size, directory / "tokenizer.json")
    written = json.loads((directory / "config.json").read_text())
    assert changed.items() <= written.items()


def keep_the_first(tokens, file):
    """Of a byte-pair vocabulary whose later tokens are merged of earlier ones: a softmax over all takes most of the
    time of a small model."""
    written = json.loads(file.read_text())
    bpe = written["model"]
    bpe["vocab"] = {token: i for token, i in bpe["vocab"].items() if i < tokens}
    bpe["merges"] = [pair for pair in bpe["merges"] if "".join(pair) in bpe["vocab"]]
    file.write_text(json.dumps(written))


@pytest.fixture(scope="session")
def wide_student(student_home, made_once):
    """As `tiny_student`, over the student's whole vocabulary."""
    return str(made_once("wide", lambda to: random_like(student_home / "student", to, 0, SIZES)))


@pytest.fixture(scope="session")
def byte_student(made_once):
    """A model directory: two random layers over bytes, the smallest that a round can sample from and train. A round of
    it takes a third of what one of `tiny_student` does, whose vocabulary is the student's."""
    return str(made_once("bytes", lambda to: random_over_bytes(to, layers=2, seed=0)))


@pytest.fixture(scope="session")
def byte_teacher(made_once):
    """Another random model of the same vocabulary, one layer deeper."""
    return str(made_once("byte-teacher", lambda to: random_over_bytes(to, layers=3, seed=7)))


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


@pytest.fixture(scope="session")
def tiny_teacher(tiny_student, made_once):
    """Another random model of the same vocabulary, one layer deeper and wider."""
    sizes = {"num_hidden_layers": 3, "hidden_size": 96, "head_dim": 24, "initializer_range": 0.2}
    return str(made_once("teacher", lambda to: random_like(tiny_student, to, 7, sizes)))


@pytest.fixture(scope="session")
def talker(wide_student, made_once):
    """A two-layer student that says "yes" or "no", each about half of the time: a reward has something to choose."""
    return str(made_once("talker", lambda to: taught_to_talk(wide_student, to)))


def taught_to_talk(source, directory):
    import torch
    from test_methods import completion, example
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kdloop.methods.objective import sequence, sequence_logps

    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModelForCausalLM.from_pretrained(source)
    rows = [sequence(tokenizer, example(i).prompt, completion("", word)) for i in range(8) for word in ("yes", "no")]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(45):
        (-sequence_logps(model, rows)[0].mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
