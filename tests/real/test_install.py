"""Which Python is promised is which Python installs, by what the pinned packages say themselves; and `make` says it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler
from importlib.metadata import distributions, version
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from parts import listening

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


@pytest.mark.parametrize(
    "files", ["-r requirements.txt -r requirements-packs.txt", "--no-deps -r requirements-embedded.txt"]
)
def test_uv_takes_the_same_files_and_finds_nothing_to_add_to_what_pip_installed(files):
    command = f"-m uv pip install --dry-run --offline --no-config --python {sys.executable} {files}"
    told = subprocess.run([sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "Would make no changes" in told.stderr


WITH_PIP = """#!/bin/sh
case "$1" in -m) ;; *) exec {python} "$@" ;; esac
{python} -m venv --without-pip .venv
ln -s {pip} .venv/lib/python*/site-packages/
printf '#!/bin/sh\\nexec "$(dirname "$0")/python" -m pip "$@"\\n' > .venv/bin/pip
chmod +x .venv/bin/pip
"""  # as `python3 -m venv`, in no time


def torch_wheel(folder: Path, version: str) -> None:
    folder.mkdir(parents=True)
    info = f"torch-{version}.dist-info"
    with zipfile.ZipFile(folder / f"torch-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("torch/__init__.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """The address of package indexes: `public` has the build with CUDA, `cpu` the other, and `bare` has no torch that
    fits. `asked` is what was requested of them."""
    root, asked = tmp_path_factory.mktemp("indexes"), []
    pin = next(pin for pin in pins() if pin.name == "torch")
    known = str(pin.specifier).removeprefix("==")
    for name, build in (("public", known), ("cpu", f"{known}+cpu"), ("bare", "0.1+cpu")):
        torch_wheel(root / name / "torch", build)

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *args):
            pass

    with listening(partial(Handler, directory=str(root))) as url:
        yield url, asked, known


@pytest.fixture
def silent():
    """The address of a server that takes a connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def install(place: Path, public: str, system: str, gpu: str, cpu: str) -> tuple[str, subprocess.CompletedProcess]:
    """(version of torch, what make said), on a machine of this system with or without a GPU."""
    found = place / "bin"
    found.mkdir()
    for name in ("sh", "sed", "touch", "ln", "chmod", "dirname"):
        (found / name).symlink_to(shutil.which(name))
    programs = {"uname": f"echo {system}", "nvidia-smi": gpu}
    programs["python3"] = WITH_PIP.format(python=sys.executable, pip=Path(find_spec("pip").origin).parent)
    for name, does in programs.items():
        if does:
            (found / name).write_text(does if does.startswith("#!") else f"#!/bin/sh\n{does}\n")
            (found / name).chmod(0o755)
    shutil.copy(ROOT / "Makefile", place)
    pin = next(line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("torch=="))
    (place / "requirements.txt").write_text(f"# the runtime\n{pin}\n")
    (place / "requirements-embedded.txt").write_text("")
    environment = {"PATH": str(found), "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": public, "PIP_NO_CACHE_DIR": "1"}
    command = [shutil.which("make"), f"TORCH_CPU={cpu}", "install"]
    said = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    [torch] = place.glob(".venv/lib/python3*/site-packages/torch-*.dist-info")
    return torch.name.removeprefix("torch-").removesuffix(".dist-info"), said


def test_without_a_gpu_linux_gets_the_cpu_build(indexes, tmp_path):
    url, _, pin = indexes
    for name, gpu in (("no driver", ""), ("no card", "echo No devices were found; exit 6")):
        place = tmp_path / name
        place.mkdir()
        build, said = install(place, f"{url}/public", "Linux", gpu, f"{url}/cpu")
        assert build == f"{pin}+cpu"
        assert f"kdloop: downloading the CPU build of torch=={pin}" in said.stdout
        assert "CUDA" not in said.stdout and said.stderr == ""


@pytest.mark.parametrize("system, gpu", [("Linux", "echo GPU 0"), ("Darwin", "")])
def test_a_gpu_or_another_system_gets_what_the_package_index_has(indexes, tmp_path, system, gpu):
    url, asked, pin = indexes
    asked.clear()
    build, said = install(tmp_path, f"{url}/public", system, gpu, f"{url}/cpu")
    assert build == pin
    assert asked and not [path for path in asked if path.startswith("/cpu")]
    assert f"kdloop: downloading torch=={pin} as the package index has it" in said.stdout


@pytest.mark.parametrize("cpu", ["{url}/bare", "{url}/nothing", "{silent}", "http://index.invalid/whl/cpu", ""])
def test_without_such_an_index_it_falls_back_and_says_no_error(indexes, silent, tmp_path, cpu):
    url, _, pin = indexes
    build, said = install(tmp_path, f"{url}/public", "Linux", "", cpu.format(url=url, silent=silent))
    assert build == pin
    assert said.stdout.count("as the package index has it") == 1
    assert said.stderr == "" and not re.search(r"(?i)error|fail|warn|traceback|alarm|retry", said.stdout)
