"""A thought on the page: it grows in an open fold, is folded once the answer begins, and is in no edit box."""

import pytest
from pages import editor, eventually, opened, running, send
from parts import thinker
from playwright.sync_api import expect

from storage import feedback
from storage.conversations import Completion, as_prompt
from storage.database import connect

pytestmark = pytest.mark.slow

QUESTION, SAID = "Where does the river end?", "In the sea."
THOUGHT = (
    "A river <b>flows</b> & falls. Its source lies high up among the hills, where rain and melting snow feed it, and "
    "on its way down it takes in brooks, then towns, mills, and barges; at last a wide, flat, muddy mouth with gulls."
)


@pytest.fixture(scope="module")
def thinking(tmp_path_factory):
    told = Completion("", "", "student", 1, SAID, thought=THOUGHT)
    return thinker("qwen3", tmp_path_factory.mktemp("thinker"), as_prompt(QUESTION), told)


# A thought may be over before a test looks: the page itself notes each state of its fold.
FOLDS_SEEN = """
() => {
  window.seen = []
  const note = () => document.querySelectorAll("details.kd-thought").forEach(fold => {
    const state = (fold.open ? "open: " : "closed: ") + fold.querySelector("summary").textContent
    if (!window.seen.includes(state)) window.seen.push(state)
  })
  new MutationObserver(note).observe(document.body, {subtree: true, childList: true, attributes: true})
}
"""


def answers(home) -> list[tuple]:
    with connect(home / "kdloop.db") as c:
        return [tuple(r) for r in c.execute("select status, text, thought from completions order by created_at")]


def test_a_thought_is_folded_and_the_answer_alone_is_rated_and_edited(thinking, browser, tmp_path):
    how = {"KDLOOP_STUDENT": thinking, "KDLOOP_THINKING": "on", "KDLOOP_COMPARE_EVERY": "0"}
    with running(tmp_path, KDLOOP_MAX_TOKENS="900", **how) as url:
        page, errors = opened(browser.new_context(), url)
        page.evaluate(FOLDS_SEEN)
        send(page, QUESTION)
        fold = page.locator("details.kd-thought")
        expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
        ((status, text, thought),) = answers(tmp_path)
        assert status == "finished" and text and len(thought) > 99
        assert page.evaluate("window.seen")[0] == "open: Thinking…"
        expect(fold).not_to_have_attribute("open", "")
        expect(fold.locator("summary")).to_have_text("Thought")
        expect(page.get_by_test_id("bot").last).to_contain_text(text)
        assert page.locator("details.kd-thought b").count() == 0, "its tags are text"
        fold.locator("summary").click()
        expect(fold).to_have_attribute("open", "")
        assert thought in fold.inner_text()

        page.get_by_role("button", name="Like", exact=True).last.click()
        eventually(lambda: len(feedback.live_feedback(tmp_path / "kdloop.db")) == 1)
        box = editor(page, page.get_by_role("button", name="Edit").last)
        expect(box).to_have_value(text)
        box.fill("Into the sea.")
        page.get_by_role("log").get_by_role("button", name="Save").click()
        eventually(lambda: answers(tmp_path)[-1] == ("finished", "Into the sea.", ""))
        assert errors == []


def test_stop_and_a_cut_within_a_thought_leave_no_answer(thinking, browser, tmp_path):
    how = {"KDLOOP_STUDENT": thinking, "KDLOOP_THINKING": "on", "KDLOOP_COMPARE_EVERY": "0"}
    with running(tmp_path, KDLOOP_MAX_TOKENS="40", **how) as url:
        page, errors = opened(browser.new_context(), url)
        send(page, QUESTION)
        expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
        ((status, text, thought),) = answers(tmp_path)
        assert (status, text) == ("cut", "") and thought
        expect(page.locator("#authors")).to_contain_text("cut at its length before it answered")
        page.get_by_role("button", name="Like", exact=True).last.click()
        expect(page.get_by_text("Only a completion that the student has finished can be rated")).to_be_visible()
        assert feedback.live_feedback(tmp_path / "kdloop.db") == [] and errors == []
