"""The real app in a process of its own, and what a person does on its page."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from kdloop import packs
from kdloop.evaluation.bench.app_process import free_port
from storage import checkpoints, conversations, feedback, rounds
from storage.conversations import as_prompt
from storage.database import connect, open_database

ROOT = Path(__file__).parent.parent.parent
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")  # the shell takes a third of the others' CPU
CHROMIUM = next(filter(None, [os.environ.get("KDLOOP_CHROMIUM"), *map(shutil.which, BROWSERS)]), None)
HOSTILE = (
    "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
    "${window.hacked=1}{{window.hacked=1}}[x](javascript:window.hacked=1)"
)
PRIVATE = "plinth-of-eve"
expect.set_options(timeout=60_000)  # a busy machine's pages are late, and what never comes fails all the same


@lru_cache
def forks() -> subprocess.Popen:
    """One a worker; it ends as its input does, with this process."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "tests.browser.forks"], cwd=ROOT, **pipes)


def ask_forks(**asked):
    print(json.dumps(asked), file=forks().stdin, flush=True)
    return json.loads(forks().stdout.readline())


@contextmanager
def running(home: Path, script: str = "", **environment):
    """The URL of an app on `home`, forked (forks.py) or started by a script; it must end in order."""
    port = environment.get("KDLOOP_PORT") or free_port()
    env = os.environ | {"KDLOOP_HOME": str(home), "KDLOOP_PORT": str(port), "KDLOOP_MAX_TOKENS": "24"} | environment
    log = home / "app.log"
    if script:
        with log.open("wb") as out:
            process = subprocess.Popen([sys.executable, script], cwd=ROOT, env=env, stdout=out, stderr=out)
        pid, ended = process.pid, process.poll
    else:
        pid = ask_forks(env=env, log=str(log))
        ended = partial(ask_forks, ended=pid)
    (home / "app.pid").write_text(str(pid))
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx.get(url + "/healthz", timeout=1).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.5)
        else:
            pytest.fail(log.read_text())
        yield url
    finally:  # a failed test's app would go on computing beside all that follow
        os.kill(pid, signal.SIGTERM)
        status = first_of(ended, 30)
    assert status == 0, f"the app ended with {status}:\n{log.read_text()}"


def check_log(home: Path) -> None:
    """No error of a handler, and nothing that anybody has said (docs/api.md)."""
    log = (home / "app.log").read_text()
    assert "Traceback" not in log, log
    with connect(home / "kdloop.db") as c:
        said = [json.loads(text)[-1]["content"] for (text,) in c.execute("select prompt from turns")]
        said += [r[0] for r in c.execute("select text from completions union select critique from feedback")]
    assert not [text for text in said if len(text) > 12 and text in log], log


def first_of(found, seconds: float):
    """What is found first that is not None; None after the time."""
    deadline = time.monotonic() + seconds
    while (value := found()) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return value


def fill_with_hostile_text(db: Path) -> None:
    """A life before the test: eve's chat, a refused round, and pairs to check."""
    open_database(db)
    base = checkpoints.ensure_base(db)
    started = rounds.start_round(db, requested="auto", seed=1, started_by="hand", owner="test")
    for person, question in (("eve", f"{PRIVATE} {HOSTILE}"), ("round 1", packs.prompts("general", "train")[0])):
        turn = conversations.add_turn(db, conversations.start_conversation(db, person, question), as_prompt(question))
        first, second = (
            conversations.add_completion(db, turn.id, "student", text=HOSTILE + end, checkpoint_id=base.id)
            for end in (" one", " two")
        )
        source = {"eve": "human"}.get(person, "preference_model")
        feedback.add_feedback(
            db, turn.id, rater=person, channel="ranking" if source != "human" else "choice", chosen_id=first,
            rejected_id=second, source=source, critique=HOSTILE, score=None if source == "human" else 0.6,
        )  # fmt: skip
    outcome = {"n": 64, "wins": 20, "losses": 20, "ties": 24, "win_rate": 0.5, "ci95": [0.4, 0.6]}
    verdict = outcome | {
        "passed": False,
        "reason": HOSTILE,
        "judged_by": HOSTILE,
        "against_base": outcome,
        "guards": {"mean words": {"value": 40, "limit": HOSTILE, "ok": True}},
        "examples": [{"prompt": HOSTILE, "before": HOSTILE, "after": HOSTILE}],
    }
    candidate = checkpoints.publish(
        db, started.id, lambda d: (d / "weights").write_text("w"), parent_id=base.id, method="dpo", seed=1, metrics={}
    )
    checkpoints.reject(db, candidate.id, started.id, verdict=verdict, why=HOSTILE, method="dpo")
    rounds.release_lease(db, "test")


def eventually(check, seconds=60):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.2)


def opened(context, url):
    """A page that has loaded, and its list of errors."""
    page, errors = context.new_page(), []
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.goto(url)
    expect(page.locator("#header")).to_contain_text("v0", timeout=60_000)
    return page, errors


def ask(context, url, question):
    """A page on which one question has been asked and answered."""
    page, _ = opened(context, url)
    send(page, question)
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)
    return page


def send(page, question):
    """And see that it is under way: a quick reply may have come to its end before anybody sees the button that stops
    it, and of one that waits in the queue nothing else is there."""
    box, asked = page.get_by_role("textbox", name="Message"), page.get_by_test_id("user")
    mine = asked.nth(asked.count())
    box.fill(question)
    box.press("Enter")
    expect(mine.or_(page.get_by_role("button", name="Stop")).first).to_be_visible()


def editor(page, pencil):
    """The box in which a message of the chat is written anew. Its pencil is clicked until the box is there: right after
    an answer Gradio scrolls down once more, and a click may miss."""
    box = page.get_by_role("log").locator("textarea")
    eventually(lambda: box.count() or pencil.click())
    return box
