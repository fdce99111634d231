"""More people than the student can answer at once."""

import psutil
import pytest
from load import run

pytestmark = pytest.mark.slow


def test_no_vote_is_lost_and_nobody_sees_an_error_when_many_come_at_once(app):
    url, home = app
    process = psutil.Process(int((home / "app.pid").read_text()))
    seen = run(url, home / "kdloop.db", process, people=6, seconds=5)
    assert [seen.get(k) for k in ("voted", "votes stored", "answered")] == [seen["asked"]] * 3 and seen["asked"] >= 6
    assert seen["longest queue"] > 2
    assert [k for k in seen if k.startswith(("error", "refused", "no answer"))] == []
