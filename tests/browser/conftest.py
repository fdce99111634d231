"""An app that nobody has used, one that strangers attack, and headless Chromium."""

import pytest
from pages import CHROMIUM, check_log, fill_with_hostile_text, running
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="session")
def student(student_home):
    return str(student_home / "student")


@pytest.fixture(scope="module")
def app(student, tmp_path_factory):
    """(url, home) of an app that nobody has used yet."""
    home = tmp_path_factory.mktemp("app")
    with running(home, KDLOOP_STUDENT=student, KDLOOP_COMPARE_EVERY="0") as url:
        yield url, home
    check_log(home)


@pytest.fixture(scope="module")
def public_app(tiny_student, tmp_path_factory):
    """(url, home) of an app that visitors reach, with an admin token, and with hostile text in every place. What its
    student says does not matter."""
    home = tmp_path_factory.mktemp("public")
    fill_with_hostile_text(home / "kdloop.db")
    with running(home, KDLOOP_STUDENT=tiny_student, KDLOOP_HOST="0.0.0.0", KDLOOP_ADMIN_TOKEN="open sesame") as url:
        yield url, home


@pytest.fixture(scope="session")
def chromium():
    assert CHROMIUM, "The browser tests need Chromium: apt-get install chromium-headless-shell, or set KDLOOP_CHROMIUM"
    with sync_playwright() as p:
        started = p.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@pytest.fixture
def browser(chromium):
    """Its pages are closed after the test: left open, they would poll their apps and slow all that follows."""
    yield chromium
    for context in chromium.contexts:
        context.close()
