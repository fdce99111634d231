"""Two people at once, a reload in mid-stream, the keyboard alone, dark and phone, two answers side by side."""

import re

import pytest
from pages import ask, eventually, opened, running, send
from playwright.sync_api import expect

from storage import conversations, feedback
from storage.database import connect

pytestmark = pytest.mark.slow


def test_two_people_chat_at_once_and_see_their_own_words_only(app, browser):
    url, _ = app
    pages = [opened(browser.new_context(), url)[0] for _ in range(2)]
    for page, question in zip(pages, ("Say the word lantern.", "Say the word harbour."), strict=True):
        send(page, question)
    for page in pages:
        expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
        expect(page.get_by_test_id("bot").last).not_to_have_text("…")
    assert "harbour" not in pages[0].get_by_role("log").inner_text()
    assert "lantern" not in pages[1].get_by_role("log").inner_text()
    pages[0].reload()
    pages[0].get_by_role("button", name="Toggle Sidebar").click()
    expect(pages[0].get_by_role("link", name="Say the word lantern.")).to_be_visible(timeout=60_000)
    assert pages[0].get_by_role("link", name="Say the word harbour.").count() == 0


def test_a_reload_in_mid_stream_ends_the_reply_and_keeps_what_was_said(app, browser):
    url, home = app
    page, _ = opened(browser.new_context(), url)
    send(page, "Tell me a long story about a lighthouse.")
    page.reload()
    expect(page.locator("#header")).to_contain_text("v0", timeout=60_000)

    def ended():
        with connect(home / "kdloop.db") as c:
            return c.execute("select count(*) from completions where status = 'open'").fetchone()[0] == 0

    eventually(ended)
    page.get_by_role("button", name="Toggle Sidebar").click()
    expect(page.get_by_role("link", name="Tell me a long story about a lighthouse.")).to_be_visible(timeout=60_000)
    with connect(home / "kdloop.db") as c:
        assert c.execute("select count(*) from completions where status = 'failed'").fetchone()[0] == 0


def test_the_keyboard_alone_is_enough(app, browser):
    """Tab to the message box, send, tab back to the thumb, press it; then vote in the arena by an arrow."""
    url, home = app
    page, errors = opened(browser.new_context(), url)
    reach(page, lambda e: e["label"].startswith("Message"))
    page.keyboard.type("Name a river.")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Stop")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
    before = len(feedback.live_feedback(home / "kdloop.db"))
    reach(page, lambda e: e["label"] == "Like")
    page.keyboard.press("Enter")
    eventually(lambda: len(feedback.live_feedback(home / "kdloop.db")) == before + 1)
    assert errors == []


def reach(page, found, most=150):
    """Press Tab until the focus is where `found` says."""
    for _ in range(most):
        page.keyboard.press("Tab")
        element = page.evaluate(
            "() => { const e = document.activeElement; const l = e.labels && e.labels[0];"
            " return {label: e.getAttribute('aria-label') || (l && l.innerText.trim()) || ''} }"
        )
        if found(element):
            return
    raise AssertionError("Tab never came there")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_tab_fits_a_phone_and_a_desk_in_light_and_dark(public_app, browser, theme, width):
    context = browser.new_context(viewport={"width": width, "height": 844})
    page, errors = opened(context, f"{public_app[0]}?__theme={theme}")
    assert ("dark" in page.evaluate("document.body.className")) is (theme == "dark")
    for tab in ("Chat", "Arena", "Teach", "Learning", "Rounds", "Models", "Admin"):
        open_tab(page, tab)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
    assert errors == []


def open_tab(page, name):
    """On a phone the last tabs are in the menu of what does not fit."""
    tab = page.get_by_role("tab", name=name, exact=True)
    if not tab.is_visible():
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button", has_text=name).click()
        return
    tab.click()


def test_now_and_then_two_answers_come_and_the_chosen_one_goes_on(student, browser, tmp_path):
    with running(tmp_path, KDLOOP_STUDENT=student, KDLOOP_COMPARE_EVERY="1") as url:
        page = ask(browser.new_context(), url, "Name a colour.")
        answers = [page.locator(f"#compare-{which} .kd-text").text_content() for which in ("first", "second")]
        page.get_by_role("button", name="The first is better").click(timeout=60_000)
        eventually(lambda: [f.channel for f in feedback.live_feedback(tmp_path / "kdloop.db")] == ["choice"])
        expect(page.get_by_test_id("bot").last).to_contain_text(answers[0].split()[0], timeout=60_000)
        (row,) = feedback.live_feedback(tmp_path / "kdloop.db")
        with connect(tmp_path / "kdloop.db") as c:
            person, conversation = c.execute("select person, id from conversations").fetchone()
        ((_, kept),) = conversations.history(tmp_path / "kdloop.db", conversation, person)
        assert kept.id == row.chosen_id and kept.text == answers[0].strip()


def test_the_page_speaks_the_language_of_the_browser(app, browser):
    page = browser.new_context(locale="de-DE").new_page()
    page.goto(app[0])
    expect(page.locator("#header")).to_contain_text("Schüler v0", timeout=60_000)
    for name in ("Lernkurve", "Verwaltung"):
        expect(page.get_by_role("tab", name=name)).to_be_visible()
    page.get_by_role("textbox", name="Nachricht").press("Enter")
    expect(page.get_by_test_id("toast-body").last).to_contain_text("Schreib zuerst eine Nachricht", timeout=60_000)


def test_who_waits_is_told_their_place_in_the_queue(app, browser):
    pages = [opened(browser.new_context(), app[0])[0] for _ in range(3)]
    for page in pages:
        send(page, "Tell me about the sea.")
    expect(pages[2].get_by_text(re.compile(r"queue: \d/\d"))).to_be_visible(timeout=60_000)
    for page in pages:
        expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
