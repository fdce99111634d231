"""An owner changes settings in a browser: they hold at once, survive a restart, and go back to their defaults."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import eventually, opened, running
from playwright.sync_api import expect
from test_visits import open_tab

from storage import audit, choices

pytestmark = pytest.mark.slow
OWNER = {"KDLOOP_HOST": "0.0.0.0", "KDLOOP_ADMIN_TOKEN": "open sesame"}


def signed_in(browser, url):
    page, errors = opened(browser.new_context(), url)
    open_tab(page, "Admin")
    expect(page.get_by_text("Change the settings")).to_be_hidden()
    page.get_by_label("Admin token").fill("open sesame")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Change the settings").click(timeout=60_000)
    return page, errors


def test_an_owner_changes_settings_and_takes_them_back(tiny_student, browser, tmp_path):
    db = tmp_path / "kdloop.db"
    with running(tmp_path, KDLOOP_STUDENT=tiny_student, **OWNER) as url:
        waiting, _ = opened(browser.new_context(), url)
        waiting.locator("#message textarea").fill("Half a thought")
        page, errors = signed_in(browser, url)
        votes, notice = page.locator("#set-round_votes input"), page.locator("#set-notice textarea")
        expect(votes).to_have_value("36")
        expect(page.locator("#set-max_tokens input")).to_be_disabled()  # `running` sets KDLOOP_MAX_TOKENS
        expect(page.locator("#set-max_tokens")).to_contain_text("Set by KDLOOP_MAX_TOKENS")
        violations = Axe().run(page, "#choices").response["violations"]
        assert [v["id"] for v in violations if v["impact"] in ("serious", "critical")] == []
        votes.fill("2.5")
        page.get_by_role("button", name="Save the settings").click()
        refusal = page.get_by_test_id("toast-body").filter(has_text="give a whole number from 0 to 10000")
        expect(refusal).to_be_visible(timeout=60_000)
        assert choices.chosen(db) == {}
        votes.fill("7")
        notice.fill("Please *no* names.")
        page.get_by_role("button", name="Save the settings").click()
        eventually(lambda: choices.chosen(db) == {"round_votes": "7", "notice": "Please *no* names."})
        expect(page.get_by_text("default → 7").first).to_be_attached(timeout=60_000)
        open_tab(page, "Chat")
        expect(page.locator("#header")).to_contain_text("next round at 7 new votes", timeout=60_000)
        assert errors == []
    with running(tmp_path, KDLOOP_STUDENT=tiny_student, KDLOOP_PORT=url.rpartition(":")[2], **OWNER) as url:
        expect(waiting.locator("#kd-restarted")).to_contain_text("Nothing was lost")  # the page has loaded itself again
        expect(waiting.locator("#message textarea")).to_have_value("Half a thought")
        visitor, _ = opened(browser.new_context(), url)
        expect(visitor.locator("#notice")).to_have_text("Please no names.", timeout=60_000)
        expect(visitor.locator("#kd-restarted")).to_have_count(0)
        expect(visitor.locator("#header")).to_contain_text("next round at 7 new votes")
        page, _ = signed_in(browser, url)
        page.get_by_role("button", name="Back to the defaults").click()
        eventually(lambda: choices.chosen(db) == {})
        expect(page.locator("#set-round_votes input")).to_have_value("36", timeout=60_000)
        assert [about for _, _, _, about in audit.entries(db)][:2] == ["Please *no* names. → default", "7 → default"]
        again, _ = opened(browser.new_context(), url)
        expect(again.locator("#header")).to_contain_text("next round at 36", timeout=60_000)
        expect(again.locator("#notice")).to_be_hidden()
