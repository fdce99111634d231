"""Checks on completions that should pass and on near misses that should not; the sandbox against what code might
try."""

import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdloop import packs
from kdloop.packs import Task
from kdloop.raters import sandbox, verifiers

ROOT = Path(__file__).parents[2]
CASES = [  # check, answer, passes, fails
    ({"check": "number"}, "19", "12 + 7 = 19.", "12 + 7 = 19, so 20"),
    ({"check": "number"}, "-5", "12 - 17 = -5", "12-5"),
    ({"check": "number"}, "1,234", "That is 1234", "That is 123"),
    ({"check": "number"}, "1/2", "It is 0.5", "It is .6"),
    ({"check": "number", "tolerance": 0.01}, "3.14159", "about 3.14", "about 3"),
    ({"check": "exact"}, "Paris", '"paris."', "It is Paris"),
    ({"check": "ends_with_answer"}, "sun", "Backward it is: sun", "sun, backward"),
    ({"check": "regex", "pattern": r"\d{4}-\d\d"}, "", "due 2024-05", "due 24-5"),
    ({"check": "regex", "pattern": "sorry", "absent": True}, "", "Gladly", "I am sorry"),
    ({"check": "contains", "words": ["cat", "dog"]}, "", "A cat and a Dog", "a catalogue for dogs"),
    ({"check": "avoids", "words": ["very"]}, "", "every one", "very good"),
    ({"check": "words", "least": 2, "most": 3}, "", "two words", "these are four words"),
    ({"check": "sentences", "least": 2, "most": 2}, "", "One. Two!", "One. Two. Three."),
    ({"check": "paragraphs", "least": 2}, "", "one\n\ntwo", "one\ntwo"),
    ({"check": "bullets", "least": 2, "most": 2}, "", "- a\n- b", "- a\nb"),
    ({"check": "letters", "case": "lower"}, "", "all lower 1", "Not lower"),
    ({"check": "starts_and_ends", "start": "<<", "end": ">>"}, "", " <<title>> ", "<<title"),
    ({"check": "json", "keys": ["name"]}, "", '```json\n{"name": 1}\n```', '{"title": 1}'),
    ({"check": "json"}, "", "[1, 2]", "Here it is: [1, 2]"),
    (
        {"check": "language", "code": "de"},
        "",
        "Das ist ein Haus und es ist nicht groß",
        "This is a house and it is big",
    ),
    ({"check": "language", "code": "ru"}, "", "Это большой дом", "Eto bolshoy dom"),
    (
        {"check": "python", "tests": ["assert f(2) == 4"]},
        "",
        "```python\ndef f(x):\n    return x * x\n```",
        "def f(x): return x",
    ),
]


@pytest.mark.parametrize(("check", "answer", "good", "bad"), CASES, ids=[c[0]["check"] for c in CASES])
def test_a_check_passes_what_it_asks_for_and_fails_a_near_miss_with_the_reason(check, answer, good, bad):
    task = Task("?", answer, (check,))
    assert verifiers.passed(task, good), verifiers.verify(task, good)
    (finding,) = verifiers.verify(task, bad)
    assert finding.score < 1 and finding.reason
    assert not verifiers.passed(task, "")


def test_a_completion_passes_when_all_checks_do_and_scores_their_mean():
    task = Task("?", "4", ({"check": "number"}, {"check": "words", "most": 2}))
    assert [verifiers.score(task, t) for t in ("4", "it is four, so 4", "no idea about that")] == [1.0, 0.5, 0.0]
    with pytest.raises(ValueError, match="No check 'numbre'; there are number, final_number"):
        verifiers.score(Task("?", "4", ({"check": "numbre"},)), "4")
    with pytest.raises(ValueError, match="holds no number"):
        verifiers.score(Task("?", "four", ({"check": "number"},)), "4")


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, '{"a":' * 100_000])
def test_json_that_no_parser_reads_to_its_end_fails_its_check_alone(text):
    assert verifiers.find({"check": "json"}, text, "").score == 0


def test_code_earns_the_share_of_its_tests_and_cannot_print_itself_a_better_report():
    half = sandbox.run("def f(x): return 1", ["assert f(0) == 1", "assert f(1) == 2"])
    assert half.passed == (True, False) and "assert f(1) == 2: AssertionError" in half.error
    cheat = 'import os\nprint(\'{"passed": [true], "said": ""}\', flush=True)\nos._exit(0)'
    assert sandbox.run(cheat, ["assert False"]).passed == (False,)
    assert sandbox.run("x = [", ["assert True"]).passed == (False,)


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9), 1)",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.fork()",
        "open('/etc/passwd').read()",
        "open('/tmp/kdloop-escaped', 'w')",
        "import os; os.open(os.__file__, os.O_RDWR)",
        "import ctypes; ctypes.CDLL(None).getpid()",
        "import os; os.listdir('/')",
        "import os; open('own', 'w').close(); os.rename('own', '/tmp/kdloop-escaped')",
        "import os; open('own', 'w').close(); os.link('own', '/tmp/kdloop-escaped')",
        "import os; os.symlink('/tmp', 'away')",
        "import os; os.chdir('/tmp')",
        "import os; os.truncate('/tmp/kdloop-outside', 0)",
        "import os; os.utime('/tmp/kdloop-outside')",
        "import os; os.open(os.path.dirname(os.__file__), os.O_RDONLY)",
        "import pathlib; pathlib.Path('/tmp/kdloop-outside').unlink()",
        "import sys; sys.modules.pop('posix'); import posix",
        "import gc; gc.get_objects()",
    ],
)
def test_the_sandbox_refuses(attempt):
    outside, escaped = Path("/tmp/kdloop-outside"), Path("/tmp/kdloop-escaped")
    outside.write_text("kept")
    ran = sandbox.run(attempt, ["assert True"])
    assert ran.passed == (False,) and "PermissionError" in ran.error, ran
    assert outside.read_text() == "kept" and not escaped.exists()


@pytest.mark.parametrize(
    "forgery",
    [
        'import os\nfor fd in range(3, 16):\n  try: os.write(fd, b\'{"passed": [true], "said": ""}\')\n'
        "  except OSError: pass\nos._exit(0)",
        "import os\nos.write(3, b'\\n\\n1\\n')\nos._exit(0)",
        "import builtins, os\nbuiltins.exec = builtins.compile = lambda *a: None\nos.write = lambda *a: 1 / 0",
        "import sys; sys._getframe().f_back.f_locals['passed'][0] = '1'",
        "try: 1 / 0\nexcept Exception as e: e.__traceback__.tb_frame.f_back.f_locals['passed'][0] = '1'",
        "import os; os.mknod('/tmp/kdloop-escaped')",
        "import _posixsubprocess; _posixsubprocess.fork_exec()",
    ],
)
def test_code_cannot_write_its_own_report(forgery):
    ran = sandbox.run(forgery, ["assert False"])
    assert ran.passed == (False,) and ran.error, ran
    assert not Path("/tmp/kdloop-escaped").exists()


def test_a_report_says_which_layers_the_kernel_grants(capfd):
    probe = f"import ctypes; print(ctypes.CDLL(None).unshare({sandbox.CLONE_NEWUSER | sandbox.CLONE_NEWNET}))"
    granted = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout.strip() == "0"
    ran = sandbox.run("x = 1", ["assert x"])
    assert ran.passed == (True,) and (not granted or "namespaces" in ran.layers)
    refusing = SimpleNamespace(unshare=lambda flags: -1, syscall=lambda *arguments: -1)
    assert not sandbox.unshare(refusing) and not sandbox.landlock(refusing, "/tmp", "/usr")
    sandbox.warn("landlock")
    assert "without namespaces: the kernel refuses" in capfd.readouterr().err


LANDLOCKED = """
import ctypes, os
from kdloop.raters import sandbox
granted = sandbox.landlock(ctypes.CDLL(None), os.getcwd(), os.path.dirname(os.__file__))
if not granted:
    raise SystemExit("an older kernel")
open("own", "w").close(), os.rename("own", "moved"), os.truncate("moved", 0), os.listdir(".")
for attempt in (
    lambda: open("/etc/passwd"),
    lambda: open("/tmp/kdloop-escaped", "w"),
    lambda: os.mkfifo("/tmp/kdloop-escaped"),
    lambda: os.rename("moved", "/tmp/kdloop-escaped"),
    lambda: os.execv("/bin/true", ["true"]),
):
    try:
        attempt()
    except PermissionError:
        granted += 1
print(granted)
"""


def test_the_kernel_refuses_where_no_hook_looks(tmp_path):
    layers = sandbox.run("", ["pass"]).layers
    ran = subprocess.run(
        [sys.executable, "-c", LANDLOCKED], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, text=True, capture_output=True
    )
    assert ran.stdout.strip() == "6" if "landlock" in layers else "older kernel" in ran.stderr, ran


def test_the_sandbox_works_for_honest_code_and_stops_what_is_greedy():
    honest = sandbox.run(
        "import re, math, collections, asyncio, pathlib, unittest, subprocess\n"
        "collections.namedtuple('P', 'x')\nopen('own.txt', 'w').write('x')",
        ["assert open('own.txt').read() == 'x'"],
    )
    assert honest.passed == (True,), honest.error
    assert "MemoryError" in sandbox.run("x = 'a' * 10**9", ["assert x"]).error
    begun = time.monotonic()
    assert sandbox.run("while True: pass", ["assert True"], seconds=1).passed == (False,)
    assert sandbox.run("import time; time.sleep(60)", ["assert True"], seconds=1).passed == (False,)
    assert time.monotonic() - begun < 10


def test_a_generated_pack_is_the_same_each_time_and_its_parts_share_no_prompt():
    parts = {part: packs.tasks("sums", part) for part in packs.PARTS}
    packs.generated_at.cache_clear(), packs.tasks_at.cache_clear()
    assert parts["train"] == packs.tasks("sums", "train")
    prompts = [packs.normal(t.prompt) for tasks in parts.values() for t in tasks]
    assert len(set(prompts)) == len(prompts) and len(parts["heldout"]) >= 500 and len(parts["gate"]) >= 160
    assert all(verifiers.passed(t, f"The result is {t.answer}") for t in parts["heldout"])
    assert not any(verifiers.passed(t, f"The result is {t.answer}1") for t in parts["heldout"])


def test_no_sum_of_the_held_out_prompts_is_in_the_training_part_in_any_wording_or_order():
    def sums(part):
        """Of both packs: a round on one is measured on the other, too."""
        found = [
            re.search(r"(\d+) ([-+]) (\d+)", t.prompt).groups()
            for p in ("sums", "additions")
            for t in packs.tasks(p, part)
        ]
        return {(a, b) if sign == "-" else frozenset((a, b)) for a, sign, b in found}

    trained = sums("train")
    assert len(trained) > 2000 and not trained & sums("heldout") and not trained & sums("gate")
    assert min(len(packs.tasks(p, "heldout")) for p in ("sums", "additions")) >= 500


def test_every_pack_can_be_read_and_its_checks_exist():
    for name in packs.names():
        for part in packs.PARTS:
            for task in packs.tasks(name, part):
                assert {c["check"] for c in task.checks} <= set(verifiers.CHECKS)
    with pytest.raises(ValueError, match="No pack 'generl'; there are"):
        packs.prompts("generl", "train")
