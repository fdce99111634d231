"""The form of findings/. No script is run here: each installs packages."""

import os
import re
from pathlib import Path

import pytest

FINDINGS = Path(__file__).parent.parent / "findings"
SCRIPTS = sorted(FINDINGS.glob("*.sh"))
PARTS = ["Packages", "Guess", "What happens", "Seen", "Means"]
OPTIONS = {"install", "--quiet", "--no-compile", "--no-deps"}


def installed(text: str) -> set[str]:
    """NAME==VERSION of each pip line, those that go on after a backslash included."""
    lines = text.replace("\\\n", " ").splitlines()
    calls = [line.split()[1:] for line in lines if line.startswith('"$folder/venv/bin/pip"')]
    return {word for call in calls for word in call} - OPTIONS


def test_readme_lists_each_finding_once():
    listed = re.findall(r"^\| \[`(\w+\.sh)`\]\((\w+\.sh)\) \| .{20,} \|$", (FINDINGS / "README.md").read_text(), re.M)
    assert len(SCRIPTS) >= 12
    assert listed == [(s.name, s.name) for s in SCRIPTS]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_a_finding_has_the_form(script):
    head, _, body = script.read_text().partition("\nset -eu\n")
    assert os.access(script, os.X_OK)
    assert head.startswith("#!/usr/bin/env bash\n# ") and all(line[:1] in ("#", "") for line in head.splitlines())
    assert re.findall(rf"^# ({'|'.join(PARTS)}):", head, re.M) == PARTS
    assert len(re.search(r"^# Seen:\n(.*?)^# Means:", head, re.M | re.S)[1]) > 20
    assert "folder=$(mktemp -d)\ntrap 'rm -rf \"$folder\"' EXIT\n" in body
    assert "sys.exit(" in body and "kdloop" not in body


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_a_finding_names_the_versions_that_it_pins(script):
    head, _, body = script.read_text().partition("\nset -eu\n")
    pins = installed(body)
    told = re.search(r"^# Packages:(.*?); Python", head, re.M | re.S)[1]
    assert pins and all(re.fullmatch(r"[\w.-]+==\d[\w.]*", pin) for pin in pins)
    assert {f"{name}=={version}" for name, version in re.findall(r"([\w-]+) (\d[\w.]*\w)", told)} <= pins
