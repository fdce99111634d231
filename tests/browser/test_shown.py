"""What is voted on, corrected or tried again is what the page shows; what is refused comes back; texts are whole."""

import re

import pytest
from pages import ask, check_log, eventually, opened, running, send
from parts import published
from playwright.sync_api import expect

from kdloop.student.transformers import TransformersEngine
from kdloop.ui.prose import one_newline
from storage import checkpoints, conversations, feedback, offers
from storage.database import connect, transaction

pytestmark = pytest.mark.slow
TEXTS = (  # by people and students alike: markup, prices, code, names
    "Use std::map<string, int> when x<y, y>z and <think> about </b> it",
    "<details><summary>More</summary><input value=7> <!-- hidden -->",
    "Pay $4 or $$5 now, \\(6\\) or $$7 later: %%%LATEX_BLOCK_0%%%",
    "#include <vector>\n# a comment\n    indented\n\ttabbed   wide",
    "2024. A year\n7) A number\n- a dash\n+ a plus\n> quoted\n---\n===",
    "def __init__(self, *args, **kwargs): return 2*3*4 ** 5 * 6",
    "[ref]: https://example.org 'title'\n[ref] [text](https://example.org/a_b_c) ~~gone~~ | a | b |",
    "C:\\temp\\*.txt \\# \\_ \\\\server &lt;b&gt; &nbsp; &#35; &copy;",
    "```c\n#define X <x>\n```\nafter ``` `two`` ticks",
    "\u05e9\u05dc\u05d5\u05dd: Hebrew reads x<y> from the right",
    "![pixel](http://127.0.0.1:9/p.png) <img src=http://127.0.0.1:9/q.png> <svg onload='window.hacked=1'>",
)

LEFT_OF_ENDS = """e => [0, e.firstChild.length - 1].map(at => {
  const range = document.createRange();
  range.setStart(e.firstChild, at); range.setEnd(e.firstChild, at + 1);
  return range.getBoundingClientRect().left;
})"""


@pytest.fixture(scope="module")
def tiny_app(tiny_student, tmp_path_factory):
    """(url, home) of an app whose student is quick: what it says is replaced where it matters."""
    home = tmp_path_factory.mktemp("shown")
    with running(home, KDLOOP_STUDENT=tiny_student, KDLOOP_ENGINE="transformers", KDLOOP_COMPARE_EVERY="0") as url:
        yield url, home
    check_log(home)


def completions(home, question) -> list[tuple[str, str]]:
    """(id, text) of the completions of a question, in their order."""
    with connect(home / "kdloop.db") as c:
        query = "select k.id, k.text from completions k join turns t on t.id = k.turn_id "
        query += "where json_extract(t.prompt, '$[#-1].content') = ? and k.author = 'student' order by k.rowid"
        return [tuple(r) for r in c.execute(query, [question])]


def about(home, question) -> list[tuple[str, int | None, int | None]]:
    """(channel, which completion was chosen, which rejected) of what stands on a question, in its order."""
    ids = [id for id, _ in completions(home, question)]
    rows = [f for f in feedback.live_feedback(home / "kdloop.db") if {f.chosen_id, f.rejected_id} & set(ids)]
    at = {id: n for n, id in enumerate(ids)}
    return [(f.channel, at.get(f.chosen_id), at.get(f.rejected_id)) for f in rows]


def button(page, name):
    return page.get_by_role("button", name=name, exact=True).last


def done(page):
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)


def shows(page, text):
    """Wait until the page's last answer is this one."""
    last = page.get_by_test_id("bot").locator(".kd-text").last
    eventually(lambda: last.text_content() == one_newline(text))


def again(page, home):
    """Try the last answer again, and wait until the page compares the new one: it may show a former comparison."""
    before = len(statuses(home))
    button(page, "Retry").click()
    eventually(lambda: len(now := statuses(home)) > before and now[-1] != "open")
    with connect(home / "kdloop.db") as c:
        (newest,) = c.execute("select text from completions order by rowid desc limit 1").fetchone()
    eventually(lambda: page.locator("#compare-second .kd-text").text_content() == one_newline(newest))
    expect(page.get_by_role("button", name="The first is better")).to_be_visible(timeout=60_000)
    done(page)


def improve(page, text):
    if not page.get_by_label("A better answer", exact=True).is_visible():
        page.get_by_role("button", name="Rate or improve the last answer").click()
    page.get_by_label("A better answer", exact=True).fill(text)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_label("A better answer", exact=True)).to_have_value("", timeout=60_000)


def test_after_a_choice_and_a_retry_everything_is_about_the_retried_answer(tiny_app, browser):
    url, home = tiny_app
    page = ask(browser.new_context(), url, "Name a fruit.")
    button(page, "Like").click()
    expect(button(page, "Liked")).to_be_visible()
    eventually(lambda: about(home, "Name a fruit.") == [("thumb", 0, None)])
    again(page, home)
    expect(page.get_by_role("button", name="Liked", exact=True)).to_have_count(0)
    page.get_by_role("button", name="The first is better").click()
    expect(button(page, "Liked")).to_be_visible(timeout=60_000)
    again(page, home)
    button(page, "Dislike").click()
    eventually(lambda: ("thumb", None, 2) in about(home, "Name a fruit."))
    improve(page, "A quince.")
    eventually(lambda: ("edit", None, 2) in about(home, "Name a fruit."))
    page.get_by_role("button", name="Undo", exact=True).click()
    eventually(lambda: about(home, "Name a fruit.") == [("thumb", 0, None), ("choice", 0, 1), ("thumb", None, 2)])

    send(page, "And another?")
    done(page)
    with connect(home / "kdloop.db") as c:
        query = "select json_extract(prompt, '$[1].content') from turns order by rowid desc limit 1"
        assert c.execute(query).fetchone()[0] == completions(home, "Name a fruit.")[2][1]
    page.get_by_role("button", name="Dislike", exact=True).first.click()  # the second turn's; the first's is pressed
    eventually(lambda: about(home, "And another?") == [("thumb", None, 0)])


def test_a_retry_then_a_choice_and_two_retries(tiny_app, browser):
    url, home = tiny_app
    page = ask(browser.new_context(), url, "Name a tree.")
    again(page, home)
    again(page, home)
    page.get_by_role("button", name="The first is better").click()
    eventually(lambda: about(home, "Name a tree.") == [("choice", 1, 2)])
    shows(page, completions(home, "Name a tree.")[1][1])
    button(page, "Like").click()
    eventually(lambda: ("thumb", 1, None) in about(home, "Name a tree."))
    button(page, "Edit").click()
    page.get_by_role("log").locator("textarea").last.fill("An oak.")
    page.get_by_role("log").get_by_role("button", name="Save").click()
    eventually(lambda: ("edit", None, 1) in about(home, "Name a tree."))
    page.reload()
    expect(page.locator("#header")).to_contain_text("v0", timeout=60_000)
    expect(button(page, "Liked")).to_be_visible(timeout=60_000)
    button(page, "Liked").click()
    eventually(lambda: about(home, "Name a tree.") == [("choice", 1, 2), ("edit", None, 1)])


def test_a_tab_that_is_behind_rates_and_corrects_what_it_shows(tiny_app, browser):
    url, home = tiny_app
    context = browser.new_context()
    behind = ask(context, url, "Name a bird.")
    ahead, _ = opened(context, url)
    ahead.get_by_role("button", name="Toggle Sidebar").click()
    ahead.locator("#past").get_by_role("link", name="Name a bird.").click()
    expect(ahead.get_by_test_id("bot")).to_have_count(1, timeout=60_000)
    ahead.get_by_role("button", name="Toggle Sidebar").click()
    again(ahead, home)
    send(ahead, "Where does it live?")
    done(ahead)

    button(behind, "Dislike").click()
    eventually(lambda: about(home, "Name a bird.") == [("thumb", None, 0)])
    improve(behind, "A kestrel.")
    eventually(lambda: ("edit", None, 0) in about(home, "Name a bird."))
    button(behind, "Retry").click()
    expect(behind.get_by_test_id("toast-body").last).to_contain_text("went on elsewhere", timeout=60_000)
    done(behind)
    assert about(home, "Where does it live?") == [] and len(completions(home, "Name a bird.")) == 2
    expect(behind.get_by_test_id("bot")).to_have_count(2, timeout=60_000)  # as it is by now
    button(behind, "Dislike").click()
    eventually(lambda: about(home, "Where does it live?") == [("thumb", None, 0)])


def test_what_is_refused_comes_back_and_the_page_goes_on(tiny_student, browser, tmp_path):
    pace = {"KDLOOP_MESSAGES_A_MINUTE": "4", "KDLOOP_VOTES_A_MINUTE": "1"}
    student = {"KDLOOP_STUDENT": tiny_student, "KDLOOP_ENGINE": "transformers", "KDLOOP_COMPARE_EVERY": "0"}
    with running(tmp_path, **student, **pace) as url:
        page, _ = opened(browser.new_context(), url)
        box, toast = page.get_by_role("textbox", name="Message"), page.get_by_test_id("toast-body")
        long = "word, " * 1300 + "end"
        box.fill(long)
        box.press("Enter")
        expect(toast.last).to_contain_text("too long for the student", timeout=60_000)
        assert not page.locator("#header").get_by_text("Error").is_visible(), "the header goes on telling the counts"
        done(page)
        expect(box).to_have_value(long)
        expect(page.get_by_test_id("user")).to_have_count(0)
        with connect(tmp_path / "kdloop.db") as c:
            assert c.execute("select count(*) from conversations").fetchone()[0] == 0
        for n, question in enumerate(("One.", "Two."), start=1):
            send(page, question)
            expect(page.get_by_test_id("bot")).to_have_count(n, timeout=60_000)
            done(page)
        again(page, tmp_path)
        box.fill("Three.")
        box.press("Enter")
        expect(toast.last).to_contain_text("4 messages a minute: wait", timeout=60_000)
        done(page)
        expect(box).to_have_value("Three.")
        expect(page.get_by_test_id("user")).to_have_count(2)
        button(page, "Retry").click()
        done(page)
        button(page, "Like").click()
        expect(button(page, "Liked")).to_be_visible()
        eventually(lambda: len(feedback.live_feedback(tmp_path / "kdloop.db")) == 1)
        button(page, "Dislike").click()
        expect(toast.filter(has_text="1 votes a minute")).to_be_visible(timeout=60_000)
        expect(button(page, "Liked")).to_be_visible(timeout=60_000)  # what is stored


def test_no_message_is_lost_and_none_is_voted_on_while_an_answer_is_written(tiny_student, browser, tmp_path):
    student = {"KDLOOP_STUDENT": tiny_student, "KDLOOP_ENGINE": "transformers", "KDLOOP_COMPARE_EVERY": "0"}
    with running(tmp_path, **student, KDLOOP_MAX_TOKENS="1800") as url:
        page, _ = opened(browser.new_context(), url)
        box = page.get_by_role("textbox", name="Message")
        page.get_by_role("button", name="Toggle Sidebar").click()
        send(page, "Tell me a story.")
        expect(page.get_by_test_id("bot")).to_have_count(1, timeout=60_000)
        assert page.get_by_role("button", name="Like", exact=True).count() == 0
        expect(page.locator("#chat-log [data-name=Edit]").first).to_be_hidden()  # Gradio loses a click on it
        box.fill("Meanwhile.")
        box.press("Enter")
        expect(page.get_by_test_id("toast-body").last).to_contain_text("still waits for its answer", timeout=60_000)
        expect(box).to_have_value("Meanwhile.")
        page.locator("#fresh").click()
        eventually(lambda: "open" not in statuses(tmp_path))
        assert statuses(tmp_path) == ["stopped"]
        done(page)
        expect(page.get_by_test_id("user")).to_have_count(0)
        expect(box).to_have_value("Meanwhile.")
        box.press("Enter")
        eventually(lambda: statuses(tmp_path) == ["stopped", "open"], 30)  # stopped before, it would come back
        page.get_by_role("button", name="Stop").click()
        done(page)
        expect(button(page, "Like")).to_be_visible(timeout=60_000)
        expect(page.locator("#chat-log [data-name=Edit]").first).to_be_visible()
        expect(page.get_by_test_id("user")).to_have_text("Meanwhile.")


def statuses(home) -> list[str]:
    with connect(home / "kdloop.db") as c:
        return [r[0] for r in c.execute("select status from completions order by rowid")]


def test_every_character_is_shown_edited_and_copied_and_nothing_is_fetched(tiny_app, browser):
    url, home = tiny_app
    db, context = home / "kdloop.db", browser.new_context()
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = ask(context, url, "Show me.")
    with connect(db) as c:
        (conversation,) = c.execute("select id from conversations where title = 'Show me.'").fetchone()
    for text in TEXTS:
        turn = conversations.add_turn(db, conversation, [{"role": "user", "content": text}])
        conversations.add_completion(db, turn.id, "student", text=text, checkpoint_id=1)
    page.reload()
    expect(page.locator("#header")).to_contain_text("v0", timeout=60_000)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    expect(page.get_by_test_id("bot")).to_have_count(1 + len(TEXTS), timeout=60_000)
    expect(page.get_by_test_id("bot").last).to_contain_text("pixel", timeout=60_000)
    for who in ("user", "bot"):
        shown = page.get_by_test_id(who).locator(".kd-text").evaluate_all("all => all.map(e => e.textContent)")
        assert shown[1:] == list(TEXTS), who
    read = page.get_by_test_id("user").nth(4).inner_text()
    assert read.splitlines() == TEXTS[3].splitlines(), "lines and indents too"
    for who in ("user", "bot"):
        x = page.get_by_test_id(who).nth(len(TEXTS) - 1).locator(".kd-text").evaluate(LEFT_OF_ENDS)
        assert x[0] > x[1], "its first letter stands right of its last one"
    page.get_by_role("button", name="Toggle Sidebar").click()
    button(page, "Edit").click()
    expect(page.get_by_role("log").locator("textarea").last).to_have_value(TEXTS[-1])
    page.get_by_role("button", name="Cancel").last.click()
    button(page, "Copy message").click()
    eventually(lambda: page.evaluate("navigator.clipboard.readText()") == TEXTS[-1])
    assert [u for u in asked if not u.startswith(url)] == [] and page.evaluate("window.hacked") is None


def test_the_page_says_which_votes_a_round_can_use_before_it_starts(tiny_app, browser):
    url, home = tiny_app
    page = ask(browser.new_context(), url, "Name a river.")
    with transaction(home / "kdloop.db") as c:
        c.execute("delete from feedback")
    again(page, home)
    page.get_by_role("button", name="Equally good").click()
    eventually(lambda: len(feedback.live_feedback(home / "kdloop.db")) == 1)
    page.get_by_role("tab", name="Rounds").click()
    usable = page.locator("#usable")
    expect(usable).to_contain_text("Of 1 votes a round can learn from 0", timeout=60_000)
    expect(usable).to_contain_text("Not used: 1 ties.")
    expect(usable).to_contain_text("too little for a round")


def test_a_version_that_the_owner_offers_is_chosen_above_the_chat_and_answers(tiny_app, tiny_student, browser):
    url, home = tiny_app
    version = published(home / "kdloop.db", TransformersEngine(tiny_student))
    checkpoints.reject(home / "kdloop.db", version.id, version.round_id)
    context = browser.new_context()
    page, errors = opened(context, f"{url}/?tab=models")
    expect(page.locator("#who-answers")).to_be_hidden()
    page.locator("#version input").click()
    page.get_by_role("option", name=version.name).click()
    name = page.get_by_label("Offer this version in the chat, by this name")
    name.fill("Short answers")
    name.press("Enter")
    expect(page.get_by_text("Offered in the chat: Short answers")).to_be_visible()
    page, more = opened(context, url)
    page.locator("#who-answers input").click()
    page.get_by_role("option", name="Short answers").click()
    expect(page.get_by_text("From your next message on")).to_be_visible()
    send(page, "Who are you?")
    done(page)
    page.reload()
    expect(page.locator("#who-answers input")).to_have_value(re.compile("Short answers"))
    with connect(home / "kdloop.db") as c:
        (by,) = c.execute("select checkpoint_id from completions order by rowid desc limit 1").fetchone()
    assert by == version.id
    offers.withdraw(home / "kdloop.db", version.id)
    assert errors == more == []
