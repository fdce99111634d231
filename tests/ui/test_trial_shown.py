"""What the page says of a trial: the empty state, evidence as it grows, how it ended, and the alarm."""

import re
from itertools import count

import pytest

from kdloop import packs
from kdloop.feedback import collect
from kdloop.gate import trial as gate
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.ui import admin, arena, chat, learning, loop, models, rounds, teach, trial
from storage import checkpoints, conversations, feedback, trials
from storage import rounds as stored
from storage.conversations import as_prompt

NUMBER = count()
TALLY = "People: 9 to 3, ties: 0. Evidence"


@pytest.fixture
def settings(db):
    return Settings(home=db.parent)


def challenge(db, mode="trial"):
    round = stored.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    stored.release_lease(db, "me")
    k = checkpoints.publish(
        db, round.id, lambda d: (d / "w").write_text("x"), parent_id=1, method="dpo", seed=1, metrics={}
    )
    outcomes = {"wins": 15, "losses": 5, "ties": 0, "win_rate": 0.75, "ci95": [0.6, 0.9], "judged_by": "a model"}
    verdict = {"reason": "On trial: 15 wins", "n": 20, "guards": {}, **outcomes}
    return checkpoints.promote(db, k.id, round.id, mode, verdict=verdict)


def said(db, question, person, checkpoint=1):
    turn = conversations.add_turn(db, conversations.start_conversation(db, person), as_prompt(question))
    return conversations.add_completion(db, turn.id, "student", text="so", checkpoint_id=checkpoint)


def pair(db, question=None, person="ann"):
    now = trials.running(db)
    turn = conversations.add_turn(
        db, conversations.start_conversation(db, person), as_prompt(question or f"{next(NUMBER)}?")
    )
    ids = [
        conversations.add_completion(db, turn.id, "student", text=f"{k}", checkpoint_id=k)
        for k in (now.challenger, now.champion)
    ]
    trials.offer(db, now.id, *ids)
    return ids


def compare(db, choices):
    for choice in choices:
        collect.choose(db, "ann", *pair(db), choice)


def test_before_the_first_version_nothing_is_said(settings):
    assert trial.panel(settings) == trial.line(settings) == ""


def test_the_empty_state_says_what_to_do(settings):
    challenge(settings.db)
    said = trial.panel(settings)
    assert "v1 is on trial: it answers already, and v0 comes back" in said
    assert re.search(r"compare \d+ answers in the Arena", said) and "<svg" in said


def test_evidence_is_shown_as_it_grows_on_every_tab(settings):
    challenge(settings.db)
    compare(settings.db, ["left"] * 5 + ["right", "tie"])
    found = gate.evidence(settings.db, trials.running(settings.db), False)[-1]
    said = f"People: 5 to 1, ties: 1. Evidence {found.better:.1f} of 20. Compare"
    state = {"person": "ann"}
    assert said in learning.fill(settings)[0] and said in rounds.fill(settings, rounds.LATEST, "", state)[-1]
    state["duel"] = pair(settings.db)
    assert "People: 6 to 1" in arena.vote(settings, "left", state)[-2]
    assert "People: 6 to 1" in arena.undo(settings, state)[-2], "the names were told before"
    points = re.findall(r"<title>(.*?)</title>", trial.panel(settings))
    assert points[0] == "0:0" and points[-1] == "6:1" and len(points) == 9
    assert "on trial" in rounds.fill(settings, rounds.LATEST, "", state)[7]["status"].tolist()
    assert "the next round" in rounds.fill(settings, rounds.LATEST, "", state)[10].lower()
    compare(settings.db, ["right"] * 6)
    assert "Evidence against it" in trial.panel(settings)


def test_who_voted_hears_once_what_came_of_it_and_all_hear_how_people_decide(settings):
    db, ann = settings.db, {"person": "ann"}
    rows = {"ann": [], "bob": []}
    for person in (*["ann"] * 4, "bob"):
        id = said(db, f"{next(NUMBER)}?", person=person)
        collect.thumb(db, person, id, True)
        rows[person].append(feedback.live_feedback(db)[-1].id)
    assert not loop.news(settings, None, ann)[0].visible
    k = challenge(db, "judge")
    stored.use_feedback(db, k.round_id, rows["ann"][:3], [rows["ann"][3], *rows["bob"]])
    row, text, close, told = loop.news(settings, None, ann)
    learned = '<p>v1 learned from 3 of your votes: <a href="?tab=learning">see before and after</a></p>'
    assert (row.visible, text, close.visible, told) == (True, learned, True, k.round_id)
    assert loop.news(settings, told, ann)[1] == learned, "until it is put away"
    loop.put_away(settings, ann)
    assert loop.news(settings, told, ann)[1] == loop.news(settings, told, {"person": "ann"})[1] == "", "once"
    assert "v1 was judged by 1 of your votes:" in loop.news(settings, None, {"person": "bob"})[1]
    assert loop.news(settings, None, {"person": "eve"})[1] == "", "who gave it no vote"

    challenge(db)
    compare(db, ["left", "left", "right", "left"] * 3)
    row, text, close, _ = loop.news(settings, told, {"person": "eve"})
    found = gate.evidence(db, trials.running(db), False)[-1].better
    assert row.visible and not close.visible and 1 < found < 20
    assert f"v2 is on trial: it answers already, and v1 comes back if people prefer that. {TALLY} {found:.1f}" in text
    assert '<a href="?tab=arena">compare in the Arena</a>' in text


def test_where_others_can_open_the_page_nobody_decides_alone_and_it_is_said(settings):
    challenge(settings.db)
    compare(settings.db, ["left"] * 30)
    public = Settings(home=settings.home, host="0.0.0.0")
    assert trial.LEFT_OUT in trial.panel(public) and "Evidence 1.0 of 20" in trial.panel(public)
    assert trial.LEFT_OUT not in trial.panel(settings) and trial.ALMOST in trial.panel(settings)


@pytest.mark.parametrize(
    ("choice", "end", "decided"),
    [("left", "confirmed by people over v0", "confirmed"), ("right", "rolled back by people to v0", "rolled back")],
)
def test_how_a_trial_ended_stays_to_be_read(settings, choice, end, decided):
    k = challenge(settings.db)
    compare(settings.db, [choice] * 9)
    gate.settle(settings.db, False)
    said = trial.panel(settings)
    assert f"v1 was {end}" in said and "<svg" in said and trial.line(settings) == ""
    shown = models.versions(settings)
    assert f"{decided} by people" in shown["decided by"].tolist()
    assert trial.decided_by(settings)[k.id] == f"{decided} by people"


def test_what_the_judge_alone_has_promoted_is_labelled_everywhere(settings):
    challenge(settings.db, "judge")
    assert "v1 was promoted by the judge alone" in trial.panel(settings)
    assert "by the judge alone" in chat.header(settings, Supervisor(settings))
    assert "by the judge alone" in models.versions(settings)["decided by"].tolist()
    assert learning.fill(settings)[3]["decided by"].tolist() == ["by the judge alone"]


def test_the_header_says_that_the_version_is_on_trial_and_when_the_next_round_is(settings):
    challenge(settings.db)
    assert "**v1** · learned from **0** votes · on trial · next round after the trial" in chat.header(
        settings, Supervisor(settings)
    )


def test_a_challenger_that_waits_can_be_served_by_hand(settings):
    k = challenge(settings.db, "confirm")
    assert ("candidate 2 (candidate)", k.id) in models.choices(settings)
    assert "v0 answers until people have confirmed it" in trial.panel(settings)
    checkpoints.serve(settings.db, 1)
    assert "The owner has ended the trial" in trial.panel(settings)


def test_the_pairs_of_a_trial_come_first_on_the_teach_tab_and_it_is_said_what_they_decide(settings):
    db, (first, second, third) = settings.db, packs.prompts("general", "train")[:3]
    for question, by in ((first, "preference_model"), (second, "preference_model")):
        turn = conversations.add_turn(db, conversations.start_conversation(db, "round 0"), as_prompt(question))
        ids = [conversations.add_completion(db, turn.id, "student", text=t, checkpoint_id=1) for t in ("a", "b")]
        feedback.add_feedback(
            db, turn.id, rater="m", channel="ranking", source=by, chosen_id=ids[0], rejected_id=ids[1], score=0.51
        )
    challenge(db)
    ids = pair(db, third, "round 1")
    turn = conversations.completion(db, ids[0]).turn_id
    feedback.add_feedback(
        db,
        turn,
        rater="m",
        channel="ranking",
        source="preference_model",
        chosen_id=ids[0],
        rejected_id=ids[1],
        score=0.9,
    )
    state = {"person": "ann"}
    _, question, _, about, *_ = teach.fill(settings, state)
    assert question.value == third and teach.ON_TRIAL in about
    teach.vote(settings, "left", state["teach"][0], state)
    assert len(trials.votes(db, trials.running(db).id)) == 1
    assert teach.ON_TRIAL not in teach.fill(settings, {"person": "bob"})[3], (
        "it is judged: others see other pairs first"
    )


def test_thumbs_alarm_on_the_learning_and_admin_tabs(settings):
    k = challenge(settings.db)
    for checkpoint, liked, n in ((1, True, 25), (k.id, False, 12)):
        for _ in range(n):
            collect.thumb(settings.db, "ann", said(settings.db, "Why?", "ann", checkpoint), liked)
    for told in (learning.fill(settings)[0], admin.fill(settings, {"person": "ann"})[4]):
        assert "Alarm: v1 is liked in 0 of 12 thumbs, v0 was in 25 of 25" in told and 'role="alert"' in told
    public = Settings(home=settings.home, host="0.0.0.0")
    assert admin.fill(public, {"person": "eve"})[4] == ""
