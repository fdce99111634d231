"""Who is at the page, and how fast."""

import gradio as gr
import pytest

from kdloop.settings import Settings
from kdloop.ui import session


def test_a_forged_id_becomes_a_stranger_and_a_signed_one_stays(tmp_path):
    load = session.loader(Settings(home=tmp_path))
    token, state = load(None)
    assert load(token) == (token, state)
    forged = token.replace(state["person"], "0" * 24)
    assert load(forged)[1]["person"] not in (state["person"], "0" * 24)
    for junk in ("", "a.b", {"x": 1}, 7, "é.ü"):
        assert load(junk)[1]["person"]


def test_more_than_a_person_can_do_in_a_minute_is_refused_for_them_alone():
    for _ in range(session.PER_MINUTE["votes"]):
        assert session.paced("hasty", "votes") == "hasty"
    with pytest.raises(gr.Error, match="votes a minute: wait"):
        session.paced("hasty", "votes")
    assert session.paced("calm", "votes") and session.paced("hasty", "messages")


@pytest.mark.parametrize(
    ("host", "admin_token", "given", "ok"),
    [
        ("127.0.0.1", "", "", True),
        ("0.0.0.0", "", "", False),
        ("0.0.0.0", "open sesame", "open sesame", True),
        ("0.0.0.0", "open sesame", "guess", False),
        ("127.0.0.1", "open sesame", None, False),
    ],
)
def test_who_may_start_rounds_and_roll_back(tmp_path, host, admin_token, given, ok):
    settings, state = Settings(home=tmp_path, host=host, admin_token=admin_token), {"person": "ann"}
    if ok:
        session.allowed(settings, state, given)
    else:
        with pytest.raises(gr.Error):
            session.allowed(settings, state, given)
    with pytest.raises(gr.Error, match="Reload"):
        session.allowed(settings, {}, given)
