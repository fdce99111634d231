"""More people than the student can answer at once, and nobody at all."""

import time

import psutil
import pytest
from load import run

pytestmark = pytest.mark.slow


def process_of(app) -> psutil.Process:
    return next(c for c in psutil.Process().children() if "app.py" in " ".join(c.cmdline()))


def test_an_app_that_nobody_uses_leaves_the_computer_to_others(app):
    """CPU seconds of ten: 0.5 where Gradio looks for events a thousand times a second."""
    process = process_of(app)
    time.sleep(5)
    before = process.cpu_times()
    time.sleep(10)
    after = process.cpu_times()
    assert after.user + after.system - before.user - before.system < 0.45


def test_no_vote_is_lost_and_nobody_sees_an_error_when_many_come_at_once(app):
    url, home = app
    seen = run(url, home / "kdloop.db", process_of(app), people=8, seconds=15)
    assert seen["voted"] == seen["votes stored"] == seen["answered"] == seen["asked"] >= 8
    assert seen["longest queue"] > 2
    assert [k for k in seen if k.startswith(("error", "refused", "no answer"))] == []
