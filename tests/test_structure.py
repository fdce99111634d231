"""The shape that design and README promise."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted([*ROOT.glob("kdloop/**/*.py"), *ROOT.glob("storage/*.py")])
ORDER = [
    "storage",
    "settings",
    "student",
    "packs",
    "feedback",
    "raters",
    "chat",
    "knowledge",
    "recipes",
    "methods",
    "gate",
    "rounds",
    "evaluation",
    "ui",
    "api",
    "__main__",
]  # a module imports from its left only


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
    return names


def layer(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] == "storage":
        return "storage"
    return parts[1] if parts[0] == "kdloop" and len(parts) > 1 and parts[1] in ORDER else None


def test_the_rooms_are_all_there_is():
    beside = {p.name.removesuffix(".py") for p in (ROOT / "kdloop").iterdir()} - {"__pycache__", "__init__"}
    assert beside == set(ORDER) - {"storage"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    own = layer(name)
    for other in filter(None, map(layer, imports(path))):
        assert own is None or ORDER.index(other) <= ORDER.index(own), f"{name} imports {other}"


def test_no_function_is_longer_than_a_screen():
    of_ours = (
        p
        for top in ("app.py", "kdloop", "storage", "docs", "tests")
        for p in [ROOT / top, *ROOT.glob(f"{top}/**/*.py")]
    )
    nodes = [(path, node) for path in of_ours if path.is_file() for node in ast.walk(ast.parse(path.read_text()))]
    functions = [(p, n) for p, n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert len(functions) > 1000
    long = {f"{p}:{n.lineno} {n.name}" for p, n in functions if n.end_lineno - n.lineno >= 60}
    assert not long


def test_the_readme_is_a_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_sql_stays_in_storage():
    for path in MODULES:
        if "storage" not in path.parts:
            assert not {n for n in imports(path) if n.startswith("sqlite")}, path


@pytest.mark.parametrize(("module", "absent"), [("kdloop.ui", "trl"), ("kdloop.rounds.run", "gradio")])
def test_serving_never_loads_trl_and_the_trainer_never_loads_gradio(module, absent):
    code = f"import sys, {module}; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_architecture_page_names_every_module_and_the_methods_page_every_method():
    from kdloop.methods import METHODS

    page, methods = ((ROOT / "docs" / name).read_text() for name in ("architecture.md", "methods.md"))
    for path in MODULES:
        name = str(path.relative_to(ROOT)).removeprefix("kdloop/").removeprefix("storage/")
        if path.stem != "__init__":
            assert f"| `{name}` |" in page, f"docs/architecture.md lacks {name}"
    for name in METHODS:
        assert f"`{name}`" in methods.split("## At a glance")[1].split("## ")[0]


def test_what_libgomp_reads_is_there_before_pytorch_loads_it():
    told = "import os, sys, kdloop.settings; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    bare = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    child = subprocess.run([sys.executable, "-c", told], env=bare, capture_output=True, text=True, check=True)
    assert child.stdout.split() == ["active", "False"]
