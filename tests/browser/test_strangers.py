"""What visitors may not do: every endpoint with junk and forged data, hostile text everywhere, the owner's deeds."""

import json

import httpx
import pytest
from pages import HOSTILE, PRIVATE, eventually, opened, send
from playwright.sync_api import expect
from test_visits import open_tab

from storage import audit, feedback, people
from storage.database import connect

pytestmark = pytest.mark.slow
FORGED = {"person": "eve", "owner": "me", "conversation": "x", "duel": ["a", "b"], "teach": ["a", False]}
JUNK = {"text": HOSTILE, "nothing": None, "wrong types": {"a": [1e308]}, "negative": -1, "forged": FORGED}
BEFORE = (354_051, 127, 114)  # bytes of /config, events, and those that ask the app, at fb4cb3e (docs/log.md)
EVENT = {"index": 0, "value": "x", "liked": True, "selected": True, "previous_value": "y"}


def contents(db):
    """Every row of every table."""
    with connect(db) as c:
        tables = [r[0] for r in c.execute("select name from sqlite_master where type = 'table'")]
        return {t: [tuple(r) for r in c.execute(f"select * from {t}")] for t in tables}


def call(http, dependency, data, session):
    """What an endpoint answers to somebody who never opened the page."""
    body = {"data": data, "fn_index": dependency["id"], "session_hash": session, "event_data": EVENT}
    body["trigger_id"] = next((id for id, _ in dependency["targets"]), None)
    joined = http.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return {"success": False, "output": {"error": joined.text}}
    with http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as lines:
        for line in lines.iter_lines():
            message = json.loads(line[5:]) if line.startswith("data:") else {}
            if message.get("msg") in ("process_completed", "close_stream", "unexpected_error"):
                return message
    raise AssertionError("no answer")


def test_no_endpoint_does_anything_for_strangers(public_app):
    url, home = public_app
    before = contents(home / "kdloop.db")
    with httpx.Client(base_url=url, timeout=30) as http:
        dependencies = [d for d in http.get("/config").json()["dependencies"] if d["backend_fn"]]
        assert len(dependencies) > 40
        for d in dependencies:
            for name, junk in JUNK.items():
                data = ["" if d["api_name"] == "chat" else junk for _ in d["inputs"]]
                answer = call(http, d, data, f"stranger {d['id']}")
                assert PRIVATE not in json.dumps(answer), (d["api_name"], name)
            for path in ("run", "call"):
                assert PRIVATE not in http.post(f"/gradio_api/{path}/{d['api_name']}", json={"data": data}).text
        assert http.get("/healthz").json() == {"ok": True}
        for path in ("kdloop.db", "secret", "app.log"):
            assert http.get(f"/gradio_api/file={home / path}").status_code in (403, 404)
    assert contents(home / "kdloop.db") == before


def test_the_page_weighs_hardly_more_than_before_it_was_made_anew(public_app):
    config = httpx.get(f"{public_app[0]}/config", timeout=30).content
    events = json.loads(config)["dependencies"]
    weight = len(config), len(events), sum(bool(e["backend_fn"]) for e in events)
    assert all(now <= 1.2 * before for now, before in zip(weight, BEFORE, strict=True)), weight


def test_hostile_text_is_shown_and_never_run(public_app, browser):
    url, home = public_app
    page, errors = opened(browser.new_context(), url)
    for tab in ("Arena", "Teach", "Learning", "Rounds", "Models", "Admin"):
        open_tab(page, tab)
        page.wait_for_timeout(500)
    page.get_by_label("Admin token").fill("open sesame")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("People whose votes stand")).to_be_visible(timeout=60_000)
    open_tab(page, "Teach")
    expect(page.locator("#lesson-first .kd-text")).to_contain_text(HOSTILE, timeout=60_000)
    open_tab(page, "Chat")
    send(page, HOSTILE)
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Rate or improve the last answer").click()
    page.get_by_label("In your words").fill(HOSTILE)
    page.get_by_label("A better answer", exact=True).fill(HOSTILE)
    page.get_by_role("button", name="Save", exact=True).click()
    eventually(lambda: HOSTILE in [f for _, f in texts(home / "kdloop.db")])
    page.get_by_role("button", name="Toggle Sidebar").click()
    page.wait_for_timeout(1000)
    assert page.evaluate("window.hacked") is None
    assert [e for e in errors if "hacked" in e] == []


def texts(db):
    with connect(db) as c:
        return [tuple(r) for r in c.execute("select author, text from completions")]


def test_the_owner_signs_in_blocks_erases_and_it_is_written_down(public_app, browser):
    url, home = public_app
    db = home / "kdloop.db"
    page, _ = opened(browser.new_context(), url)
    open_tab(page, "Rounds")
    expect(page.get_by_role("link", name="sign in on the Admin tab")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="Start a round now")).to_be_hidden()
    page.get_by_role("link", name="sign in on the Admin tab").click()
    page.get_by_label("Admin token").fill("guess")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_test_id("toast-body").last).to_contain_text("Wrong admin token", timeout=60_000)
    page.get_by_label("Admin token").fill("open sesame")
    page.get_by_label("Admin token").press("Enter")
    expect(page.get_by_label("Admin token")).to_be_hidden(timeout=60_000)
    page.reload()
    expect(page.locator("#header")).to_contain_text("v0", timeout=60_000)
    open_tab(page, "Admin")
    page.get_by_role("combobox", name="Person").click(timeout=60_000)
    page.get_by_role("option", name="eve").click()
    page.get_by_label("number input for Weight of their word (0 blocks)").fill("0")
    page.get_by_role("button", name="Set the weight").click()
    eventually(lambda: [r.weight for r in people.raters(db) if r.person == "eve"] == [0])
    assert [f for f in feedback.live_feedback(db) if f.rater == "eve"] == []
    page.get_by_role("combobox", name="Person").click()
    page.get_by_role("option", name="eve").click()
    page.get_by_role("button", name="Erase this person").click()
    page.get_by_role("button", name="Cancel", exact=True).click()
    assert any(people.everything(db, "eve").values())
    page.get_by_role("button", name="Erase this person").click()
    page.get_by_role("button", name="Delete for good what eve wrote: 1 conversations, 1 messages, 1 votes").click()
    eventually(lambda: not any(people.everything(db, "eve").values()))
    deeds = ["erased a person's data", "set a rater's weight to 0", "signed in"]
    eventually(lambda: [did for _, _, did, _ in audit.entries(db)][:3] == deeds)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("People whose votes stand")).to_be_hidden(timeout=60_000)
    page.reload()
    expect(page.locator("#header")).to_contain_text("v0", timeout=60_000)
    open_tab(page, "Rounds")
    expect(page.get_by_role("link", name="sign in on the Admin tab")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="Start a round now")).to_be_hidden()
