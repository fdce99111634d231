"""Comparisons in the window, addresses that lead back, keys, focus, and what is said to screen readers."""

import json

import pytest
from pages import ask, check_log, editor, eventually, opened, running, send
from playwright.sync_api import expect

from storage import conversations, feedback
from storage.database import connect

pytestmark = pytest.mark.slow
SIZES = {"wide": (1280, 860), "phone": (390, 844)}
OUTSIDE = """() => [...document.querySelectorAll(".kd-compare .kd-sides > .kd-side, .kd-compare .kd-votes button")]
  .filter(e => e.offsetParent).map(e => [e, e.getBoundingClientRect()])
  .filter(([e, r]) => r.top < 0 || r.left < 0 || r.bottom > innerHeight || r.right > innerWidth).map(([e]) => e.id)"""
HIDDEN_STOP = """() => { const e = document.activeElement, r = e.getBoundingClientRect(), s = getComputedStyle(e);
  const inside = r.right > 0 && r.left < innerWidth && r.width > 0;
  const marked = s.outlineStyle !== "none" || s.boxShadow !== "none";
  return e === document.body || (inside && marked) ? "" : e.outerHTML.slice(0, 200); }"""
SMALL = """least => [...document.querySelectorAll("button, a[href], [role=tab]")].filter(e => e.offsetParent &&
  !e.closest("[inert], [aria-hidden=true], p")).map(e => [e.getBoundingClientRect(), e.outerHTML.slice(0, 120)])
  .filter(([r]) => r.width && (r.width < least || r.height < least)).map(([, html]) => html)"""

SELECTED_TAB_SHOWN = """() => {
  const {left, right} = document.querySelector("[role=tab][aria-selected=true]").getBoundingClientRect();
  return left >= 0 && right <= innerWidth; }"""


@pytest.fixture(scope="module")
def two(tiny_student, tmp_path_factory):
    """(url, home) of an app that answers every second message twice."""
    home = tmp_path_factory.mktemp("feel")
    student = {"KDLOOP_STUDENT": tiny_student, "KDLOOP_ENGINE": "transformers", "KDLOOP_COMPARE_EVERY": "2"}
    with running(home, **student) as url:
        yield url, home
    check_log(home)


def done(page):
    """The answer is at its end, and the log at rest: Gradio scrolls down once more, a moment after, and what is
    pressed meanwhile is not what lies there when it is let go."""
    expect(page.locator("#message [data-testid=submit-button]")).to_be_visible(timeout=60_000)
    page.wait_for_timeout(500)


def say(page, text):
    box = page.locator("#message textarea")
    box.fill(text)
    box.press("Enter")


def choices(home) -> list[str]:
    return [f.channel for f in feedback.live_feedback(home / "kdloop.db") if f.channel == "choice"]


@pytest.mark.parametrize("size", SIZES)
def test_both_answers_and_all_votes_stand_in_the_window_and_keys_vote(two, browser, size):
    url, home = two
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, has_touch=size == "phone")
    page = ask(context, url, "Name a bird.")
    assert page.evaluate("document.documentElement.scrollHeight") <= height, "the chat is as high as the window"
    before = len(choices(home))
    send(page, "Name a tree. " * 40)
    expect(page.locator("#compare-left")).to_be_enabled(timeout=60_000)
    expect(page.locator("#compare-about")).to_contain_text("of one version")
    assert page.locator(".kd-compare button:visible").count() == 4
    eventually(lambda: page.evaluate(OUTSIDE) == [])
    expect(page.locator("#compare")).to_be_focused(timeout=15_000)  # the box was empty
    page.keyboard.press("ArrowRight")
    expect(page.locator("#compare-undo")).to_be_visible(timeout=60_000)
    assert len(choices(home)) == before + 1
    page.keyboard.press("u")
    expect(page.locator("#compare-left")).to_be_enabled(timeout=60_000)
    assert len(choices(home)) == before
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_test_id("bot")).to_have_count(2, timeout=60_000)

    page.get_by_role("tab", name="Arena").click()
    expect(page.get_by_text("There is one version of the student yet")).to_be_visible(timeout=60_000)
    page.locator("#duel-prompt textarea").fill("Name a river.")
    page.keyboard.press("Enter")
    expect(page.locator("#duel-left")).to_be_enabled(timeout=60_000)
    eventually(lambda: page.evaluate(OUTSIDE) == [])
    expect(page.locator("#duel")).to_be_focused(timeout=15_000)
    page.keyboard.press("ArrowUp")
    expect(page.locator("#duel-about")).to_contain_text("You voted", timeout=60_000)
    expect(page.locator("#duel-next")).to_be_visible()
    page.keyboard.press("n")
    expect(page.locator("#duel-left")).to_be_enabled(timeout=60_000)


def test_an_address_leads_back_for_its_own_person_alone(two, browser):
    url, _ = two
    context = browser.new_context(locale="de-DE")
    page, _ = opened(context, url)
    say(page, "Name a lake.")
    page.wait_for_url("**c=*", timeout=60_000)
    done(page)
    first = page.url
    page.locator("#message textarea").fill("And another")
    page.reload()
    expect(page.get_by_test_id("user")).to_have_text("Name a lake.", timeout=60_000)
    expect(page.locator("#message textarea")).to_have_value("And another", timeout=60_000)

    page.locator("[data-tab-id=rounds]").click()
    expect(page.locator("#live")).to_be_visible(timeout=60_000)
    assert "tab=rounds" in page.url
    page.reload()
    expect(page.locator("#live")).to_be_visible(timeout=60_000)
    page.go_back()
    expect(page.locator("#message")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Seitenleiste").click()
    page.locator("#fresh").click()
    expect(page.get_by_test_id("user")).to_have_count(0, timeout=60_000)
    page.wait_for_url(lambda now: "c=" not in now)
    page.go_back()
    expect(page.get_by_test_id("user")).to_have_text("Name a lake.", timeout=60_000)
    page.go_forward()
    expect(page.get_by_test_id("user")).to_have_count(0, timeout=60_000)
    page.locator("#past a", has_text="Name a lake.").click()
    expect(page.get_by_test_id("user")).to_have_text("Name a lake.", timeout=60_000)
    assert page.url == first
    page.locator("#fresh").click()
    expect(page.get_by_test_id("user")).to_have_count(0, timeout=60_000)
    page.locator("#past a", has_text="Name a lake.").click()
    expect(page.get_by_test_id("user")).to_have_text("Name a lake.", timeout=60_000)

    stranger, _ = opened(browser.new_context(), first)
    stranger.wait_for_timeout(500)
    assert stranger.get_by_test_id("user").count() == 0
    stranger.evaluate(
        "const a = document.createElement('a'); a.href = location.search + '&'; document.body.append(a); a.click()"
    )
    expect(stranger.get_by_test_id("toast-body").last).to_contain_text("of yours", timeout=60_000)
    assert stranger.get_by_test_id("user").count() == 0


def test_a_correction_is_marked_and_taken_back_a_title_changes_and_formulas_are_set(two, browser):
    url, home = two
    db = home / "kdloop.db"
    page = ask(browser.new_context(), url, "Name a stone.")
    box = editor(page, page.get_by_role("button", name="Edit").last)
    assert box.bounding_box()["width"] > 900
    box.fill("A <b>quartz</b>.")
    page.get_by_role("log").get_by_role("button", name="Save").click()
    page.get_by_text("Corrected by you").click(timeout=60_000)
    expect(page.locator(".kd-fixed")).to_contain_text("A <b>quartz</b>.")
    page.get_by_role("link", name="Undo the correction").click()
    expect(page.get_by_text("Corrected by you")).to_have_count(0, timeout=60_000)
    mine = page.url.partition("c=")[2]
    assert [f for f in feedback.live_feedback(db) if f.channel == "edit"] == []

    turn = conversations.add_turn(db, mine, [{"role": "user", "content": "A formula?"}])
    said = "Costs $5 and $6, but $e=mc^2$ and $$x_1$$ <script>window.hacked=1</script>"
    conversations.add_completion(db, turn.id, "student", text=said, checkpoint_id=1)
    page.reload()
    expect(page.locator("#chat-log .katex-html")).to_have_count(2, timeout=60_000)
    assert "Costs $5 and $6, but " in page.get_by_test_id("bot").last.text_content()
    assert page.evaluate("window.hacked") is None

    page.get_by_role("button", name="Toggle Sidebar").click()
    page.get_by_role("button", name="Rename or delete this conversation").click()
    page.get_by_label("Its new title").fill("Stones & <i>gems</i>")
    page.get_by_label("Its new title").press("Enter")
    expect(page.locator("#past a[aria-current]")).to_have_text("Stones & <i>gems</i>", timeout=60_000)
    assert page.locator("#past li").first.get_attribute("data-day") == "today"

    page.get_by_role("button", name="Delete this conversation…").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#sure-erase_conversation")).to_be_hidden()
    page.get_by_role("button", name="Delete this conversation…").click()
    page.get_by_role("button", name="Delete “Stones & <i>gems</i>” for good (messages: 2, votes: 0)").click()
    expect(page.get_by_text("None yet: what you ask appears here")).to_be_attached()
    expect(page.get_by_test_id("user")).to_have_count(0)
    page.wait_for_url(lambda now: "c=" not in now)
    with pytest.raises(conversations.UnknownRow):
        conversations.turn(db, turn.id)


def test_an_own_message_is_asked_anew_as_a_branch_that_arrows_lead_to_and_back_from(two, browser):
    url, home = two
    page = ask(browser.new_context(), url, "Name a **bird**.")
    liked = page.locator("#chat-log [data-name=Liked]")
    page.locator("#chat-log [data-name=Like]").click()
    expect(liked).to_have_count(1)
    page.locator("#message textarea").fill("a draft")
    mine = page.get_by_test_id("user")
    said = page.get_by_test_id("bot").text_content()
    box = editor(page, page.locator("#chat-log [data-name=Edit]").first)
    expect(box).to_have_value("Name a **bird**.")
    save = page.get_by_role("log").get_by_role("button", name="Save")
    long = "Name a tree. " * 600
    box.fill(long)
    save.click()
    expect(page.get_by_test_id("toast-body").last).to_contain_text("too long for the student")
    expect(box).to_have_value(long)  # refused, it stays in its editor, and does so through a reload
    box.fill("Name a <b>tree</b>.")
    page.reload()
    expect(box).to_have_value("Name a <b>tree</b>.")
    save.click()
    page.locator("#compare-left").click()  # every second message has two answers
    expect(mine.first).to_have_text("Name a <b>tree</b>.‹ 2/2 ›")
    expect(page.get_by_test_id("bot")).to_have_count(1)
    expect(liked).to_have_count(0)
    expect(page.locator("#message textarea")).to_have_value("a draft")
    page.get_by_role("link", name="Show the version before").click()
    expect(mine.first).to_have_text("Name a **bird**.‹ 1/2 ›")
    expect(mine).to_have_count(1)
    expect(page.get_by_test_id("bot")).to_have_text(said)
    expect(liked).to_have_count(1)
    page.reload()
    expect(mine.first).to_have_text("Name a **bird**.‹ 1/2 ›")
    send(page, "And a smaller one?")
    done(page)
    db, conversation = home / "kdloop.db", page.url.partition("c=")[2]
    with connect(db) as c:
        last = c.execute("select prompt from turns where conversation_id = ? order by position desc", [conversation])
        said = [m["content"] for m in json.loads(last.fetchone()[0])]
    assert (said[0], said[-1], len(said)) == ("Name a **bird**.", "And a smaller one?", 3)
    page.get_by_role("link", name="Show the version after").click()
    expect(mine).to_have_count(1)
    expect(mine.first).to_have_text("Name a <b>tree</b>.‹ 2/2 ›")
    box = editor(page, page.locator("#chat-log [data-name=Edit]").first)
    expect(box).to_have_value("Name a <b>tree</b>.")
    page.get_by_role("log").get_by_role("button", name="Cancel").click()
    box = editor(page, page.locator("#chat-log [data-name=Edit]").last)
    page.get_by_role("link", name="Show the version before").click()
    expect(mine.first).to_have_text("Name a **bird**.‹ 1/2 ›")
    expect(box).to_have_count(0)  # of an answer that is not on the page any more


def test_focus_is_seen_targets_are_hit_and_an_answer_is_announced_once(two, browser):
    url, _ = two
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = ask(context, url, "Name a colour.")
    assert page.evaluate(SMALL, 32) == []
    assert page.evaluate("document.querySelector('.sidebar-content').inert")
    page.evaluate("document.querySelector('[data-tab-id=models]').click()")
    eventually(lambda: page.evaluate(SELECTED_TAB_SHOWN))
    page.evaluate("document.querySelector('[data-tab-id=chat]').click()")
    eventually(lambda: page.evaluate(SELECTED_TAB_SHOWN))
    like = page.locator("#chat-log [data-name=Like]")
    expect(like).to_have_attribute("aria-pressed", "false")
    like.click()
    expect(page.locator("#chat-log [data-name=Liked]")).to_have_attribute("aria-pressed", "true", timeout=60_000)
    page.locator(".toggle-button").click()
    page.locator("#past a").first.click()
    expect(page.locator(".sidebar")).not_to_have_class("open", timeout=60_000)
    eventually(lambda: page.evaluate("document.querySelector('.sidebar-content').inert"))

    wide, _ = opened(browser.new_context(), url)
    expect(wide.locator("#message textarea")).to_be_focused(timeout=60_000)
    assert wide.evaluate(SMALL, 24) == []
    heard = wide.evaluate_handle("""() => { const heard = [], said = document.querySelector("#kd-said");
      new MutationObserver(() => heard.push(said.textContent)).observe(said, {childList: true});
      new MutationObserver(() => { window.wasBusy ||= !!document.querySelector("[role=log][aria-busy=true]") })
        .observe(document.body, {subtree: true, attributes: true, attributeFilter: ["aria-busy"]});
      return heard; }""")
    say(wide, "Name a dance.")
    expect(wide.get_by_role("button", name="Like", exact=True)).to_be_visible(timeout=60_000)
    eventually(lambda: len(heard.json_value()) == 1)
    assert wide.evaluate("window.wasBusy") and wide.locator("[role=log]").get_attribute("aria-live") == "off"
    stops = []
    for _ in range(25):
        wide.keyboard.press("Tab")
        stops.append(wide.evaluate(HIDDEN_STOP))
    assert [s for s in stops if s] == []
    wide.get_by_role("tab", name="Chat").focus()
    wide.keyboard.press("ArrowRight")
    expect(wide.get_by_role("tab", name="Arena")).to_have_attribute("aria-selected", "true", timeout=60_000)
    assert wide.locator("[role=tab][tabindex='0']").count() == 1
