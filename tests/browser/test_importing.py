"""An owner brings ratings that were made elsewhere, on the Admin tab: a dry run, the import, its switch, its end."""

import json

import pytest
from pages import eventually, opened
from playwright.sync_api import expect
from test_visits import open_tab

from storage import imports
from storage.database import connect

pytestmark = pytest.mark.slow
ASKED = [{"role": "user", "content": "How deep is a lake?"}]


def said(text):
    return [{"role": "assistant", "content": text}]


PAIRS = [{"prompt": ASKED, "chosen": said(f"{n} m."), "rejected": said("?")} for n in range(3)]
EMPTY = PAIRS[0] | {"rejected": said(" ")}


def lines(*rows):
    return "\n".join(map(json.dumps, rows)).encode()


def rows(db):
    with connect(db) as c:
        return c.execute("select count(*) from feedback where source = 'import'").fetchone()[0]


def cell(page, *words):
    return page.get_by_role("row").filter(has_text=words[0]).filter(has_text=words[-1]).first


def test_a_file_is_counted_brought_and_taken_out_again(app, browser):
    url, home = app
    db = home / "kdloop.db"
    page, errors = opened(browser.new_context(), url)
    open_tab(page, "Admin")
    page.get_by_role("button", name="Import ratings that were made elsewhere").click()
    file = page.locator("input[type=file][accept*='.parquet']")  # each table has one, too
    upload = {"name": "pairs.jsonl", "mimeType": "application/jsonl"}
    file.set_input_files(upload | {"buffer": lines(*PAIRS, PAIRS[1], EMPTY)})
    for what, n in (("new pairs", "3"), ("twice in the file", "1"), ("a completion without a text", "1")):
        expect(cell(page, what, n)).to_be_visible(timeout=60_000)
    assert rows(db) == 0, "a dry run writes nothing"
    page.get_by_label("Who rated").fill("the lake's friends")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_test_id("toast-body").filter(has_text="3 rows")).to_be_visible(timeout=60_000)
    expect(cell(page, "pairs.jsonl", "TRL, preferences")).to_be_visible(timeout=60_000)
    (one,) = imports.all(db)
    assert (rows(db), one.rows, one.train, one.rater) == (3, 3, True, "the lake's friends")
    idle, gone = lambda: not imports.all(db)[0].train, lambda: rows(db) == 0
    removing = "Remove all its rows…", "Remove the 3 rows of import 1, pairs.jsonl"
    for buttons, done in ((["Train on it, or no more"], idle), (removing, gone)):
        page.get_by_label("Import number").click()
        page.get_by_role("option", name="1: pairs.jsonl").click(timeout=60_000)
        for button in buttons:
            page.get_by_role("button", name=button).click(timeout=60_000)
        eventually(done, 120)
        expect(page.get_by_label("Import number")).to_have_value("", timeout=60_000)
    found = page.get_by_role("row").filter(has_text="TRL, preferences")
    expect(found).to_have_count(1, timeout=60_000)  # the dry run's
    page.locator("#packs .label-wrap").click()
    expect(page.locator("#pack-table")).to_contain_text("passages", timeout=60_000)
    tasks = {"name": "lakes.csv", "mimeType": "text/csv", "buffer": b"question,answer\nHow deep is a lake?,9\n"}
    page.locator("#packs input[type=file]").set_input_files(tasks)
    page.get_by_label("Its name").fill("lakes")
    page.get_by_label("Licence of the tasks").fill("cc0-1.0")
    page.get_by_role("button", name="Install", exact=True).click()
    expect(page.locator("#pack-table")).to_contain_text("Tasks of lakes.csv.", timeout=60_000)
    expect(page.get_by_label("Its name")).to_have_value("", timeout=60_000)
    assert errors == []
