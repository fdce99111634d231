"""Open WebUI by its own page, as its first user: chat, thumbs; then kdloop takes them (tests/real/clients.py)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Page, expect, sync_playwright

from kdloop.api.access import Caller
from kdloop.evaluation.bench.app_process import AppProcess
from kdloop.feedback.examples import from_feedback
from kdloop.settings import Settings
from storage import conversations
from tests.browser.pages import CHROMIUM

ENVIRONMENT = {
    "OPENAI_API_KEYS": "none",
    "ENABLE_FORWARD_USER_INFO_HEADERS": "true",
    "ENABLE_API_KEYS": "true",
    "ENABLE_OLLAMA_API": "false",
    "ENABLE_VERSION_UPDATE_CHECK": "false",
    "WEBUI_SECRET_KEY": "of this test",
    "OFFLINE_MODE": "true",
    "HF_HUB_OFFLINE": "1",
    "RAG_EMBEDDING_MODEL_AUTO_UPDATE": "false",
    "ANONYMIZED_TELEMETRY": "false",
}
SLOW = 300_000  # milliseconds, for whatever the page waits for
ANN = {"name": "Ann", "email": "ann@example.com", "password": "correct horse battery"}


def shown(ours: AppProcess, url: str, folder: Path) -> Iterator[str]:
    db = ours.home / "kdloop.db"
    http = httpx.Client(base_url=f"{url}/api", timeout=SLOW / 1000)
    user = http.post("/v1/auths/signup", json=ANN).raise_for_status().json()
    http.headers["Authorization"] = f"Bearer {user['token']}"
    yield f"signed up; it lists the models {', '.join(m['id'] for m in http.get('/models').json()['data'])}"
    with signed_in(url, user["token"]) as page:
        ask(page, "Name a fruit.", 1)
        rate(page, "Good Response", "Accurate information")
        ask(page, "Name another one.", 2)
        rate(page, "Bad Response", "Too verbose")
    person = Caller().person(Settings(home=ours.home), user["id"])
    talks = conversations.find_conversations(db, person)
    turns = [turn for id, _ in talks for turn, _ in conversations.history(db, id, person)]
    assert (len(talks), len(turns)) == (1, 2), f"{len(talks)} conversations, {len(turns)} turns"
    yield "two messages on its page, in Chromium: one conversation of two turns here; its title is none"
    key = folder / "admin.key"
    key.write_text(http.post("/v1/auths/api_key").raise_for_status().json()["api_key"])
    for _ in range(2):
        said = taken(ours, url, key)
    split = from_feedback(db)
    mine = [e for e in split.train + split.held_out if e.conversation == talks[0][0]]
    likes = {e.prompt[-1]["content"]: bool(e.chosen) for e in mine}
    assert likes == {"Name a fruit.": True, "Name another one.": False}, mine
    yield f"its thumbs, by `python -m kdloop open_webui`, twice ({said}): a like and a dislike among a round's examples"


@contextmanager
def signed_in(url: str, token: str) -> Iterator[Page]:
    """The page of whoever has this token, its news closed."""
    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=CHROMIUM, args=options).new_page()
        page.set_default_timeout(SLOW)
        page.add_init_script(f"localStorage.token = {json.dumps(token)}; localStorage.locale = 'en-US'")
        page.goto(url)
        page.get_by_role("button", name="Okay, Let's Go!").click()
        yield page


def ask(page: Page, words: str, n: int) -> None:
    """Returns once the n-th reply of the chat can be rated."""
    page.locator("#chat-input").click()
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Good Response")).to_have_count(n, timeout=SLOW)


def rate(page: Page, thumb: str, reason: str) -> None:
    """A thumb, and what its form asks for."""
    with page.expect_response(lambda r: "/evaluations/feedback" in r.url and r.request.method == "POST"):
        page.get_by_role("button", name=thumb).last.click()
    page.get_by_role("button", name=reason).last.click()
    with page.expect_response(lambda r: "/evaluations/feedback" in r.url and r.request.method == "POST"):
        page.get_by_role("button", name="Save").last.click()


def taken(ours: AppProcess, url: str, key: Path) -> str:
    command = [sys.executable, "-m", "kdloop", "open_webui", url, "--key-file", str(key)]
    env = os.environ | {"KDLOOP_HOME": str(ours.home)}
    return ", ".join(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines())
