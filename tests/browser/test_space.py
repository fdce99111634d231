"""The app with the environment of a Hugging Face Space: open to all, restored from a snapshot, signing in by OAuth."""

import httpx
import pytest
from pages import eventually, opened, running, send
from playwright.sync_api import expect
from test_visits import open_tab

from storage import conversations, snapshots
from storage.database import open_database

pytestmark = pytest.mark.slow
SPACE = {
    "SYSTEM": "spaces",
    "SPACE_ID": "ann/kdloop",
    "SPACE_HOST": "localhost",
    "SPACE_AUTHOR_NAME": "ann",
    "SPACES_ZERO_GPU": "",
    "GRADIO_SSR_MODE": "True",
    "OAUTH_CLIENT_ID": "id",
    "OAUTH_CLIENT_SECRET": "secret",
    "OAUTH_SCOPES": "openid profile",
    "OPENID_PROVIDER_URL": "http://127.0.0.1:9",
}


def test_a_space_wakes_restores_chats_and_saves_at_its_end(student, browser, tmp_path):
    past, folder, home = tmp_path / "past", tmp_path / "snapshots", tmp_path / "home"
    db = open_database(past / "kdloop.db")
    conversations.start_conversation(db, "eve", "before the restart")
    taken = snapshots.take(db, snapshots.Folder(folder))
    home.mkdir()
    with running(home, "app.py", **SPACE, KDLOOP_STUDENT=student, KDLOOP_SNAPSHOTS=str(folder)) as url:
        assert f"restored {taken}" in (home / "app.log").read_text()
        assert httpx.get(url + "/healthz").json() == {"ok": True}
        page, _ = opened(browser.new_context(), url)
        send(page, "Hello?")
        expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
        open_tab(page, "Admin")
        expect(page.get_by_role("button", name="Sign in with Hugging Face")).to_be_visible(timeout=60_000)
        assert page.get_by_text("People whose votes stand").count() == 0
        open_tab(page, "Rounds")
        expect(page.get_by_role("link", name="sign in on the Admin tab")).to_be_visible(timeout=60_000)
        expect(page.get_by_role("button", name="Start a round now")).to_be_hidden()
    eventually(lambda: len(list(folder.glob("kdloop-*.tar.gz"))) == 2)
