"""The Chat tab and the files that the page hands over, in headless Chromium."""

import json

import pytest
from pages import ask, eventually, opened, running, send
from playwright.sync_api import expect

from storage import feedback
from storage.database import connect

pytestmark = pytest.mark.slow


def statuses(home) -> list[str]:
    with connect(home / "kdloop.db") as c:
        return [r[0] for r in c.execute("select status from completions order by created_at")]


def test_stop_ends_the_engine_and_what_waited_comes_back(student, browser, tmp_path):
    with running(tmp_path, KDLOOP_STUDENT=student, KDLOOP_COMPARE_EVERY="0", KDLOOP_MAX_TOKENS="400") as url:
        page, errors = opened(browser.new_context(), url)
        page.get_by_role("button", name="Explain tides to a child.").click()
        box = page.get_by_role("textbox", name="Message")
        expect(box).to_have_value("Explain tides to a child.")
        waits, _ = opened(browser.new_context(), url)  # first: an answer may end while a page is opened
        box.press("Enter")
        expect(page.get_by_test_id("bot").last).to_contain_text(" ", timeout=60_000)
        send(waits, "This message waits.")
        waits.get_by_role("button", name="Stop").click()
        expect(waits.get_by_role("textbox", name="Message")).to_have_value("This message waits.", timeout=60_000)

        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
        eventually(lambda: statuses(tmp_path) == ["stopped"])
        page.get_by_role("button", name="Dislike", exact=True).last.click()
        eventually(lambda: [bool(f.rejected_id) for f in feedback.live_feedback(tmp_path / "kdloop.db")] == [True])

        page.get_by_role("button", name="Retry").last.click()
        eventually(lambda: statuses(tmp_path) == ["stopped", "open"])  # stopped before, there would be none
        page.get_by_role("button", name="Stop").click(timeout=60_000)
        expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
        eventually(lambda: statuses(tmp_path) == ["stopped", "stopped"])
        assert errors == []


def test_stop_during_two_answers_leaves_one_that_can_be_rated(student, browser, tmp_path):
    with running(tmp_path, KDLOOP_STUDENT=student, KDLOOP_COMPARE_EVERY="1", KDLOOP_MAX_TOKENS="400") as url:
        page, _ = opened(browser.new_context(), url)
        send(page, "Tell me about the sea.")
        eventually(lambda: len(page.locator("#compare-second .kd-text").text_content()) > 20)
        expect(page.locator("#compare-about")).to_have_text(
            "Two answers of one version this time: which do you prefer?"
        )
        expect(page.get_by_test_id("bot")).to_have_count(0)
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#compare")).to_be_hidden(timeout=60_000)
        page.get_by_role("button", name="Like", exact=True).last.click()
        eventually(lambda: [f.channel for f in feedback.live_feedback(tmp_path / "kdloop.db")] == ["thumb"])


def test_a_new_chat_has_no_thumbs_and_the_one_before_is_found(app, browser):
    page = ask(browser.new_context(), app[0], "Name a bird.")
    page.get_by_role("button", name="Like", exact=True).last.click()
    expect(page.get_by_role("button", name="Liked", exact=True)).to_be_visible()
    page.get_by_role("button", name="Toggle Sidebar").click()
    page.locator("#fresh").click()
    expect(page.get_by_test_id("user")).to_have_count(0)
    page.get_by_role("button", name="Toggle Sidebar").click()
    send(page, "Name a river.")
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="Like", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Liked", exact=True)).to_have_count(0)

    page.get_by_role("button", name="Toggle Sidebar").click()
    page.get_by_label("Search your conversations").fill("bird")
    past = page.locator("#past")
    expect(past.get_by_role("link", name="Name a bird.")).to_be_visible(timeout=60_000)
    expect(past.get_by_role("link", name="Name a river.")).to_have_count(0, timeout=60_000)


def test_the_first_click_on_a_download_hands_over_the_file(app, browser):
    page = ask(browser.new_context(), app[0], "Remember the word gannet.")
    page.get_by_role("button", name="Like", exact=True).last.click()
    page.get_by_role("button", name="Toggle Sidebar").click()
    page.get_by_role("button", name="Your data").click()
    with page.expect_download(timeout=60_000) as mine:
        page.get_by_role("button", name="Download my data").click()
    held = json.loads(mine.value.path().read_text())
    assert "gannet" in str(held["turns"]) and len(held["feedback"]) == 1
    page.get_by_role("button", name="Toggle Sidebar").click()

    page.get_by_role("tab", name="Admin").click()
    page.get_by_role("button", name="Export people's feedback").click()
    for format in ("sft", "kto"):
        page.get_by_label("For the method").click()
        page.get_by_role("option", name=format).click()
        with page.expect_download(timeout=60_000) as exported:
            page.get_by_role("button", name="Export as JSONL").click()
        assert exported.value.suggested_filename == f"kdloop-{format}.jsonl"
