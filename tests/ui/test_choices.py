"""What an owner changes while the app runs: it holds at once, is checked, is written down, and can be taken back."""

from types import SimpleNamespace

import gradio as gr
import pytest
from parts import Spoken

from kdloop.chat.turn import is_time_to_compare, stream
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import CHANGEABLE, Settings, change, current
from kdloop.ui import choices as panel
from kdloop.ui import consent, session, teach
from storage import audit, choices, conversations, feedback
from storage.conversations import as_prompt


@pytest.fixture
def settings(db, monkeypatch):
    for name in CHANGEABLE:
        monkeypatch.delenv(f"KDLOOP_{name.upper()}", raising=False)
    return Settings(home=db.parent)


def vote(db):
    turn = conversations.add_turn(db, conversations.start_conversation(db, "ann"), as_prompt("x"))
    kept = conversations.add_completion(db, turn.id, "student", text="y", checkpoint_id=1)
    feedback.add_feedback(db, turn.id, rater="ann", channel="thumb", chosen_id=kept)


def test_a_change_holds_at_once_wherever_the_setting_is_used(settings):
    vote(settings.db)
    supervisor = Supervisor(settings)
    assert supervisor.schedule.due() is None and not is_time_to_compare(settings, "bob")
    values = {"round_votes": 1, "compare_every": 1, "votes_a_minute": 1, "max_tokens": 40, "notice": "Be **kind**"}
    assert change(settings, values, "ann") == list(values)
    assert supervisor.schedule.due() == "votes" and is_time_to_compare(settings, "bob")
    assert "of the 1 that start" in teach.worth(settings) and consent.notice(settings).value == "Be **kind**"
    session.paced(settings, {"person": "bob"}, "votes")
    with pytest.raises(gr.Error, match="At most 1 votes a minute"):
        session.paced(settings, {"person": "bob"}, "votes")
    asked = []
    engine = Spoken(None)
    engine.stream = lambda prompt, sampling, seed, stop: asked.append(sampling.max_tokens) or iter(())
    turn = conversations.add_turn(settings.db, conversations.start_conversation(settings.db, "bob"), as_prompt("x"))
    list(stream(settings, engine, SimpleNamespace(id=1, name="v0"), turn, None))
    assert asked == [40]


def test_the_trainer_is_told_what_the_owner_set(settings, monkeypatch):
    change(settings, {"gate_prompts": 40, "idle_minutes": 0.5, "notice": "Be\0 kind"}, "ann")
    supervisor = Supervisor(settings)
    monkeypatch.setattr(supervisor, "command", lambda round: ["env"])
    supervisor.spawn(SimpleNamespace(id=1)).wait()
    told = (settings.home / "rounds" / "000001" / "trainer.log").read_text().splitlines()
    assert "KDLOOP_GATE_PROMPTS=40" in told and "KDLOOP_IDLE_MINUTES=0.5" in told
    monkeypatch.setenv("KDLOOP_IDLE_MINUTES", "0.5")
    monkeypatch.setenv("KDLOOP_DELEGATE_BELOW", "0.4")
    assert Settings.from_environment().idle_minutes == 0.5, "a fraction is read from the environment too"


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"round_votes": 2.5}, "round votes: give a whole number from 0 to 10000, not 2.5"),
        ({"round_votes": -1}, "round votes: give a whole number from 0"),
        ({"delegate_below": float("nan")}, "delegate below: give a number from 0 to 1, not nan"),
        ({"gate_prompts": "many"}, "gate prompts: 'many' is not a number"),
        ({"max_tokens": 1000}, "max tokens: at most half of the context of 1024 tokens"),
        ({"notice": "x" * 1001}, "notice: 1001 characters; at most 1000"),
        ({"admin_token": "x"}, "admin_token cannot be changed while the app runs"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_changes(settings, values, error):
    settings = Settings(home=settings.home, context_tokens=1024)
    with pytest.raises(ValueError, match=error):
        change(settings, {"compare_every": 3} | values, "ann")
    assert current(settings) == settings and audit.entries(settings.db) == []


def test_the_environment_wins_over_the_page_and_the_page_over_the_default(settings, monkeypatch):
    change(settings, {"round_votes": 5}, "ann")
    assert current(settings).round_votes == 5 and settings.round_votes == 36
    monkeypatch.setenv("KDLOOP_ROUND_VOTES", "9")
    started = Settings.from_environment(home=settings.home)
    assert current(started).round_votes == 9
    assert not panel.field(started, "round_votes", 9).interactive
    assert change(started, {"round_votes": 9, "compare_every": 3}, "ann") == ["compare_every"], "as the form sends it"
    with pytest.raises(ValueError, match="KDLOOP_ROUND_VOTES is set in the environment, which wins"):
        change(started, {"round_votes": 7}, "ann")


def test_every_change_is_written_down_and_taken_back_to_the_default(settings):
    change(settings, {"round_votes": 5, "notice": "Hello"}, "ann")
    assert change(settings, {"round_votes": 5, "notice": "Hello"}, "ann") == [], "as it was"
    change(settings, {"round_votes": 7}, "bob")
    assert change(settings, dict.fromkeys(CHANGEABLE), "bob") == ["round_votes", "notice"]
    assert current(settings) == settings and choices.chosen(settings.db) == {}
    assert [tuple(e)[1:] for e in reversed(audit.entries(settings.db))] == [
        ("ann", "set round_votes", "default → 5"),
        ("ann", "set notice", "default → Hello"),
        ("bob", "set round_votes", "5 → 7"),
        ("bob", "set round_votes", "7 → default"),
        ("bob", "set notice", "Hello → default"),
    ]


def test_the_panel_names_every_changeable_setting_and_belongs_to_the_owner(settings):
    assert set(panel.LABELS) == set(CHANGEABLE)
    stranger = {"person": "eve", "address": "192.0.2.1"}
    public = Settings(home=settings.home, host="0.0.0.0")
    for act in (lambda: panel.store(public, *panel.nothing(), stranger), lambda: panel.reset(public, stranger)):
        with pytest.raises(gr.Error, match="Sign in as the owner"):
            act()
