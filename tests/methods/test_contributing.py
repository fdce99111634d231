"""What CONTRIBUTING shows is true: its diff is applied to a copy of the tree, and the new method trains there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEARNS = """
import sys
from test_methods import full, trained
from kdloop.methods.lora import Plan
from kdloop.methods.page import page

seen, _ = trained("slic", sys.argv[1], [full(i) for i in range(4)], Plan(1, epochs=4, learning_rate=1e-2))
assert seen[-1] < seen[0], seen
assert "### `slic`" in page()
"""


def shown() -> tuple[str, list[list[str]]]:
    """(the one file that CONTRIBUTING's diff changes, its hunks)."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    diff = re.search(r"```diff\n--- a/(\S+)\n\+\+\+ b/\1\n(.*?)\n```", text, re.DOTALL)
    return diff[1], [hunk.strip("\n").split("\n") for hunk in re.split(r"^@@ .*@@$", diff[2], flags=re.M) if hunk]


def apply(hunk: list[str], text: str) -> str:
    """By its lines, wherever they are: what else the file holds may change."""
    before, after = ("\n".join(h[1:] for h in hunk if (h or " ")[0] in kinds) for kinds in (" -", " +"))
    assert text.count(before) == 1, f"CONTRIBUTING's diff no longer fits:\n{before}"
    return text.replace(before, after)


def test_a_method_is_added_by_one_file_and_one_entry_as_contributing_shows(tmp_path, tiny_student):
    for part in ("kdloop", "storage", "docs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
    path, hunks = shown()
    text = (tmp_path / path).read_text(encoding="utf-8")
    for hunk in hunks:
        text = apply(hunk, text)
    (tmp_path / path).write_text(text, encoding="utf-8")
    folders = [tmp_path, ROOT / "tests", *ROOT.glob("tests/*/")]
    where = {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-c", LEARNS, tiny_student]
    ended = subprocess.run(command, cwd=tmp_path, env=os.environ | where, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
