"""A visitor of a ZeroGPU Space, with the `spaces` package itself and without its hardware (zerogpu.py says how)."""

import re

import httpx
import pytest
from pages import eventually, opened, running, send
from parts import vote
from playwright.sync_api import expect
from zerogpu import VISITOR, device_api, variables

from kdloop.rounds.process import journal_folder, log_file
from kdloop.settings import Settings
from storage import checkpoints, feedback, rounds
from storage.database import open_database

pytestmark = pytest.mark.slow
CHOICES = 44  # of one person; one more makes a round due


@pytest.fixture(scope="module")
def space(tiny_student, tmp_path_factory):
    """(url, home, device API) of a Space with votes for all but one of a round."""
    home = tmp_path_factory.mktemp("space")
    db = open_database(home / "kdloop.db")
    checkpoints.ensure_base(db)
    vote(db, CHOICES, "eve")
    small = {"KDLOOP_ROUND_MAX_TOKENS": "8", "KDLOOP_GATE_PROMPTS": "4", "KDLOOP_COMPARE_EVERY": "0"}
    small |= {"KDLOOP_ROUND_VOTES": str(CHOICES + 1), "KDLOOP_STUDENT": tiny_student, "KDLOOP_MESSAGES_A_MINUTE": "60"}
    with (
        device_api() as (address, api),
        running(home, "tests/browser/zerogpu.py", **variables(home, address), **small) as url,
    ):
        yield url, home, api
    log = (home / "app.log").read_text()
    assert "worker error" not in log and "task aborted" not in log, log


@pytest.fixture
def visit(space, browser):
    url, *_ = space
    page, _ = opened(browser.new_context(extra_http_headers=VISITOR), url)
    page.get_by_role("button", name="Your GPU quota").click()
    return page


def ask(page, question):
    """Its answer has come to an end."""
    send(page, question)
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=90_000)
    expect(page.get_by_test_id("user").last).to_contain_text(question)


def statuses(home):
    return [c.status for c in conversations_of(home)]


def conversations_of(home):
    from storage.database import connect

    with connect(home / "kdloop.db") as c:
        rows = c.execute("select status, text from completions order by rowid desc limit 3")
        return [type("Row", (), {"status": s, "text": t}) for s, t in rows.fetchall()]


def test_the_page_starts_and_asks_for_a_gpu_only_with_the_visitors_tick(space, visit):
    url, home, api = space
    assert httpx.get(url + "/healthz").json() == {"ok": True} and len(api.of("/startup-report")) == 1
    ask(visit, "Is it late?")
    assert not api.of("/schedule"), "a reply without consent is the CPU's"
    for box in visit.locator("#gpu input[type=checkbox]").all():
        assert not box.is_checked()
    visit.get_by_label(re.compile("Write my answers on a GPU")).check()
    ask(visit, "And is it now?")
    (asked,) = api.of("/schedule")
    assert asked["token"] == VISITOR["X-IP-Token"] and 10 <= int(asked["durationSeconds"]) <= 12
    assert api.of("/release") == [{"allowToken": "one", "fail": "false"}] and len(api.of("/allow")) == 1
    assert statuses(home)[:2] == ["cut", "cut"]
    visit.get_by_label(re.compile("Write my answers on a GPU")).uncheck()
    ask(visit, "What time is it then?")
    assert len(api.of("/schedule")) == 1


def test_without_quota_the_cpu_writes_the_answer_and_the_page_says_why(space, visit):
    _, home, api = space
    before, api.lends = len(api.of("/schedule")), False
    visit.get_by_label(re.compile("Write my answers on a GPU")).check()
    ask(visit, "Does it cost?")
    api.lends = True
    expect(visit.get_by_test_id("toast-body").last).to_contain_text("exceeded your ZeroGPU quota")
    expect(visit.get_by_test_id("toast-body").last).to_contain_text("nothing is lost")
    assert len(api.of("/schedule")) == before + 1 and statuses(home)[0] == "cut"


def test_a_vote_trains_on_the_quota_of_who_agreed_and_the_app_serves_what_comes_back(space, visit):
    _, home, api = space
    before, settings = len(api.of("/schedule")), Settings(home=home)
    ask(visit, "Shall we train?")
    visit.get_by_role("button", name="Train now").click()
    expect(visit.get_by_test_id("toast-body").last).to_contain_text("too few new votes", timeout=60_000)
    assert len(api.of("/schedule")) == before, "nobody's quota is spent on nothing"
    visit.get_by_label(re.compile("When my vote starts a round")).check()
    visit.get_by_role("button", name="Like", exact=True).last.click()
    eventually(lambda: rounds.list_rounds(settings.db))
    eventually(lambda: len(api.of("/schedule")) == before + 1)
    assert api.of("/schedule")[-1]["durationSeconds"] == "60"
    (round,) = rounds.list_rounds(settings.db)
    assert round.started_by == "votes"
    eventually(lambda: rounds.get_round(settings.db, round.id).finished_at, 600)
    ended = rounds.get_round(settings.db, round.id)
    assert ended.status in ("promoted", "on trial", "rejected") and ended.candidate_id, ended.error
    eventually(lambda: not journal_folder(settings, round.id).exists())
    assert "step 1 of" in log_file(settings, round.id).read_text()
    assert feedback.count_votes(settings.db)[0] == CHOICES + 1
