"""Every text of the page exists in every language, and no language has texts that the page lost."""

import ast
import importlib
import string
from pathlib import Path

import pytest

from kdloop import packs, recipes
from kdloop.evaluation import pack_findings
from kdloop.feedback import collect, versions
from kdloop.rounds import needs
from kdloop.rounds.run import CHOOSING_STEP_SIZE
from kdloop.ui import (
    admin,
    choices,
    comparison,
    consent,
    greeting,
    imports,
    keys,
    learning,
    lineage,
    loop,
    models,
    pack_panel,
    page,
    raters,
    round_page,
    rounds,
    session,
    teach,
    trial,
    verdicts,
    words,
)

ROOMS = Path(words.__file__).parents[2]
SPEAKING = sorted(path for room in ("ui", "api") for path in (ROOMS / room).glob("*.py"))
BY_TABLE = {  # texts that are looked up through a table, not written at the call
    *(r.capitalize() for r in collect.REASONS),
    *(label for table in (comparison.VOTES, teach.VOTES) for label in table),
    *(form.title for form in versions.FORMS.values()),
    *imports.COUNTS,
    *imports.COLUMNS,
    *pack_panel.HEADS,
    *pack_panel.FOUND,
    *(text for name, text in vars(pack_findings).items() if name.isupper() and isinstance(text, str)),
    *(text for both in pack_findings.TRICKS.values() for text in both),
    *(packs.load(name).about for name in packs.shipped()),
    *(value for table in (session.PER_MINUTE, session.SET_BY_OWNER) for value in table),
    *consent.PLACES,
    *lineage.STYLES,
    *(f"{side} answer" for side in comparison.SIDES),
    *(word for _, word in page.BUTTONS.values()),
    *page.LINES.values(),
    *greeting.EXAMPLES,
    *verdicts.PARTS,
    *verdicts.SENTENCES,
    "Next duel",
    *teach.CHOSEN.values(),
    *(
        "eliciting",
        "training",
        "gating",
        "held",
        "broken",
        "queued",
        "promoted",
        "rejected",
        "failed",
        "cancelled",
        "on trial",
    ),
    *(text for texts in loop.DOING.values() for text in texts),
    *trial.ENDS.values(),
    *trial.DECIDED_BY.values(),
    *choices.OPTIONS_SAID.values(),
    CHOOSING_STEP_SIZE,
    *rounds.HISTORY,
    *round_page.HEADS,
    *(text for said in round_page.GUARDS.values() for text in said),
    *(recipes.load(name).about for name in recipes.names()),
    recipes.VOTES.about,
    *(text for name, text in vars(needs).items() if name.isupper() and isinstance(text, str)),
    "recipe",
    "what it does",
    "what is missing",
    *rounds.LEFT_OUT,
    *learning.JUDGED,
    *learning.STANDINGS,
    *learning.JUDGES,
    *learning.HOURS,
    *models.COLUMNS,
    *raters.COLUMNS,
    *keys.COLUMNS,
    *admin.AUDIT,
    *admin.SETTINGS,
    *choices.LABELS.values(),
}


def guard_names() -> set[str]:
    trees = [ast.parse(path.read_text()) for path in (ROOMS / "gate").glob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {c.args[0].value for c in calls if isinstance(c.func, ast.Name) and c.func.id == "Guard"}


def test_every_guard_is_explained():
    assert guard_names() == set(round_page.GUARDS)


def texts(node: ast.expr, module) -> set[str]:
    """What the first argument of t, tell or refused can be."""
    if isinstance(node, ast.Constant):
        return {node.value}
    if isinstance(node, ast.IfExp):
        return texts(node.body, module) | texts(node.orelse, module)
    if isinstance(node, ast.Name):
        value = getattr(module, node.id, None)
        return {value} if isinstance(value, str) else set()
    return set()


def used() -> set[str]:
    found = BY_TABLE | guard_names()
    for path in SPEAKING:
        module = importlib.import_module(f"kdloop.{path.parent.name}.{path.stem}".removesuffix(".__init__"))
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("t", "tell", "refused")
            ):
                found |= texts(node.args[0], module)
    return found


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", ["de", "es"])
def test_every_text_is_there_in_every_language(language):
    known = words.LANGUAGES[language]
    assert used() - set(known) == set()
    assert set(known) - used() == set()
    assert [text for text, said in known.items() if fields(text) != fields(said)] == []


def test_labels_are_never_plain_english():
    for path in SPEAKING:
        for node in ast.walk(ast.parse(path.read_text())):
            for keyword in node.keywords if isinstance(node, ast.Call) else ():
                if keyword.arg in ("label", "placeholder", "info", "submit_btn"):
                    assert not (isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str)), (
                        path.name, keyword.value.value,
                    )  # fmt: skip
