"""Which Python is promised is which Python installs, by what the pinned packages say themselves; and `make` says it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PROMISED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
BEFORE = f"3.{int(PROMISED.split('.')[1]) - 1}"
TELLS = """#!/bin/sh
test "$1" = -c || exit 99
exec {python} -c "import sys; sys.version_info = {version}
$2"
"""


def pins() -> list[Requirement]:
    lines = [line for f in ROOT.glob("requirements*.txt") for line in f.read_text().splitlines()]
    return [Requirement(line.partition("#")[0]) for line in lines if re.match(r"\w", line)]


def test_everything_that_is_installed_takes_the_python_that_is_promised_and_not_the_one_before():
    needs = {d.metadata["Name"]: d.metadata["Requires-Python"] or "" for d in distributions()}
    refuse = {at: {n for n, s in needs.items() if not SpecifierSet(s).contains(at)} for at in (PROMISED, BEFORE)}
    assert not refuse[PROMISED]
    pinned = {re.sub(r"[-_.]+", "-", pin.name).lower() for pin in pins()}
    assert {re.sub(r"[-_.]+", "-", n).lower() for n in refuse[BEFORE]} & pinned, f"{BEFORE} could be promised, too"


@pytest.mark.parametrize("pin", pins(), ids=str)
def test_a_pin_is_what_these_tests_run_with_on_every_python_that_is_promised(pin):
    assert pin.marker is None, "one pin for all"
    assert pin.specifier.contains(version(pin.name).partition("+")[0])


def test_readme_ruff_and_make_promise_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["ruff"]["target-version"] == f"py{PROMISED.replace('.', '')}"
    assert f"with Python {PROMISED} or later" in (ROOT / "README.md").read_text()
    assert f"NEEDS = {PROMISED}" in (ROOT / "Makefile").read_text()


@pytest.fixture
def make(tmp_path):
    """`make(ARGUMENTS, name=version...)`: in an empty checkout, on a machine that has these interpreters alone."""
    made, found = tmp_path / "checkout", tmp_path / "bin"
    made.mkdir(), found.mkdir()
    for file in ("Makefile", *(f.name for f in ROOT.glob("requirements*.txt"))):
        shutil.copy(ROOT / file, made)

    def run(*arguments, **interpreters):
        for name, known in interpreters.items():
            path = found / name.replace("_", ".")
            path.write_text(TELLS.format(python=sys.executable, version=known))
            path.chmod(0o755)
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "MAKEFLAGS")} | {"PATH": str(found)}
        command = [shutil.which("make"), *arguments]
        ended = subprocess.run(command, cwd=made, env=environment, capture_output=True, text=True)
        assert not (made / ".venv").exists()
        return ended

    return run


def test_make_says_at_once_which_python_it_needs(make):
    for arguments, python, known in (
        (["run"], "what is called python3 here", {"python3": (3, 10, 14)}),
        (["test"], "what is called python3 here", {"python3": (2, 7, 18), "python": (3, 9, 1)}),
        (["PYTHON=python3", "run"], "python3", {"python3": (3, 10, 14)}),
        (["PYTHON=nowhere/python", "run"], "nowhere/python", {}),
    ):
        ended = make(*arguments, **known)
        assert ended.returncode != 0
        assert f"kdloop needs Python {PROMISED} or later, and {python} is none: install one" in ended.stderr
        assert "venv" not in ended.stdout, "before it creates anything"


@pytest.mark.parametrize(
    ("known", "taken"),
    [
        ({"python3": (3, 12, 1), "python3_13": (3, 13, 0)}, "python3"),
        ({"python3": (3, 10, 14), "python3_12": (3, 12, 1), "python3_11": (3, 11, 7)}, "python3.12"),
        ({"python3": (3, 9, 2), "python3_11": (3, 11, 7)}, "python3.11"),
        ({"python": (3, 13, 0)}, "python"),
    ],
)
def test_make_takes_python3_or_a_newer_one_beside_it(make, known, taken):
    assert f"\n{taken} -m venv .venv\n" in make("-n", "run", **known).stdout
