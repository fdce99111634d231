"""The Rounds tab: what everybody may read of a round, what only owners may, and every verdict's numbers."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape

import gradio as gr
import pytest

from kdloop.rounds import estimate, needs
from kdloop.rounds.process import log_file
from kdloop.rounds.progress import Clock
from kdloop.rounds.supervisor import Supervisor
from kdloop.rounds.training import CHOOSING_STEP_SIZE
from kdloop.settings import Settings
from kdloop.ui import loop
from kdloop.ui import rounds as tab
from storage import rounds

ERROR = "RuntimeError: /home/ann/kdloop/data cannot hold 'my secret prompt'"


@pytest.fixture
def failed(db):
    """Settings of a page that all can reach, and a round that broke."""
    settings = Settings(home=db.parent, host="0.0.0.0", admin_token="open sesame")
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    rounds.finish_round(db, round.id, "failed", error=ERROR)
    rounds.release_lease(db, "me")
    log_file(settings, round.id).parent.mkdir(parents=True)
    log_file(settings, round.id).write_text(f"Traceback\n{ERROR}\n")
    return settings


def test_every_refresh_is_given_the_round_and_who_asks(failed, recwarn):
    with gr.Blocks() as page:
        state = gr.State({})
        built = tab.build(failed, Supervisor(failed), state)
    refreshed = [f.inputs for f in page.fns.values() if built["outputs"][3] in f.outputs]
    assert refreshed == [built["inputs"]] * 4 and built["inputs"][2] is state
    assert [str(w.message) for w in recwarn if "arguments for function" in str(w.message)] == []


def shown(settings, who, which=tab.LATEST, recipe=""):
    """What the tab shows, by the name of what shows it."""
    names = [
        "which",
        "recipe",
        "every",
        "status",
        "about",
        "start",
        "cancel",
        "history",
        "page",
        "log",
        "usable",
        "again",
        "trial",
    ]
    return dict(zip(names, tab.fill(settings, which, recipe, who), strict=True))


VISITOR, OWNER = {"person": "eve"}, {"person": "ann", "owner": "ann"}


def test_why_a_round_broke_is_told_to_its_owner_alone(failed):
    seen = shown(failed, VISITOR)
    assert seen["history"]["verdict"][0] == loop.BROKE and (seen["log"].value, seen["log"].visible) == ("", False)
    assert loop.BROKE in seen["page"] and "secret" not in seen["page"]
    seen = shown(failed, OWNER)
    assert seen["history"]["verdict"][0] == ERROR and ERROR in seen["log"].value and seen["log"].visible
    assert escape(ERROR) in seen["page"]
    alone = Settings(home=failed.home)
    assert shown(alone, {"person": "ann"})["log"].visible, "who sits at the computer owns it"
    assert not shown(failed, {})["log"].visible


def test_every_round_has_a_page_with_its_loss_its_guards_and_texts_before_and_after(failed):
    for value, ok in ((0.25, True), (0.5, False)):
        round = rounds.start_round(failed.db, requested="auto", seed=1, started_by="test", owner="me")
        rounds.note_progress(failed.db, round.id, "training", 3, 4, loss=7 * value)
        guards = {"repetition rise": {"value": value, "limit": "<= 0.3", "ok": ok}}
        example = {"prompt": f"Why {value}?", "before": "Once `x`.", "after": "<i>now</i>"}
        verdict = {"reason": f"Because {value}", "guards": guards, "examples": [example]}
        rounds.advance(failed.db, round.id, "rejected", verdict=verdict, counts={"train": 9, "dropped": {"ties": 2}})
        rounds.release_lease(failed.db, "me")
        log_file(failed, round.id).parent.mkdir(parents=True)
        log_file(failed, round.id).write_text(f"value {value}\n")
    assert [id for _, id in tab.choices(failed, "the latest")] == [tab.LATEST, 3, 2, 1]
    latest, third, second = (shown(failed, OWNER, which) for which in (tab.LATEST, 3, 2))
    assert latest["page"] == third["page"] and "Because 0.5" in third["page"] and "Because 0.25" in second["page"]
    assert "kd-broken" in third["page"] and "kd-broken" not in second["page"]
    assert "0.25 share of trigrams" in second["page"] and "lower is better" in second["page"]
    assert "3,1.75" in second["page"] and "3,3.5" in third["page"], "the loss, also as CSV"
    assert "It trained on 9 examples" in second["page"] and "Not used: 2 ties." in second["page"]
    assert "<code>" in second["page"] and "<i>" not in second["page"], "a text's marks have looks, its tags have none"
    assert (second["log"].value, third["log"].value) == ("value 0.25", "value 0.5")
    assert shown(failed, OWNER, 99)["page"] == third["page"] and "Because" not in shown(failed, OWNER, 1)["page"]


def test_a_recipe_tells_what_it_needs_and_start_is_off_while_that_is_missing(failed, tmp_path, monkeypatch):
    visitor, owner = (shown(failed, who, recipe="constitution") for who in (VISITOR, OWNER))
    assert not visitor["start"].visible and "sign in on the Admin tab" in visitor["about"]
    assert owner["start"].visible and not owner["start"].interactive and "sign in" not in owner["about"]
    assert "KDLOOP_TEACHERS" in owner["about"] and "revisions are preferred" in owner["about"]
    assert "Missing: votes to learn from" in shown(failed, OWNER)["about"]
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    assert "requirements-packs.txt" in shown(failed, OWNER, recipe="verified")["about"]
    monkeypatch.undo()
    checked = shown(failed, OWNER, recipe="verified")
    assert checked["start"].interactive and "Missing" not in checked["about"] and "a guess" in checked["about"]
    with pytest.raises(gr.Error, match=r"a teacher whose terms allow training.*KDLOOP_TEACHERS"):
        tab.start_round(failed, Supervisor(failed), "constitution", OWNER)
    assert rounds.running_round(failed.db) is None
    broken = tmp_path / "teachers.toml"
    broken.write_text("[[teacher]")
    assert "Missing" in shown(replace(failed, teachers=str(broken)), OWNER, recipe="topics")["about"]


def test_an_installed_pack_can_be_chosen_with_the_recipes_that_it_suits(failed, monkeypatch):
    monkeypatch.setenv("KDLOOP_HOME", str(failed.home))
    (failed.home / "packs" / "birds").mkdir(parents=True)
    (failed.home / "packs" / "birds" / "pack.toml").write_text('about = "Birds {and} <b>bees</b>."\n')
    asked = {"prompt": "Which bird sings at night?", "answer": "A nightingale."}
    for part in ("train", "gate"):
        (failed.home / "packs" / "birds" / f"{part}.jsonl").write_text(json.dumps(asked) + "\n")
    offered = [value for _, value in shown(failed, OWNER)["recipe"].choices]
    assert {"references@birds", "references@intents", "references@additions", "verified@intents"} <= set(offered)
    assert not {"verified@birds", "references@general"} & set(offered), "they have no checks, no answers"
    seen = shown(failed, OWNER, recipe="references@birds")
    assert (
        "On the pack birds: Birds {and} &lt;b&gt;bees" in seen["about"]
        and "Missing: votes to judge by" in seen["about"]
    )
    seen = shown(failed, OWNER, recipe="references@intents")
    assert seen["recipe"].value == "references@intents" and seen["start"].interactive
    assert "What a customer of a shop wants" in seen["about"] and "Missing" not in seen["about"]


def test_cancel_is_there_while_a_round_runs_and_names_it(failed):
    assert not shown(failed, OWNER)["cancel"].visible
    round = rounds.start_round(failed.db, requested="auto", seed=1, started_by="test", owner="me")
    seen = shown(failed, OWNER, recipe="verified")
    assert seen["cancel"].visible and str(round.id) in seen["cancel"].value and not seen["start"].interactive
    assert not shown(failed, VISITOR)["cancel"].visible


def test_the_time_left_is_the_phases_steps_and_what_later_phases_took_before(failed):
    db = failed.db
    for seconds in ({"elicit": 60, "train": 300, "gate": 120}, {"elicit": 90, "train": 500, "gate": 100}):
        round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
        rounds.advance(db, round.id, "gating", seconds=seconds)
        rounds.finish_round(db, round.id, "rejected")
        rounds.release_lease(db, "me")
    other = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me", recipe={"name": "grpo"})
    guess = estimate.guessed({"name": "grpo"})
    assert "roughly 8 min, by a guess" in tab.live(failed), "no round of this recipe has ended"
    rounds.advance(db, other.id, "training")
    rounds.note_progress(db, other.id, "training", 0, 9)
    slow = {"created_at": (datetime.now(UTC) - timedelta(seconds=3 * (30 + guess["eliciting"]))).isoformat()}
    seconds, measured = estimate.seconds_left(db, replace(rounds.running_round(db), **slow))
    assert seconds == pytest.approx(3 * (guess["training"] + guess["gating"]), rel=0.05) and not measured
    rounds.note_progress(db, other.id, "training", 2, 9, eta_seconds=200)
    pace = 200 / (30 + guess["eliciting"] + guess["training"])
    seconds = estimate.seconds_left(db, other)[0]
    assert seconds == pytest.approx(200 + pace * guess["gating"], rel=0.05), "by its own pace"
    rounds.finish_round(db, other.id, "cancelled")
    rounds.release_lease(db, "me")
    running = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    assert "half a minute" in tab.live(failed) and "about 10 min" in tab.live(failed), "75 + 400 + 110 s"
    rounds.advance(db, running.id, "eliciting")
    rounds.note_progress(db, running.id, "eliciting", 40, 128, eta_seconds=30.0)
    assert "40/128" in tab.live(failed) and "about 9 min" in tab.live(failed)
    assert loop.learning_now(failed, running).startswith("[learning: sampling 40 of 128 · about 9 min](?tab=rounds")
    rounds.note_progress(db, running.id, "gating", 96, 128, eta_seconds=20.0)
    assert "less than a minute" in tab.live(failed)


def test_what_a_round_does_without_steps_is_said_instead_of_a_full_bar(db):
    settings = Settings(home=db.parent)
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    clock = Clock(db, round.id)
    with clock.phase("training"):
        clock.step(3, 12, 0.5)
        assert "3/12" in tab.live(settings)
        clock.note(CHOOSING_STEP_SIZE)
        assert CHOOSING_STEP_SIZE in tab.live(settings) and "12" not in tab.live(settings)
