"""The real app in headless Chromium: chat, vote, take it back, correct, and look at the rounds."""

import re

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from pages import ROOT, ask, editor, eventually, opened, send
from playwright.sync_api import expect

from storage import feedback

pytestmark = pytest.mark.slow


def test_chat_vote_undo_and_correct(app, browser):
    url, home = app
    db = home / "kdloop.db"
    page, errors = opened(browser.new_context(), url)
    send(page, "Hello, who are you?")
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
    expect(page.get_by_test_id("bot").last).not_to_have_text("…")
    expect(page.locator("#authors")).to_have_text("answer 1: student v0 (cut at its length: ask it to go on)")

    page.get_by_role("button", name="Like", exact=True).last.click()
    eventually(lambda: [bool(f.chosen_id) for f in feedback.live_feedback(db)] == [True])
    page.get_by_role("button", name="Liked", exact=True).last.click()
    eventually(lambda: feedback.live_feedback(db) == [])
    expect(page.get_by_role("button", name="Like", exact=True)).to_be_visible(timeout=60_000)

    editor(page, page.get_by_role("button", name="Edit").last).fill("I am a small student. Ask me something.")
    page.get_by_role("log").get_by_role("button", name="Save").click()
    eventually(lambda: [f.channel for f in feedback.live_feedback(db)] == ["edit"])

    page.get_by_role("tab", name="Rounds").click()
    expect(page.locator("#live")).to_contain_text("next one: 1", timeout=60_000)
    assert errors == []


def test_retry_compare_rate_and_come_back_to_it(app, browser):
    url, home = app
    context = browser.new_context()
    page = ask(context, url, "Name a fruit.")
    db, before = home / "kdloop.db", len(feedback.live_feedback(home / "kdloop.db"))
    page.get_by_role("button", name="Retry").last.click()
    page.get_by_role("button", name="The second is better").click(timeout=60_000)
    eventually(lambda: [f.channel for f in feedback.live_feedback(db)][before:] == ["choice"])

    page.get_by_role("button", name="Rate or improve the last answer").click()
    page.get_by_role("radio", name="★★★★☆").check()
    page.get_by_role("checkbox", name="Too long").check()
    page.get_by_label("A better answer").fill("Apple.")
    page.get_by_role("button", name="Save").click()
    eventually(lambda: {f.channel for f in feedback.live_feedback(db)[before:]} >= {"stars", "critique", "edit"})
    page.get_by_role("button", name="Undo", exact=True).click()
    eventually(lambda: len(feedback.live_feedback(db)) == before)

    page.get_by_role("button", name="Like", exact=True).last.click()
    eventually(lambda: len(feedback.live_feedback(db)) == before + 1)
    page.reload()
    expect(page.locator("#header")).to_contain_text("student v0", timeout=60_000)
    expect(page.get_by_test_id("user").last).to_contain_text("Name a fruit.", timeout=60_000)
    expect(page.get_by_role("button", name="Liked", exact=True)).to_be_visible(timeout=60_000)


def test_a_duel_is_blind_until_the_vote(app, browser):
    url, home = app
    db = home / "kdloop.db"
    page = browser.new_page()
    page.goto(url)
    expect(page.locator("#header")).to_contain_text("student v0", timeout=60_000)
    page.get_by_role("tab", name="Arena").click()
    page.get_by_role("textbox", name="Prompt").fill("Say something kind.")
    page.get_by_role("button", name="Duel").click()
    expect(page.locator("#duel-about")).to_contain_text("which answer is better?", timeout=60_000)
    assert "v0" not in page.locator("#duel-about").inner_text()
    before = len(feedback.live_feedback(db))
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#duel-about")).to_contain_text("The first was v0", timeout=60_000)
    assert len(feedback.live_feedback(db)) == before + 1
    page.get_by_role("button", name="Undo this vote").click()
    eventually(lambda: len(feedback.live_feedback(db)) == before)


def test_every_tab_opens_and_deleting_ones_data_empties_the_page(app, browser):
    url, home = app
    page = ask(browser.new_context(), url, "Remember the word plinth.")
    empty = {"Learning": "No version has been judged yet", "Models": "Serve this version", "Rounds": "No round"}
    for tab, text in empty.items():
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_text(text).first).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Toggle Sidebar").click()
    page.get_by_role("button", name="Your data").click()
    page.get_by_label("To delete, type").fill("delete my data")
    page.get_by_role("button", name="Delete my data").click()
    expect(page.get_by_test_id("toast-body").last).to_contain_text("Deleted", timeout=60_000)
    eventually(lambda: b"plinth" not in (home / "kdloop.db").read_bytes())


def documented_endpoints() -> dict[str, tuple[list[str], list[str]]]:
    """Endpoint -> (parameters, keys of the result), as the tables of docs/api.md name them."""
    rows = re.findall(r"^\| `(/\w+)` \|(.*?)\|(.*)\|$", (ROOT / "docs" / "api.md").read_text(), re.M)
    return {name: tuple(re.findall(r"`(\w+)`", cell) for cell in cells) for name, *cells in rows}


def test_the_public_api_chats_and_takes_feedback_by_token_only(app):
    client, documented = Client(app[0], verbose=False), documented_endpoints()
    reply = client.predict("Hello?", api_name="/chat")
    assert reply["text"] and reply["version"] == "v0" and list(reply) == documented["/chat"][1]
    row = client.predict(reply["token"], True, "", api_name="/feedback")["feedback"]
    assert len(row) == 1
    with pytest.raises(AppError, match="Not a token"):
        client.predict(reply["token"][:-1] + "x", True, "", api_name="/feedback")
    status = client.predict(api_name="/status")
    assert status["votes"] >= 1 and list(status) == documented["/status"][1]
    assert client.predict(api_name="/metrics") == [] and client.predict(api_name="/leaderboard") == []
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {"/chat", "/feedback", "/status", "/metrics", "/leaderboard"}
    takes = {name: [p["parameter_name"] for p in endpoint["parameters"]] for name, endpoint in named.items()}
    assert takes == {name: parameters for name, (parameters, _) in documented.items()}


def test_the_python_of_the_api_page_runs_as_it_stands(app, capsys):
    """But LiteLLM's, which is not installed here."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    openai, gradio = (code.replace("http://127.0.0.1:7860", app[0]) for code in blocks if "litellm" not in code)
    exec(openai, {})
    assert re.search(r"^v0 chatcmpl-\w{24} .*'kind': 'thumb'.*'comment': 'It is brief'", capsys.readouterr().out, re.S)
    exec(gradio, {})
    assert "'new_votes'" in capsys.readouterr().out


def test_an_empty_message_is_refused_and_a_phone_does_not_scroll_sideways(app, browser):
    page = browser.new_context(viewport={"width": 390, "height": 844}).new_page()
    page.goto(app[0])
    box = page.get_by_role("textbox", name="Message")
    box.fill("  ")
    box.press("Enter")
    expect(page.get_by_test_id("toast-body").last).to_contain_text("Type a message first", timeout=60_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
