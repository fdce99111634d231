"""A wheel built from what git holds, installed elsewhere: it serves the page and `kdloop doctor` speaks."""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from kdloop.evaluation.bench.app_process import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel's path. Files that git does not hold stay behind: a clean clone has none of them."""
    source, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("wheel")
    held = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(held, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(out), "."]
    subprocess.run(build, cwd=source, check=True)
    return next(out.glob("kdloop-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of programs of a fresh environment. Its dependencies are this environment's: a .pth names them."""
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home, with_pip=False)
    site = next(home.glob("lib/python3*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    target = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*target, "--no-deps", "--no-index", str(wheel)], check=True)
    return home / "bin"


def test_the_wheel_holds_packs_recipes_and_words(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    data = [p for p in ROOT.glob("kdloop/**/*") if p.suffix in (".toml", ".jsonl", ".json")]
    assert len(data) > 20
    assert {str(p.relative_to(ROOT)) for p in data} <= names
    assert [n for n in names if n.endswith(".dist-info/licenses/NOTICE")], "whose data it carries"
    assert not {n for n in names if n.startswith(("tests/", "docs/", "findings/"))}


def test_doctor_runs_where_it_was_installed(installed, student_home, tmp_path):
    said = subprocess.run(
        [installed / "kdloop", "doctor"],
        cwd=tmp_path,
        env=os.environ | {"KDLOOP_HOME": str(student_home), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert "student" in said.stdout and "device" in said.stdout


def test_it_serves_the_page_where_it_was_installed(installed, tiny_student, tmp_path):
    port = free_port()
    settings = {"KDLOOP_HOME": str(tmp_path / "data"), "KDLOOP_PORT": str(port), "KDLOOP_STUDENT": tiny_student}
    app = subprocess.Popen(
        [installed / "kdloop", "serve"],
        cwd=tmp_path,
        env=os.environ | settings | {"KDLOOP_ENGINE": "transformers", "PYTHONPATH": ""},
        stdout=(tmp_path / "log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        for _ in range(240):
            try:
                page = httpx.get(f"http://127.0.0.1:{port}/", timeout=5)
                break
            except httpx.HTTPError:
                assert app.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.5)
        assert "kdloop" in page.text
        assert (tmp_path / "data" / "kdloop.db").exists()
    finally:
        app.terminate()
        assert app.wait(30) == 0
