"""Who is at the page, how fast, and who is its owner."""

import os
import time
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest

from kdloop.settings import Settings
from kdloop.ui import admin, choices, files, raters, rating, session, sidebar, teach, zerogpu
from kdloop.ui.transcript import assistant_message
from storage import checkpoints, conversations
from storage.conversations import as_prompt
from storage.database import open_database

VISITOR = gr.Request(client={"host": "203.0.113.9"}, headers={"x-forwarded-for": "10.0.0.1, 198.51.100.7"})


def test_a_forged_id_becomes_a_stranger_and_a_signed_one_stays(tmp_path):
    load = session.loader(Settings(home=tmp_path))
    token, state = load(None, None, VISITOR)
    assert load(token, None, VISITOR) == (token, state)
    forged = token.replace(state["person"], "0" * 24)
    assert load(forged, None, VISITOR)[1]["person"] not in (state["person"], "0" * 24)
    for junk in ("", "a.b", {"x": 1}, 7, "é.ü"):
        assert load(junk, junk, VISITOR)[1]["person"] and load(junk, junk, VISITOR)[1]["owner"] is None


def test_an_owners_session_is_theirs_expires_and_ends_everywhere_when_they_sign_out(db, monkeypatch):
    settings = Settings(home=db.parent, host="0.0.0.0", admin_token="open sesame")
    load = session.loader(settings)
    who, state = load(None, None, VISITOR)
    _, _, kept = admin.sign_in_as_owner(settings, "open sesame", state)
    copy = load(who, kept, VISITOR)[1]
    assert session.allowed(settings, copy) == "admin token", "after a reload"
    stranger = load(None, kept, VISITOR)[1]
    assert stranger["owner"] is None and not session.owns(settings, stranger), "another browser's"
    for forged in (
        kept[:-1] + ("1" if kept.endswith("0") else "0"),
        kept.replace(":", ":9", 1),
        who,
        {"a": 1},
        "x",
        kept.partition(".")[0],
    ):
        assert load(who, forged, VISITOR)[1]["owner"] is None
    other = replace(settings, admin_token="another")
    assert session.loader(other)(who, kept, VISITOR)[1]["owner"] is None, "the token has been changed"
    unset = replace(settings, admin_token="")
    assert session.loader(unset)(who, kept, VISITOR)[1]["owner"] is None

    now = time.time()
    with monkeypatch.context() as later:
        later.setattr(session.time, "time", lambda: now + 3600 * session.OWNER_HOURS + 2)
        assert load(who, kept, VISITOR)[1]["owner"] is None
        assert not session.owns(settings, dict(copy)), "nor where the page stayed open"
    assert session.owns(settings, load(who, kept, VISITOR)[1])
    assert admin.sign_out(settings, state) == (state, None)
    assert load(who, kept, VISITOR)[1]["owner"] is None, "a copied session, too"
    assert not session.owns(settings, copy), "nor in another tab"


def test_more_than_a_person_can_do_in_a_minute_is_refused_for_them_alone(tmp_path):
    hasty, calm = {"person": "hasty"}, {"person": "calm"}
    settings = Settings(home=tmp_path)
    for _ in range(settings.votes_a_minute):
        assert session.paced(settings, hasty, "votes") == "hasty"
    with pytest.raises(gr.Error, match="votes a minute: wait"):
        session.paced(settings, hasty, "votes")
    assert session.paced(settings, calm, "votes") and session.paced(settings, hasty, "messages")


def test_an_address_that_sends_ever_new_people_is_slowed_down_too(tmp_path):
    settings = Settings(home=tmp_path)
    most = session.PEOPLE_BEHIND_ONE_ADDRESS * settings.messages_a_minute
    for i in range(most):
        session.paced(settings, {"person": f"p{i}", "address": "192.0.2.1"}, "messages")
    with pytest.raises(gr.Error, match="messages a minute"):
        session.paced(settings, {"person": "another", "address": "192.0.2.1"}, "messages")
    assert session.paced(settings, {"person": "another", "address": "192.0.2.2"}, "messages")


def test_on_a_space_the_address_is_what_its_proxy_wrote_last():
    assert session.address(Settings(), VISITOR) == "203.0.113.9"
    assert session.address(Settings(space="ann/kdloop"), VISITOR) == "198.51.100.7"


@pytest.mark.parametrize(
    ("host", "admin_token", "given", "ok"),
    [
        ("127.0.0.1", "", None, True),
        ("0.0.0.0", "", None, False),
        ("0.0.0.0", "", "", False),
        ("0.0.0.0", "open sesame", "open sesame", True),
        ("0.0.0.0", "open sesame", "guess", False),
        ("127.0.0.1", "open sesame", None, False),
    ],
)
def test_who_may_start_rounds_and_roll_back(tmp_path, host, admin_token, given, ok):
    settings, state = Settings(home=tmp_path, host=host, admin_token=admin_token), {"person": "ann", "address": host}
    if ok:
        state = state if given is None else session.sign_in(settings, given, state)
        assert session.allowed(settings, state)
    else:
        with pytest.raises(gr.Error):
            session.allowed(settings, state if given is None else session.sign_in(settings, given, state))
    with pytest.raises(gr.Error, match="Reload"):
        session.allowed(settings, {"owner": "me"})


def test_tokens_cannot_be_guessed_in_a_hurry(tmp_path):
    settings, state = Settings(home=tmp_path, admin_token="right"), {"person": "eve", "address": "192.0.2.9"}
    for _ in range(session.PER_MINUTE["sign-ins"]):
        with pytest.raises(gr.Error, match="Wrong"):
            session.sign_in(settings, "guess", state)
    with pytest.raises(gr.Error, match="sign-ins a minute"):
        session.sign_in(settings, "right", state)


def test_the_hub_vouches_for_owners_on_a_space_only(tmp_path):
    ann = SimpleNamespace(username="ann")
    space = Settings(home=tmp_path, oauth=True, admins="ann, bob", host="0.0.0.0")
    assert session.loader(space)(None, None, VISITOR, ann)[1]["owner"] == "ann"
    assert session.loader(space)(None, None, VISITOR, SimpleNamespace(username="eve"))[1]["owner"] is None
    elsewhere = Settings(home=tmp_path, admins="ann")
    assert session.loader(elsewhere)(None, None, VISITOR, ann)[1]["owner"] is None


def test_what_was_handed_over_is_gone_after_an_hour_and_what_others_wrote_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "others").mkdir()
    old, new = files.fresh_path("a.json"), files.fresh_path("b.json")
    for path in (old, new, tmp_path / "others"):
        path.is_dir() or path.write_text("x")
    for path in (old.parent, tmp_path / "others"):
        os.utime(path, (0, 0))
    latest = files.fresh_path("b.json")
    assert not old.parent.exists() and new.exists() and latest.parent != new.parent and (tmp_path / "others").exists()


def test_copies_searches_and_undo_have_a_pace_too(tmp_path):
    settings = Settings(home=tmp_path)
    checkpoints.ensure_base(open_database(settings.db))
    turn = conversations.add_turn(settings.db, conversations.start_conversation(settings.db, "carl"), as_prompt("x"))
    id = conversations.add_completion(settings.db, turn.id, "student", text="y", checkpoint_id=1)
    state, page = {"person": "carl", "conversation": turn.conversation_id}, [assistant_message("y", id)]
    for act, what in (
        (lambda: sidebar.download(settings, state), "downloads"),
        (lambda: sidebar.titles(settings, "x", state), "searches"),
        (lambda: rating.undo(settings, page, state), "votes"),
    ):
        for _ in range(session.a_minute(settings, what)):
            act()
        with pytest.raises(gr.Error, match=f"{what} a minute"):
            act()
    with pytest.raises(gr.Error, match="votes a minute"):
        sidebar.allow(settings, True, state)
    assert sidebar.titles(settings, "", state), "the list after each answer is no search"


def test_what_may_follow_quickly_is_never_dropped_and_keeps_its_order(tmp_path):
    """A box ticked and unticked, the next pair's vote, another rater's weight. Gradio drops by default what comes while
    the listener's last event is on its way."""
    settings = Settings(home=tmp_path, zero_gpu=True)
    checkpoints.ensure_base(open_database(settings.db))
    with gr.Blocks() as page:
        state = gr.State({})
        zerogpu.build(settings, None, state, [])
        teach.build(settings, state)
        raters.build(settings, state)
        _, connect = choices.build(settings, state)
        connect(lambda state: None, [])
    how = {f.name: (f.trigger_mode, f.concurrency_limit) for f in page.fns.values()}
    quick = ("agree_replies", "agree_rounds", "teach", "fix", "raters", "save_settings")
    assert {how[name] for name in quick} == {("multiple", 1)}
    assert how["train_a_part"] == ("once", 1), "a second click is no second part"
