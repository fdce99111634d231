"""What a person sees of the loop without leaving the chat: their vote, the round, its end; and a round's page."""

import pytest
from pages import ask, eventually, running
from playwright.sync_api import expect
from test_visits import open_tab

from storage import feedback, rounds

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("loop")


@pytest.fixture(scope="module")
def page(home, tiny_student, chromium):
    """A page on which one question has been answered, in India."""
    with running(home, KDLOOP_STUDENT=tiny_student, KDLOOP_ENGINE="transformers", KDLOOP_COMPARE_EVERY="0") as url:
        context = chromium.new_context(viewport={"width": 390, "height": 844}, timezone_id="Asia/Kolkata")
        yield ask(context, url, "Name a lake.")
        context.close()


def votes(home):
    return [(f.chosen_id is not None, f.reason, f.critique) for f in feedback.live_feedback(home / "kdloop.db")]


def test_a_thumb_says_which_vote_it_is_asks_why_and_can_be_undone(page, home):
    saved = page.locator("#saved")
    page.get_by_role("button", name="Dislike", exact=True).click()
    expect(saved).to_contain_text("Saved · vote 1 of 36", timeout=60_000)
    expect(saved).to_contain_text("A round trains a new version")
    saved.get_by_label("Too long").check()
    eventually(lambda: votes(home) == [(False, "too long", "")])
    expect(saved).to_contain_text("with what was wrong", timeout=60_000)
    saved.get_by_label("Something else").fill("It names no lake.")
    saved.get_by_label("Something else").press("Enter")
    eventually(lambda: votes(home) == [(False, "too long", "It names no lake.")])
    saved.get_by_role("button", name="Undo this vote").click()
    expect(saved).to_be_hidden(timeout=60_000)
    expect(page.get_by_role("button", name="Dislike", exact=True)).to_be_visible(timeout=60_000)
    assert votes(home) == []
    page.get_by_role("button", name="Like", exact=True).click()
    expect(saved).to_contain_text("Saved · vote 1 of 36", timeout=60_000)
    expect(saved.get_by_label("Too long")).to_be_hidden()
    expect(saved).not_to_contain_text("A round trains a new version")
    assert votes(home) == [(True, "", "")]


def test_a_round_is_told_of_in_the_header_and_what_came_of_it_once(page, home):
    db = home / "kdloop.db"
    round = rounds.start_round(db, requested="auto", seed=1, started_by="hand", owner="test")
    rounds.use_feedback(db, round.id, [f.id for f in feedback.live_feedback(db)], [])
    rounds.advance(db, round.id, "eliciting")
    rounds.note_progress(db, round.id, "eliciting", 40, 128, eta_seconds=200.0)
    link = page.locator("#header").get_by_role("link", name="learning: sampling 40 of 128")
    expect(link).to_contain_text("min, by a guess", timeout=60_000)  # it is the first round
    link.click()
    expect(page.locator("#live")).to_contain_text("40/128", timeout=60_000)
    expect(page.get_by_role("button", name=f"Cancel round {round.id}")).to_be_visible(timeout=60_000)
    rounds.note_progress(db, round.id, "training", 3, 12, loss=1.25)
    guards = {"sameness rise": {"value": 0.071, "limit": "<= 0.025", "ok": False}}
    verdict = {"passed": False, "n": 0, "reason": "Rejected: it says the same to everything", "guards": guards}
    rounds.advance(db, round.id, "gating", verdict=verdict)
    rounds.finish_round(db, round.id, "rejected")
    rounds.release_lease(db, "test")
    open_tab(page, "Chat")
    news = page.locator("#news")
    expect(news).to_contain_text("read 1 of your votes", timeout=60_000)
    expect(news).to_contain_text("it says the same to everything")
    page.reload()
    expect(page.locator("#header")).to_contain_text("next round at", timeout=60_000)
    open_tab(page, "Rounds")  # long enough for the news to have come
    shown = page.locator("#round-page")
    expect(shown.get_by_text("0.071 cosine")).to_be_visible(timeout=60_000)
    cell, head = shown.get_by_text("0.071 cosine"), shown.get_by_text("held or broken")
    assert len({e.evaluate("e => getComputedStyle(e).color") for e in (cell, head)}) == 2, "it is broken"


def test_a_plot_is_saved_as_a_table_and_as_a_picture(page, home):
    plot = page.locator("#round-page .kd-plot")
    with page.expect_download(timeout=60_000) as csv:
        plot.get_by_role("button", name="CSV").click()
    assert csv.value.suggested_filename == "Training-loss-of-round-1.csv"
    assert csv.value.path().read_text().splitlines()[1] == "3,1.25"
    with page.expect_download(timeout=60_000) as png:
        plot.get_by_role("button", name="PNG").click()
    assert png.value.path().read_bytes().startswith(b"\x89PNG") and png.value.path().stat().st_size > 2000


def test_times_are_the_readers(page, home):
    minutes = rounds.list_rounds(home / "kdloop.db")[0].created_at[14:16]
    at = page.locator("#round-page b").first.inner_text().split(":")[-1][:2]
    assert int(at) == (int(minutes) + 30) % 60, "half an hour off UTC"
    open_tab(page, "Chat")
    expect(page.locator("#news")).to_be_hidden()


def test_an_address_leads_to_a_rounds_page_and_follows_the_choice(page, home):
    for _ in range(2):
        later = rounds.start_round(home / "kdloop.db", requested="auto", seed=1, started_by="hand", owner="test")
        rounds.finish_round(home / "kdloop.db", later.id, "failed", error="It broke off")
        rounds.release_lease(home / "kdloop.db", "test")
    page.goto(page.url.split("?")[0] + "?tab=rounds&round=2")
    expect(page.locator("#round-page")).to_contain_text("Round 2", timeout=60_000)
    page.get_by_label("Round", exact=True).click()
    page.get_by_role("option", name="1 (rejected)").click()
    expect(page.locator("#round-page")).to_contain_text("it says the same to everything", timeout=60_000)
    assert page.url.endswith("round=1")
    page.go_back()
    expect(page.locator("#round-page")).to_contain_text("Round 2", timeout=60_000)
