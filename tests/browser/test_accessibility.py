"""axe-core on every tab, and in what comes and goes in the chat: nothing serious, nothing critical."""

import os
import signal
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import ask, editor, fill_with_hostile_text, opened, running
from playwright.sync_api import Page, expect
from test_settings import signed_in
from test_visits import open_tab

pytestmark = pytest.mark.slow
TABS = ("Chat", "Arena", "Teach", "Learning", "Rounds", "Models", "Admin")
LOOKS = {"light": (1280, 860), "dark": (390, 844)}


@pytest.fixture(scope="module")
def public_app(tiny_student, tmp_path_factory):
    """As that of all tests, with longer replies, and two of them to every second message."""
    home = tmp_path_factory.mktemp("public")
    fill_with_hostile_text(home / "kdloop.db")
    how = {"KDLOOP_HOST": "0.0.0.0", "KDLOOP_ADMIN_TOKEN": "open sesame", "KDLOOP_COMPARE_EVERY": "2"}
    with running(home, KDLOOP_STUDENT=tiny_student, KDLOOP_MAX_TOKENS="300", **how) as url:
        yield url, home


def grave_violations(page: Page) -> dict[str, list[str]]:
    """Tab, theme and rule -> what breaks it there."""
    found = {}
    for tab in TABS:
        open_tab(page, tab)
        for theme in LOOKS:
            wear(page, theme, 700)
            found |= grave(page, f"{tab}, {theme}")
    return found


def wear(page: Page, theme: str, milliseconds: int) -> None:
    """And wait until colours have faded and what comes late is there."""
    page.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
    page.wait_for_timeout(milliseconds)


def grave(page: Page, name: str, part: str | None = None) -> dict[str, list[str]]:
    violations = Axe().run(page, part).response["violations"]
    found = [v for v in violations if v["impact"] in ("serious", "critical")]
    return {f"{name}: {v['id']}": [n["html"][:160] for n in v["nodes"][:3]] for v in found}


def in_all_looks(page: Page, name: str) -> dict[str, list[str]]:
    """What breaks a rule in the chat as it is now."""
    found = {}
    for theme, (width, height) in LOOKS.items():
        page.set_viewport_size({"width": width, "height": height})
        wear(page, theme, 300)
        found |= grave(page, f"{name}, {theme}", "#chat-page")
    return found


@contextmanager
def mid_reply(page: Page, home, message: str):
    """The app stands still while it writes the reply."""
    process = int((home / "app.pid").read_text())
    page.locator("#message textarea").fill(message)
    page.keyboard.press("Enter")
    page.locator("#chat-log.kd-writing").wait_for()
    os.kill(process, signal.SIGSTOP)
    try:
        yield
        expect(page.locator("#chat-log.kd-writing")).to_be_visible()
    finally:
        os.kill(process, signal.SIGCONT)


def test_no_serious_violation_on_any_tab(public_app, browser):
    page = ask(browser.new_context(), public_app[0], "Name a bird.")
    assert grave_violations(page) == {}


def test_no_serious_violation_on_what_only_the_owner_sees(public_app, browser):
    page, _ = signed_in(browser, public_app[0])
    page.get_by_role("button", name="Set the weight").click()  # nobody is chosen: a toast says so
    page.get_by_test_id("toast-body").first.wait_for()
    assert grave_violations(page) == {}


def test_no_serious_violation_while_it_writes_in_the_editor_and_in_a_comparison(public_app, browser):
    url, home = public_app
    page, _ = opened(browser.new_context(), url)
    with mid_reply(page, home, "Name a **bird**."):
        found = in_all_looks(page, "writing")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    editor(page, page.locator("#chat-log [data-name=Edit]").first).fill("Name a stone.")
    page.get_by_role("log").get_by_role("button", name="Save").click()
    expect(page.locator("#compare-left")).to_be_enabled()
    found |= in_all_looks(page, "comparison")
    page.locator("#compare-left").click()
    page.get_by_role("link", name="Show the version before").wait_for()
    editor(page, page.locator("#chat-log [data-name=Edit]").last)
    found |= in_all_looks(page, "branch and editor")
    assert found == {}
