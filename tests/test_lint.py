"""`make lint` is clean, and its type checker finds calls, names, attributes and returns that are wrong."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLANTED = """
import kdloop.student.scoring
from kdloop.chat import turn
from kdloop.feedback import collect
from kdloop.feedback.examples import Example, gone  # attr-defined
from kdloop.settings import Settings
from storage import feedback
from storage.conversations import as_prompt


def wrong(settings: Settings, example: Example, words: list[str]) -> int:
    collect.thumb(settings.db, "person", "id", like=True)  # call-arg
    Example(as_prompt("a"), None, None, "", (), weigth=1.0)  # call-arg
    collect.choose(settings.db, "person", "left", "right")  # call-arg
    feedback.count_votes(settings.db, "person", 3)  # call-arg
    turn.record_all(settings.db)  # attr-defined
    kdloop.student.scoring.NATS  # attr-defined
    print(settings.colour)  # attr-defined
    print(example.chosen.words)  # union-attr
    print(unknown)  # name-defined
    for word in words:
        last = word
    print(last)  # possibly-undefined
    feedback.ai_choices(settings.db, "person", 1).thumb()  # attr-defined
    return "a text"  # return-value


def right(settings: Settings, example: Example) -> str:
    collect.thumb(settings.db, "person", "id", True)
    feedback.count_votes(settings.db)
    return example.chosen.text
"""


def checked(*command, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True)


def test_ruff_is_content():
    for command in (("check",), ("format", "--check")):
        told = checked("ruff", *command, ".", cwd=ROOT)
        assert told.returncode == 0, told.stdout


def test_the_type_checker_finds_planted_faults_and_nothing_else(tmp_path):
    for name in ("kdloop", "storage", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=lambda _, names: {n for n in names if n.endswith(".png")})
    for name in ("app.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "kdloop" / "evaluation" / "planted.py").write_text(PLANTED)
    told = checked("mypy", "--no-pretty", cwd=tmp_path)
    found = re.findall(r"(?m)^(.+?):(\d+): error: .* \[([a-z-]+)\]$", told.stdout)
    marks = [(i, line.partition("  # ")[2]) for i, line in enumerate(PLANTED.splitlines(), 1)]
    planted = {("kdloop/evaluation/planted.py", str(i), kind) for i, kind in marks if kind}
    assert len(planted) > 10
    assert set(found) == planted, told.stdout + told.stderr
