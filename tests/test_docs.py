"""What README, CONTRIBUTING and docs/ name is there: files, links, functions, commands, settings, recipes, fields."""

import ast
import re
import shlex
import tomllib
from collections import Counter
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
from test_structure import MODULES, ORDER, ROOT, imports, layer

from docs import pages
from kdloop import recipes, settings
from kdloop.__main__ import commands
from kdloop.api import endpoints
from kdloop.chat.arena import Standing
from kdloop.feedback import collect, exports
from kdloop.knowledge import KNOWLEDGE
from kdloop.knowledge.curation import SELECTIONS
from kdloop.raters import teachers_file
from kdloop.raters.teachers_file import Teacher
from kdloop.settings import Settings
from storage import checkpoints, conversations, rounds
from storage.conversations import as_prompt
from storage.database import connect

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
KEPT = {DOCS / "log.md"}  # its lines are of their day
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([\w-]+))?\)")
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ (?:\w+=\S+ )*(?:python -m kdloop|kdloop) +((?:.*\\\n)*.*)", re.M)
NAMED = re.compile(r"`([\w/]+\.py)`\s+`([\w.]+)`")
SHOWN_BY = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
STATES = ("present", "partly", "absent")
LEAVES = """Labeling, Expansion, Data curation, Feature, Feedback, Self-knowledge
Supervised fine-tuning, Divergence, Similarity, Reinforcement learning, Rank optimization
Instruction following, Multi-turn dialogue, Retrieval-augmented generation, Thinking pattern, Preference, Value, Tool \
using, Planning, Natural language understanding, Natural language generation, Information retrieval, Recommendation, \
Text-generation evaluation, Code, Multi-modality
Law, Medical and healthcare, Finance, Science, Miscellaneous
Data selection, Lower cost, Several teachers, Richer knowledge than labels, Catastrophic forgetting, \
Trustworthiness, Weak to strong, Self-alignment"""  # of the survey, a branch a line, and what its section 6 leaves open


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: str, language: str) -> list[str]:
    return [code for kind, code in FENCE.findall(text(DOCS / page)) if kind == language]


def rows(page: str) -> list[list[str]]:
    """The cells of every row of the page's tables."""
    return cells(text(DOCS / page))


def cells(markdown: str) -> list[list[str]]:
    lines = re.findall(r"^\| (.*) \|$", markdown, re.M)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]


def anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", text(path), re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_links_lead_somewhere(path):
    for target, anchor in LINK.findall(text(path)):
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), f"{ids(path)} links to {target}"
        assert not anchor or anchor in anchors(there), f"{ids(path)} links to {target}#{anchor}"


@pytest.mark.parametrize("path", [p for p in PAGES if p not in KEPT], ids=ids)
def test_files_that_a_page_names_exist(path):
    names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*.py") if ".venv" not in p.parts]
    for name in re.findall(r"`([\w/]+\.py)`", text(path)):
        assert any(f"/{known}".endswith(f"/{name}") for known in names), f"{ids(path)} names {name}"


@pytest.mark.parametrize("path", [p for p in PAGES if p not in KEPT], ids=ids)
def test_commands_that_a_page_shows_are_understood(path, monkeypatch):
    """By the real parser; of `bench` tables, whose options are their own, the name alone."""
    monkeypatch.chdir(ROOT)
    for line in COMMAND.findall(text(path)):
        words = shlex.split(line.replace("\\\n", " ").split("  #")[0], comments=False)
        if words[0] == "bench":
            words = words[:2]
        assert commands().parse_args(words), line
    targets = re.findall(r"^\$ (?:\w+=\S+ )*make (\w+)", text(path), re.M)
    assert set(targets) <= set(re.findall(r"^(\w+):", text(ROOT / "Makefile"), re.M))


@pytest.mark.parametrize("path", [p for p in PAGES if pages.MARKED.search(text(p))], ids=ids)
def test_written_tables_are_as_the_code_says(path):
    assert text(path) == pages.written(text(path)), "python -m docs.pages"


def test_every_setting_has_its_row_with_variable_and_default():
    found = {row[0]: row for row in rows("settings.md")}
    for name in settings.NAMES:
        variable, flag, default, said, _ = found[f"`{settings.variable(name)}`"]
        assert flag == (f"`{settings.flag(name)}`" if name in settings.SETTABLE else "none"), variable
        assert default == pages.shown(getattr(settings.Settings, name)) and len(said) > 10, variable


def test_every_recipe_has_its_row():
    found = {row[0]: row for row in rows("recipes.md")}
    for recipe in map(recipes.load, recipes.names()):
        row = found[f"`{recipe.name}`"]
        assert row[1] == recipe.about and row[3:5] == [recipe.pack, f"`{recipe.method}`"]
        assert all(f"`{step['source']}`" in row[2] for step in recipe.knowledge)


def test_the_recipe_with_every_field_has_the_defaults_and_the_example_loads(tmp_path):
    every, example = map(tomllib.loads, blocks("recipes.md", "toml"))
    assert every | {"knowledge": ()} == {f.name: f.default for f in fields(recipes.Recipe) if f.name != "name"}
    (comment,) = re.findall(r'^select = ""\s+# (.*)$', text(DOCS / "recipes.md"), re.M)
    assert set(SELECTIONS) == set(re.findall(r"\w+", comment.split(":")[1].split(";")[0])) - {"or"}
    (tmp_path / "mine.toml").write_text(blocks("recipes.md", "toml")[1])
    assert recipes.load(str(tmp_path / "mine.toml")).as_dict() | example == recipes.from_dict(
        {"name": "mine"} | example
    ).as_dict() | {"knowledge": example["knowledge"]}


def test_the_teachers_that_the_page_shows_are_read_and_have_every_field(tmp_path):
    shown = [tomllib.loads(block)["teacher"][0] for block in blocks("teachers.md", "toml")]
    assert set().union(*shown) == {f.name for f in fields(Teacher)}
    defaults = {f.name: f.default for f in fields(Teacher)}
    assert {k: v for k, v in shown[1].items() if k not in ("name", "directory")}.items() <= defaults.items()
    path = tmp_path / "teachers.toml"
    path.write_text("\n".join(blocks("teachers.md", "toml")))
    assert [t.name for t in teachers_file.read(path)] == ["big", "the rest"]


def test_the_page_of_feedback_has_every_channel_and_every_format(db):
    (schema,) = (connection_text(db),)
    channels = set(re.findall(r"'(\w+)'", re.search(r"channel in \(([^)]*)\)", schema)[1]))
    found = rows("feedback.md")
    assert {f"`{name}`" for name in channels - {"ranking"}} <= {row[0] for row in found}  # people give none
    assert [row[0] for row in found if row[0].strip("`") in exports.FORMATS] == [f"`{f}`" for f in exports.FORMATS]


def connection_text(db: Path) -> str:
    with connect(db) as c:
        return " ".join(row[0] or "" for row in c.execute("select sql from sqlite_master"))


def test_an_export_of_dates_is_read_as_the_page_says(db, tmp_path, monkeypatch):
    """By load_dataset they would be times."""
    said, base = ["2024-03-01", "2024-04-12"], checkpoints.serving(db).id
    for i, date in enumerate(said):
        turn = conversations.add_turn(db, conversations.start_conversation(db, "ann"), as_prompt(f"When was {i}?"))
        texts = date, f"No idea {i}."
        sides = [conversations.add_completion(db, turn.id, "student", text=t, checkpoint_id=base) for t in texts]
        collect.choose(db, "ann", *sides, "left")
    exports.export(db, "dpo", tmp_path / "dpo.jsonl")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("feedback.md", "python")
    names: dict = {}
    exec(code, names)
    assert [row["chosen"][0]["content"] for row in names["rows"]] == said


def test_the_page_of_the_api_names_what_metrics_and_leaderboard_give(db):
    """The other endpoints are asked by tests/browser/test_page.py."""
    gives = {row[0]: re.findall(r"`(\w+)`", row[2]) for row in rows("api.md") if row[0].startswith("`/")}
    started = rounds.start_round(db, requested="auto", seed=1, started_by="hand", owner="test")
    rounds.finish_round(db, started.id, "failed", error="a test")
    (ended,) = endpoints.ended_rounds(Settings(home=db.parent))
    assert gives["`/metrics`"] == list(ended)
    assert gives["`/leaderboard`"] == [f.name for f in fields(Standing)]


@cache
def defined(path: Path) -> set[str]:
    """Names of functions, classes and constants of a module, and Class.method."""
    found = set()
    for node in ast.parse(text(path)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            inner = [n for n in node.body if isinstance(n, ast.FunctionDef)] if isinstance(node, ast.ClassDef) else []
            found |= {f"{node.name}.{n.name}" for n in inner}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {t.id for t in targets if isinstance(t, ast.Name)}
    return found


def test_every_step_names_modules_and_functions_that_exist():
    page = text(DOCS / "architecture.md")
    named = NAMED.findall(page)
    assert len(named) > 50
    for module, name in named:
        (path,) = [p for p in (ROOT / module, ROOT / "kdloop" / module) if p.exists()]
        assert name in defined(path), f"docs/architecture.md: {module} has no {name}"


def test_the_survey_has_each_leaf_once_and_names_what_is_there():
    """Functions, entries of METHODS, and tests that are defined; the line under each table counts its rows."""
    _, *parts = text(DOCS / "survey.md").split("\n## ")
    tables = [cells(part)[1:] for part in parts]  # without the head
    for part, table in zip(parts, tables, strict=True):
        count = Counter(here for _, here, *_ in table)
        assert f"\n{', '.join(f'{count[state]} {state}' for state in STATES)}.\n" in part
        assert count.keys() <= set(STATES)
    for what, here, by, shown, _ in (row for table in tables for row in table):
        done, tests = NAMED.findall(by), SHOWN_BY.findall(shown)
        assert (len(done) > 0) == (len(tests) > 0) == (here != "absent"), what
        assert (by == shown == "–") == (here == "absent"), what
        for module, name in done:
            path = ROOT / "kdloop" / module
            assert name in defined(path) or f'    "{name}": ' in text(path), f"{what}: {module} has no {name}"
        assert not [test for path, test in tests if test not in defined(ROOT / path)], what
    names = [row[0] for table in tables for row in table]
    leaves = [found for name in names for found in re.findall(r"\*\*(.*)\*\*", name)]
    assert leaves == re.split(r", |\n", LEAVES) and len(names) == len(set(names)) > 150


def test_the_survey_says_which_sources_no_recipe_uses():
    used = {s["source"] for r in (recipes.VOTES, *map(recipes.load, recipes.names())) for s in r.knowledge}
    (said,) = re.findall(r"^In no recipe that ships.*?\.$", text(DOCS / "survey.md"), re.M | re.DOTALL)
    assert re.findall(r"`(\w+)`", said) == sorted(set(KNOWLEDGE) - used)


@pytest.mark.parametrize("title", ["One vote, from the page to a promoted checkpoint", "A round"])
def test_a_way_is_told_in_a_dozen_steps_each_with_its_functions(title):
    (part,) = re.findall(rf"^## {title}\n(.*?)^## ", text(DOCS / "architecture.md"), re.M | re.DOTALL)
    steps = re.split(r"^\d+\. ", part, flags=re.M)[1:]
    assert 8 <= len(steps) <= 12
    assert all(NAMED.search(step) for step in steps)


def test_each_room_has_a_paragraph_that_says_what_it_imports():
    paragraphs = [" ".join(p.split()) for p in text(DOCS / "architecture.md").split("\n\n")]
    used: dict[str, set[str]] = {room: set() for room in ORDER}
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if room := layer(name):
            used[room] |= set(filter(None, map(layer, imports(path)))) - {room}
    for room in set(ORDER) - {"settings", "__main__"}:
        (paragraph,) = [p for p in paragraphs if p.startswith(f"**`{room}/`**: ")]
        said = paragraph.split("Imports: ")[1]
        assert all(part in paragraph for part in ("In: ", "Out: ")), room
        assert set(re.findall(r"`(\w+)`", said)) == used[room], room


def test_readme_is_one_page_and_leads_to_all_others():
    readme = text(ROOT / "README.md")
    assert len(readme.splitlines()) <= 150
    assert {p.name for p in DOCS.glob("*.md")} <= set(re.findall(r"\(docs/(\w+\.md)\)", readme))
    assert len(text(DOCS / "tabs.md")) > 0 and (DOCS / "screenshots" / "loop.png").stat().st_size < 400_000
