"""docs/packs.md as a newcomer follows it, command by command, and what a measurement says."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from kdloop import packs
from kdloop.__main__ import main
from kdloop.evaluation import measure, pack_list, results_file
from kdloop.feedback import cards
from kdloop.packs import Task
from kdloop.raters import verifiers
from kdloop.settings import Settings
from kdloop.student import Sample
from storage import checkpoints, rounds

PAGE = (Path(__file__).parents[2] / "docs" / "packs.md").read_text(encoding="utf-8")


def commands(title):
    """The lines after `$` of the section's console blocks."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^\$ (.*?)(?:  +#.*)?$", "\n".join(re.findall(r"```console\n(.*?)```", section, re.S)), re.M)


@pytest.fixture
def newcomer(monkeypatch, tmp_path, byte_student):
    """An empty folder, a home, a small student; what runs a line of the page there and gives its code."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("HOME", tmp_path / "home"), ("STUDENT", byte_student), ("ENGINE", "transformers")):
        monkeypatch.setenv(f"KDLOOP_{name}", str(value))

    def run(line):
        if line.startswith("python -m kdloop "):
            return main(shlex.split(line)[3:])
        return subprocess.run(line.replace("python", sys.executable, 1), shell=True).returncode

    return run


def test_a_pack_of_one_s_own_is_made_checked_and_measured_as_the_page_says(newcomer, capsys, tmp_path):
    made, measured = commands("One of your own in ten minutes"), []
    assert [line.split()[3:5] for line in made[1:4]] == [["pack", "new"], ["pack", "check"], ["pack", "measure"]]
    for line in made[:4]:
        assert newcomer(line) == 0, (line, capsys.readouterr())
        measured.append(capsys.readouterr().out)
    assert sum(len(packs.tasks("times", part)) for part in packs.PARTS) == 60
    assert "sound" in measured[2] and "the majority answer" in measured[2]
    assert {one.pack.name: one.shares for one in pack_list.every(Settings.from_environment().db)}["times"] == (0, 0)
    assert "times, 8 held-out prompts: v0 0.000 (0.000 to 0.324), base 0.000 (0.000 to 0.324)" in measured[3]
    assert made[4].startswith("python -m kdloop round --recipe verified@times")
    (tmp_path / "their-pack").mkdir()
    (tmp_path / "their-pack" / "pack.toml").write_text('about = "a"\n')
    lines = [json.loads(line) for line in re.search(r"```json\n(.*?)```", PAGE, re.S)[1].splitlines()]
    (tmp_path / "their-pack" / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for line in commands("Other people's"):
        assert newcomer(line) == 0, (line, capsys.readouterr())
    assert "their-pack (home): train 2, gate 0, heldout 0; licence not said" in capsys.readouterr().out


def test_the_lines_that_the_page_shows_can_be_passed():
    shown = [json.loads(line) for line in re.search(r"```json\n(.*?)```", PAGE, re.S)[1].splitlines()]
    planet, lighthouse = (Task(r["prompt"], r.get("answer", ""), tuple(r["checks"])) for r in shown)
    assert verifiers.passed(planet, "Jupiter") and not verifiers.passed(planet, "A, B or C")
    assert verifiers.passed(lighthouse, "A lighthouse stands by the sea. It shines at night.")
    assert not verifiers.passed(lighthouse, lighthouse.prompt)


def test_a_measurement_has_wilson_s_intervals_and_the_disclaimer(monkeypatch, tmp_path, capsys, newcomer):
    task = Task("What is 2 + 2?", "4", ({"check": "number"},))
    right, wrong = (Sample(text, "finished", 5, 5, 0.0, 0.1) for text in ("4", "5"))
    rows = [(task, right, right)] * 4 + [(task, wrong, right)] * 5 + [(task, wrong, wrong)]
    report = measure.Report("sums", "v1", rows, [-1.0] * 10)
    # by hand: (p + z²/2n ± z sqrt(p q / n + z²/4n²)) / (1 + z²/n), z = 1.96, n = 10
    assert report.accuracy(1) == pytest.approx((0.4, 0.1682, 0.6873), abs=1e-3)
    assert report.accuracy(2) == pytest.approx((0.9, 0.5958, 0.9821), abs=1e-3)
    said = report.as_dict()
    assert said["accuracy"] == {"base": 0.4, "champion": 0.9} and said["difference"] == 0.5
    assert "v1 0.900 (0.596 to 0.982), base 0.400 (0.168 to 0.687), difference +0.500" in measure.table(report)
    results_file.write(report, tmp_path / "results.json")
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["kdloop"] == json.loads(json.dumps(said))
    both = written["results"]["sums"], written["results"]["sums (base)"]
    assert [(r["acc,none"], r["sample_len"]) for r in both] == [(0.9, 10), (0.4, 10)]
    assert both[0]["acc_stderr,none"] == pytest.approx(0.1), "lm-eval's: sqrt(p q / (n - 1))"
    every = {"results", "group_subtasks", "versions", "n-shot", "higher_is_better", "n-samples", "configs", "config"}
    assert every <= set(written) and all(set(written[k]) == set(written["results"]) for k in sorted(every - {"config"}))
    logged = written["samples"]["sums (base)"][4]
    assert (logged["doc"]["prompt"], logged["target"], logged["resps"], logged["acc"]) == (task.prompt, "4", [["5"]], 0)
    newcomer("python -m kdloop pack new law")
    path = packs.place("law").folder / "pack.toml"
    path.write_text(path.read_text().replace('disclaimer = ""', 'disclaimer = "This is no legal advice."'))
    report = measure.Report("law", "v1", rows, [-1.0] * 10)
    assert report.as_dict()["disclaimer"] == "This is no legal advice." and "no legal advice." in measure.table(report)


def test_the_card_of_a_version_has_the_disclaimer_of_what_it_learned(db, newcomer, tmp_path):
    newcomer("python -m kdloop pack new health")
    path = packs.place("health").folder / "pack.toml"
    path.write_text(path.read_text().replace('disclaimer = ""', 'disclaimer = "Ask a doctor."'))
    recipe = {"name": "r", "pack": "health"}
    id = rounds.start_round(db, requested="dpo", seed=1, started_by="test", owner="me", recipe=recipe).id

    def save(directory):
        directory.mkdir(exist_ok=True)
        (directory / "adapter_model.safetensors").write_bytes(b"weights")

    k = checkpoints.publish(db, id, save, parent_id=1, method="dpo", seed=1, metrics={"disclaimer": "Ask a nurse."})
    assert "**Of the pack health:** Ask a doctor." in ModelCard(cards.of_version(db, k, "", "mit")).text
    newcomer("python -m kdloop pack remove health")
    assert "**Of the pack health:** Ask a nurse." in cards.of_version(db, k, "", "mit"), "as when it was learned"
    assert "Of the pack" not in cards.of_version(db, checkpoints.base(db), "", "mit")
