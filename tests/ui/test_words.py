"""Every text of the page exists in every language, and no language has texts that the page lost."""

import ast
import importlib
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import gradio as gr
import pytest
from gradio.context import LocalContext
from test_verdicts import ENGLISH

from kdloop import packs, recipes
from kdloop.evaluation import pack_findings
from kdloop.feedback import collect, versions
from kdloop.feedback.imports import DROPPED, KNOWN, NEW, TWICE, battles, reading
from kdloop.feedback.imports import fields as of_imports
from kdloop.feedback.readiness import SILENT
from kdloop.raters.features import SURFACE
from kdloop.rounds import needs
from kdloop.rounds.selection import TOO_LONG
from kdloop.rounds.training import CHOOSING_STEP_SIZE
from kdloop.ui import (
    admin,
    before_after,
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
    refusals,
    round_page,
    rounds,
    session,
    teach,
    trial,
    verdicts,
    words,
)
from kdloop.ui.session import SIGNED_OUT

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
    *refusals.ALL,
    *SURFACE,
    *("Next duel", before_after.NEXT, *before_after.SIDES),
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
    *(NEW, DROPPED),
    *imports.BROUGHT,
    *imports.LEFT_OUT,
    *learning.JUDGED,
    *learning.STANDINGS,
    *learning.JUDGES,
    *learning.HOURS,
    *models.COLUMNS,
    *raters.COLUMNS,
    *raters.FROM,
    *keys.COLUMNS,
    *admin.AUDIT,
    *admin.SETTINGS,
    *choices.LABELS.values(),
}


REASONS = {  # classes whose texts the page shows, wherever they are raised
    *("CannotDecide", "NothingToLearn", "Refused", "PromptTooLong", "UnknownRow"),
    *("RoundRunning", "TrialRunning", "BrokenCheckpoint", "OtherStudent", "WrongWeights"),
}
REFUSING = {  # modules whose ValueErrors it shows, and of which functions, if not of all
    **dict.fromkeys(("kdloop/feedback/collect.py", "kdloop/rounds/supervisor.py", "storage/keys.py")),
    "kdloop/evaluation/pack_remove.py": None,
    **dict.fromkeys(("storage/people.py", *(str(p.relative_to(ROOMS.parent)) for p in (ROOMS / "chat").glob("*.py")))),
    "kdloop/settings.py": ("change", "validate"),
}
WRITTEN_ELSEWHERE = {"Refused(why)", "NothingToLearn(why)", "NothingToLearn(f'{method} {missing}')"}  # test_verdicts.py


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


@cache
def trees() -> dict[str, ast.Module]:
    """Module -> its code, of all that is in kdloop/ and storage/."""
    paths = (*ROOMS.rglob("*.py"), *(ROOMS.parent / "storage").glob("*.py"))
    return {str(path.relative_to(ROOMS.parent)): ast.parse(path.read_text()) for path in paths}


@cache
def raised() -> frozenset[str]:
    """What the page may have to show of refusals, with 7 for each of their fields."""
    return frozenset(text for place, tree in trees().items() for text in raised_in(place, tree))


def raised_in(place: str, tree: ast.Module) -> Iterator[str]:
    for function in (f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)):
        among = REASONS | ({"ValueError"} if place in REFUSING and asked(function, REFUSING[place]) else set())
        for error in (n.exc for n in ast.walk(function) if isinstance(n, ast.Raise)):
            if not (isinstance(error, ast.Call) and isinstance(error.func, ast.Name) and error.func.id in among):
                continue
            if f"{error.func.id}({ast.unparse(error.args[0])})" not in WRITTEN_ELSEWHERE:
                yield filled(error.args[0])


def asked(function: ast.FunctionDef, among: tuple[str, ...] | None) -> bool:
    return among is None or function.name in among


def filled(text: ast.expr) -> str:
    assert isinstance(text, ast.Constant | ast.JoinedStr), f"{ast.unparse(text)}: where are its words?"
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in parts)


@pytest.mark.parametrize("language", ["de", "es"])
def test_every_refusal_that_code_can_raise_has_words(language):
    token = LocalContext.request.set(gr.Request(headers={"accept-language": language}))
    assert len(raised()) > 70
    assert [text for text in raised() if ENGLISH.search(verdicts.in_words(text))] == []
    LocalContext.request.reset(token)


def mistakes() -> Iterator[str]:
    """What an import can find wrong with a file, with 7 for each of its fields. A dataset_info.json is no single file:
    the command alone reads it, in English."""
    named = vars(reading) | vars(of_imports)
    for place in (p for p in trees() if p.startswith("kdloop/feedback/imports/") and "llama_factory" not in p):
        errors = [n for n in ast.walk(trees()[place]) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
        for error in (e for e in errors if e.func.id in ("Unreadable", "Wrong", "BadJson")):
            (said,) = error.args[:1]
            for one in (said.body, said.orelse) if isinstance(said, ast.IfExp) else (said,):
                text = named[one.id] if isinstance(one, ast.Name) else filled(one)
                yield text if error.func.id == "Unreadable" else f"7.json, line 7: {text}"


@pytest.mark.parametrize("language", ["de", "es"])
def test_every_mistake_in_a_file_to_import_has_words(language):
    """But for what json, gzip and pyarrow say of it, and a mistake that another error hands on."""
    token = LocalContext.request.set(gr.Request(headers={"accept-language": language}))
    said = [text for text in mistakes() if not text.endswith(": 7")]
    assert len(said) > 35
    assert [text for text in said if ENGLISH.search(verdicts.in_words(text)) or not verdicts.known(text)] == []
    kinds = {verdicts.in_words(of_imports.kind(one)) for one in ({}, [], "", True, 1)}
    assert len(kinds) == 5 and not any(ENGLISH.search(one) or one.startswith("a ") for one in kinds)
    LocalContext.request.reset(token)


def test_every_reason_to_leave_a_vote_out_has_words():
    tree = ast.parse((ROOMS / "feedback" / "examples.py").read_text())
    (function,) = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "reason_to_drop")
    said = [n.value for n in ast.walk(function) if isinstance(n, ast.Return)]
    said += [n.slice for n in ast.walk(tree) if isinstance(n, ast.Subscript) and ast.unparse(n.value) == "dropped"]
    counters = [n.args for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "Counter"]
    said += [key for args in counters if args and isinstance(args[0], ast.Dict) for key in args[0].keys]
    reasons = {n.value for n in said if isinstance(n, ast.Constant) and n.value} | {TOO_LONG, SILENT}
    assert len(reasons) > 10 and reasons <= set(rounds.LEFT_OUT)


def test_every_reason_to_leave_a_row_of_an_import_out_has_words():
    named = vars(of_imports) | vars(battles)
    tree = [n for place, t in trees().items() if place.startswith("kdloop/feedback/imports/") for n in ast.walk(t)]
    reasons = [n.args[0] for n in tree if isinstance(n, ast.Call) and ast.unparse(n.func) == "Dropped"]
    told = {r.value if isinstance(r, ast.Constant) else named[ast.unparse(r).rpartition(".")[2]] for r in reasons}
    assert told | {TWICE, KNOWN} == set(imports.LEFT_OUT) and len(told) > 12


def test_every_deed_of_owners_has_words():
    assert [deed for deed in deeds() if not verdicts.known(deed)] == [] and len(set(deeds())) > 20


def deeds() -> Iterator[str]:
    """Of owners, as the log of what they did has them."""
    for place, tree in trees().items():
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call) and len(n.args) == 4):
            if place != "storage/audit.py" and ast.unparse(call.func) in ("audit.record", "audit.note", "note"):
                deed = call.args[2]
                for text in (deed.body, deed.orelse) if isinstance(deed, ast.IfExp) else (deed,):
                    yield SIGNED_OUT if ast.unparse(text) == "SIGNED_OUT" else filled(text)
