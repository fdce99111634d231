"""The real app in headless Chromium: chat, vote, take it back, correct, and look at the rounds."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from storage import feedback

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = os.environ.get("KDLOOP_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def app(student_home, tmp_path_factory):
    """(url, home) of an app in a process of its own."""
    home = tmp_path_factory.mktemp("app")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = os.environ | {
        "KDLOOP_HOME": str(home),
        "KDLOOP_PORT": str(port),
        "KDLOOP_STUDENT": str(student_home / "student"),
        "KDLOOP_MAX_TOKENS": "24",
    }
    log = (home / "app.log").open("wb")
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            httpx.get(url + "/healthz", timeout=1).raise_for_status()
            break
        except httpx.HTTPError:
            time.sleep(0.5)
    else:
        pytest.fail((home / "app.log").read_text())
    yield url, home
    process.terminate()
    assert process.wait(30) == 0


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM, "The browser tests need Chromium: apt-get install chromium, or set KDLOOP_CHROMIUM"
    with sync_playwright() as p:
        chromium = p.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


def eventually(check, seconds=15):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.2)


def test_chat_vote_undo_and_correct(app, browser):
    url, home = app
    db = home / "kdloop.db"
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(url)
    expect(page.locator("#header")).to_contain_text("student v0", timeout=30_000)
    box = page.get_by_role("textbox", name="Message")
    box.fill("Hello, who are you?")
    box.press("Enter")
    expect(page.get_by_role("button", name="Stop")).to_be_visible(timeout=15_000)
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
    expect(page.get_by_test_id("bot").last).not_to_have_text("…")

    page.get_by_role("button", name="Like", exact=True).last.click()
    eventually(lambda: [bool(f.chosen_id) for f in feedback.live_feedback(db)] == [True])
    page.get_by_role("button", name="Liked", exact=True).last.click()
    eventually(lambda: feedback.live_feedback(db) == [])

    page.get_by_role("button", name="Edit").last.click()
    page.get_by_role("log").locator("textarea").last.fill("I am a small student. Ask me something.")
    page.get_by_role("button", name="Submit").last.click()
    eventually(lambda: [f.channel for f in feedback.live_feedback(db)] == ["edit"])

    page.get_by_role("tab", name="Rounds").click()
    expect(page.locator("#live")).to_contain_text("1 new vote", timeout=15_000)
    if shots := os.environ.get("KDLOOP_SCREENSHOTS"):
        page.screenshot(path=f"{shots}/rounds.png")
        page.get_by_role("tab", name="Chat").click()
        page.screenshot(path=f"{shots}/chat.png")
    assert errors == []


def test_an_empty_message_is_refused_and_a_phone_does_not_scroll_sideways(app, browser):
    page = browser.new_context(viewport={"width": 390, "height": 844}).new_page()
    page.goto(app[0])
    box = page.get_by_role("textbox", name="Message")
    box.fill("  ")
    box.press("Enter")
    expect(page.get_by_test_id("toast-body").last).to_contain_text("Type a message first", timeout=15_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
