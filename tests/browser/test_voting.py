"""Arena and Teach by the keyboard, in headless Chromium: every vote, what is told before it, and no second one."""

from difflib import SequenceMatcher

import pytest
from pages import eventually, opened, running, send
from playwright.sync_api import expect

from kdloop import packs
from storage import checkpoints, conversations, feedback
from storage.conversations import as_prompt
from storage.database import connect

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny_app(tiny_student, tmp_path_factory):
    """(url, home) of an app whose student is quick: what it says does not matter here."""
    home = tmp_path_factory.mktemp("voting")
    with running(home, KDLOOP_STUDENT=tiny_student, KDLOOP_COMPARE_EVERY="0") as url:
        yield url, home


def test_thumbs_given_in_quick_succession_all_count_and_the_last_one_holds(tiny_app, browser):
    """However late their requests come, and in whatever order."""
    url, home = tiny_app
    page, errors = opened(browser.new_context(), url)
    for question in ("Name a tree.", "Name a stone."):
        send(page, question)
        expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
    held = []

    def hold(route):
        thumbed = "liked" in ((route.request.post_data_json or {}).get("event_data") or {})
        held.append(route) if thumbed else route.continue_()

    page.route("**/queue/join**", hold)
    page.get_by_role("button", name="Like", exact=True).first.click()
    page.get_by_role("button", name="Liked", exact=True).first.click()
    page.get_by_role("button", name="Dislike", exact=True).last.click()
    for _ in range(300):
        if len(held) == 3:
            break
        page.wait_for_timeout(200)
    liked, taken_back, disliked = held
    for route in (taken_back, liked, disliked):
        with page.expect_response("**/queue/join**", timeout=60_000):
            route.continue_()
    expect(page.get_by_role("button", name="Disliked", exact=True)).to_be_visible(timeout=60_000)
    eventually(lambda: len(thumbs(home)) == 1)
    assert thumbs(home) == [(False, "Name a stone.")] and errors == []
    expect(page.get_by_role("button", name="Liked", exact=True)).to_have_count(0, timeout=60_000)


def test_what_is_asked_while_the_stream_is_being_closed_is_shown(tiny_app, browser):
    """The message that ends the stream comes late, and the next vote is on its way before it."""
    context = browser.new_context()
    context.add_init_script(LATE_CLOSE)
    page, errors = opened(context, tiny_app[0])
    send(page, "Name a cloud.")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    page.get_by_role("button", name="Like", exact=True).click()
    expect(page.locator("#saved-text")).to_contain_text("Saved")
    page.get_by_role("button", name="Dislike", exact=True).click()
    expect(page.locator("#reasons")).to_be_visible()  # the page has heard of it
    expect(page.get_by_role("button", name="Disliked", exact=True)).to_be_visible()
    assert errors == []


LATE_CLOSE = """(() => {
  const fetched = window.fetch, encode = text => new TextEncoder().encode(text);
  window.fetch = async (...asked) => {
    const reply = await fetched(...asked);
    if (!String(asked[0].url || asked[0]).includes("/queue/data")) return reply;
    const late = new TransformStream({async transform(chunk, out) {
      const text = new TextDecoder().decode(chunk), at = text.search(/data: [^\\n]*"close_stream"/);
      if (at < 0) return out.enqueue(chunk);
      if (at) out.enqueue(encode(text.slice(0, at)));
      await new Promise(done => setTimeout(done, 3000));
      out.enqueue(encode(text.slice(at)));
    }});
    return new Response(reply.body.pipeThrough(late), {headers: reply.headers});
  };
})()"""


def thumbs(home) -> list[tuple[bool, str]]:
    """(liked, prompt) of those that stand."""
    db = home / "kdloop.db"
    rows = [f for f in feedback.live_feedback(db) if f.channel == "thumb"]
    return [(bool(f.chosen_id), conversations.turn(db, f.turn_id).prompt[-1]["content"]) for f in rows]


def votes(home) -> list[tuple]:
    """(chosen completion, rejected one, score) of people's choices that stand, oldest first."""
    rows = [f for f in feedback.live_feedback(home / "kdloop.db") if f.channel == "choice" and f.source == "human"]
    return [(f.chosen_id, f.rejected_id, f.score) for f in rows]


def sides(page, home, question) -> list[str]:
    """The completions that stand left and right, by what is most like their texts: a random student writes what is
    rendered as lists, formulas, or nothing."""
    with connect(home / "kdloop.db") as c:
        query = "select k.id, k.text from completions k join turns t on t.id = k.turn_id "
        query += "where json_extract(t.prompt, '$[#-1].content') = ? order by k.rowid desc limit 2"
        known = [tuple(row) for row in c.execute(query, [question])]
    shown = [page.locator(f"#duel-{side} .kd-text").text_content() for side in ("first", "second")]
    alike = [[SequenceMatcher(None, text, at).ratio() for at in shown] for _, text in known]
    first = int(alike[1][0] + alike[0][1] > alike[0][0] + alike[1][1])
    return [known[first][0], known[1 - first][0]]


def duel(page, question):
    """Ask by the keyboard alone."""
    voting = page.locator("#duel-left").and_(page.locator(":enabled"))
    expect(voting).to_have_count(0, timeout=60_000)  # it knows of the last vote
    page.locator("#duel-prompt textarea").fill(question)
    page.keyboard.press("Enter")
    expect(page.locator("#duel-left")).to_be_enabled(timeout=60_000)
    expect(page.locator("#duel")).to_be_focused(timeout=60_000)  # else the keys are the prompt's


def test_nothing_says_who_wrote_which_answer_before_the_one_vote(tiny_app, browser):
    url, home = tiny_app
    page, errors = opened(browser.new_context(), url)
    page.get_by_role("tab", name="Arena").click()
    sent = []

    def listen(route):
        answer = route.fetch(timeout=60_000)
        sent.append(answer.text())
        route.fulfill(response=answer)

    page.route("**/queue/data**", listen)
    duel(page, "Name a colour.")
    page.unroute("**/queue/data**")
    assert "which answer is better?" in sent[-1], "what was listened to is the duel"
    for private in ("v0", "candidate", "checkpoint", *ids(home)):
        assert private not in "".join(sent), private

    page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.evaluate("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', repeat: true}))")
    page.wait_for_timeout(500)
    assert votes(home) == []
    page.keyboard.press("ArrowRight")
    told = "You voted: The second is better. The first was v0, the second was v0."
    expect(page.locator("#duel-about")).to_have_text(told, timeout=60_000)
    assert len(votes(home)) == 1

    vote_again(page)
    assert len(votes(home)) == 1
    expect(page.locator("#duel-undo")).to_be_visible()
    page.keyboard.press("u")
    expect(page.locator("#duel-about")).to_contain_text("nothing is learned", timeout=60_000)
    vote_again(page)
    assert votes(home) == [] and errors == []


def ids(home) -> list[str]:
    with connect(home / "kdloop.db") as c:
        return [
            r[0] for table in ("completions", "turns", "conversations") for r in c.execute(f"select id from {table}")
        ]


def vote_again(page):
    """As somebody would who knows how pages work: the button is disabled."""
    expect(page.locator("#duel-left")).to_be_disabled()
    page.keyboard.press("ArrowLeft")
    page.evaluate("const b = document.getElementById('duel-left'); b.disabled = false; b.click(); b.disabled = true")
    expect(page.get_by_test_id("toast-body").last).to_contain_text("No duel to vote on", timeout=60_000)
    page.get_by_role("button", name="Close").last.click()


def test_each_arrow_votes(tiny_app, browser):
    url, home = tiny_app
    page, _ = opened(browser.new_context(), url)
    page.get_by_role("tab", name="Arena").click()
    duel(page, "Name a fruit.")
    left, right = sides(page, home, "Name a fruit.")
    page.keyboard.press("ArrowLeft")
    eventually(lambda: votes(home)[-1:] == [(left, right, None)])
    duel(page, "Name a river.")
    left, right = sides(page, home, "Name a river.")
    page.keyboard.press("ArrowUp")
    eventually(lambda: votes(home)[-1:] == [(left, right, 0.5)])
    before = votes(home)
    duel(page, "Name a bird.")
    left, right = sides(page, home, "Name a bird.")
    page.keyboard.press("ArrowDown")
    eventually(lambda: votes(home)[len(before) :] == [(None, left, None), (None, right, None)])


def test_teach_takes_votes_skips_and_better_answers_from_the_keyboard(tiny_app, browser):
    url, home = tiny_app
    db = home / "kdloop.db"
    pairs = [compared(db, question, 0.6 + i / 10) for i, question in enumerate(packs.prompts("general", "train")[:3])]
    page, errors = opened(browser.new_context(), url)
    page.get_by_role("tab", name="Teach").click()
    expect(page.locator("#teach")).to_contain_text("Pairs that wait: 3", timeout=60_000)
    page.locator("#teach").click()
    before = said(db)
    page.keyboard.press("ArrowDown")
    expect(page.locator("#teach")).to_contain_text("Pairs that wait: 2", timeout=60_000)
    page.keyboard.press("ArrowUp")
    expect(page.locator("#teach")).to_contain_text("The AI rater had chosen", timeout=60_000)
    assert said(db)[len(before) :] == [("choice", pairs[1])]

    page.keyboard.press("e")
    page.keyboard.type("Take two eggs.")
    page.keyboard.press("Shift+Enter")
    expect(page.locator("#teach")).to_contain_text("the student will learn from your answer", timeout=60_000)
    assert said(db)[len(before) :] == [("choice", pairs[1]), ("edit", pairs[2])]
    page.get_by_role("button", name="Undo the last vote").click()
    expect(page.locator("#teach")).to_contain_text("nothing is learned", timeout=60_000)
    assert said(db)[len(before) :] == [("choice", pairs[1])] and errors == []


def compared(db, question, sure) -> str:
    """A pair for the queue; its turn."""
    turn = conversations.add_turn(db, conversations.start_conversation(db, "round 1", question), as_prompt(question))
    base = checkpoints.serving(db).id
    chosen, rejected = (
        conversations.add_completion(db, turn.id, "student", text=f"{end} answer", checkpoint_id=base)
        for end in ("one", "another")
    )
    said = {"chosen_id": chosen, "rejected_id": rejected, "score": sure, "source": "preference_model"}
    feedback.add_feedback(db, turn.id, rater="model", channel="ranking", **said)
    return turn.id


def said(db) -> list[tuple[str, str]]:
    return [(f.channel, f.turn_id) for f in feedback.live_feedback(db)]
