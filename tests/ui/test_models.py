"""The Models tab and its kind: what is asked of one thing is never done to another, and is named before it is done."""

from types import SimpleNamespace

import gradio as gr
import pytest
from test_camps import PAIRS
from test_camps import vote as taste

from kdloop.feedback import collect
from kdloop.feedback.examples import from_feedback, votes_of_people
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.student.transformers import TransformersEngine
from kdloop.ui import imports, keys, models, offers, pack_panel, raters
from storage import audit, checkpoints, conversations, people
from storage import keys as stored_keys

BUILDS = {
    "serve_version": lambda settings, state: models.build(settings, None, state),
    "erase_person": raters.build,
    "revoke_key": keys.build,
    "import_undo": imports.build,
    "pack_remove": pack_panel.build,
}


@pytest.mark.parametrize("name", BUILDS)
def test_choosing_something_else_takes_back_the_question(db, name):
    with gr.Blocks() as page:
        BUILDS[name](Settings(home=db.parent), gr.State({}))
    (sure,) = (b for b in page.blocks.values() if b.elem_id == f"sure-{name}")
    assert sure.variant == "stop" and not sure.visible
    (act,) = (f for f in page.fns.values() if (sure._id, "click") in f.targets)
    hiding = [f for f in page.fns.values() if sure in f.outputs and len(f.inputs) == 0]
    assert [[b.visible for b in f.fn()] for f in hiding] == [[False, False]]
    assert (act.inputs[0]._id, "change") in hiding[0].targets and act.outputs[-2:] == hiding[0].outputs


def test_a_visitor_sees_where_to_sign_in_in_place_of_what_owners_do(db):
    settings = Settings(home=db.parent, host="0.0.0.0", admin_token="open sesame")
    owners, sign_in = models.opened(settings, {"person": "eve"})[-2:]
    assert not owners.visible and sign_in.visible and "?tab=admin" in sign_in.value
    owners, sign_in = models.opened(settings, {"person": "ann", "owner": "ann"})[-2:]
    assert owners.visible and not sign_in.visible


def test_what_will_be_gone_is_named_to_owners_alone(db):
    settings, ann = Settings(home=db.parent, host="0.0.0.0", admin_token="open sesame"), {"person": "a", "owner": "ann"}
    base = checkpoints.serving(db)
    assert "v0 answers" in models.what_serves(settings, base.id, ann)
    stored_keys.new_key(db, "my <b>program", 5, False, "ann")
    assert "my <b>program" in keys.what_ends(settings, "my <b>program", ann)
    for describe, about in (
        (models.what_serves, base.id),
        (keys.what_ends, "my <b>program"),
        (raters.what_goes, "eve"),
        (pack_panel.what_goes, "general"),
    ):
        with pytest.raises(gr.Error, match="Sign in as the owner"):
            describe(settings, about, {"person": "eve"})
        with pytest.raises(gr.Error, match="Choose a"):
            describe(settings, "nothing", ann)


def test_owners_offer_a_version_and_each_person_chooses(db, tiny_student):
    settings = Settings(home=db.parent, host="0.0.0.0", admin_token="open sesame")
    serving, ann, eve = (
        Serving(db, lambda: TransformersEngine(tiny_student)),
        {"person": "a", "owner": "ann"},
        {"person": "eve"},
    )
    base = checkpoints.serving(db)
    assert not offers.shown(settings, "eve").visible
    with pytest.raises(gr.Error, match="Sign in as the owner"):
        models.offer(settings, serving, base.id, "plain", eve)
    with pytest.raises(gr.Error, match="Choose a version first"):
        models.offer(settings, serving, None, "plain", ann)
    with pytest.raises(gr.Error, match="Type the name first"):
        models.offer(settings, serving, base.id, " ", ann)
    with pytest.raises(gr.Error, match="up to 40 characters"):
        models.offer(settings, serving, base.id, "x" * 41, ann)
    models.offer(settings, serving, base.id, "plain", ann)
    assert models.choices(settings) == [("v0 (serving, “plain”)", base.id)]
    shown = offers.shown(settings, "eve")
    assert shown.visible and shown.value == "" and [value for _, value in shown.choices] == ["", str(base.id)]
    offers.choose(settings, str(base.id), eve)
    assert offers.shown(settings, "eve").value == str(base.id)
    offers.choose(settings, "", eve)
    assert offers.shown(settings, "eve").value == ""
    offers.choose(settings, str(base.id), eve)
    models.offer(settings, serving, base.id, "", ann)
    assert models.choices(settings) == [("v0 (serving)", base.id)] and not offers.shown(settings, "eve").visible
    with pytest.raises(gr.Error, match="no longer offered"):
        offers.choose(settings, str(base.id), eve)
    deeds = [action for _, _, action, _ in audit.entries(db)]
    assert deeds[:2] == ["ended the offer of a version", "offered a version in the chat"]


OWNER = {"person": "a", "owner": "ann"}
CAMPS = {"less": ("lea", "leo"), "more": ("mia", "max")}


@pytest.fixture
def camps(db):
    """Settings of a home where four people have said opposite things of the same pairs, and eve, who is blocked, the
    same as two of them."""
    base = checkpoints.serving(db).id
    for i in range(16):
        e = taste(i * 7 % PAIRS, "", True)
        turn = conversations.add_turn(db, conversations.start_conversation(db, "round 1"), e.prompt)
        sides = [
            conversations.add_completion(db, turn.id, "student", text=k.text, checkpoint_id=base) for k in e.completions
        ]
        for person in (*CAMPS["less"], *CAMPS["more"], "eve"):
            collect.prefer(db, person, turn.id, *sides, "left" if person in CAMPS["less"] else "right")
    people.set_weight(db, "eve", 0)
    people.set_weight(db, "mia", 0.5)
    return Settings(home=db.parent, host="0.0.0.0", admin_token="open sesame")


def press(button, settings, state):
    return raters.ON_CAMPS[raters.choice(SimpleNamespace(target=SimpleNamespace(elem_id=button)))](settings, state)


def weights(settings):
    return {r.person: r.weight for r in people.raters(settings.db)}


def test_of_two_camps_one_is_chosen_and_undo_gives_back_what_that_took_and_nothing_else(camps):
    db, state, before = camps.db, dict(OWNER), weights(camps)
    assert before == {"lea": 1, "leo": 1, "mia": 0.5, "max": 1, "eve": 0}
    assert len(votes_of_people(db)) == 64, "each, and none of who is blocked"
    *_, told, first, second, undo, _ = press("camps-look", camps, state)
    assert "Two camps" in told and "less length" in told and "more length" in told and "eve" not in told
    assert first.visible and second.visible and not undo.visible
    mine = state["camps"].first.people
    other = CAMPS["more" if set(mine) == set(CAMPS["less"]) else "less"]
    *_, told, first, second, undo, _ = press("camps-0", camps, state)
    assert weights(camps) == before | dict.fromkeys(other, 0) and "set aside of the other: 2" in told
    assert not first.visible and undo.visible
    assert {e.rater for e in votes_of_people(db)} == set(mine)
    deeds = [(who, did, about) for _, who, did, about in audit.entries(db)]
    assert sorted(deeds) == sorted(("ann", "set a rater's weight to 0", person) for person in other)
    assert raters.fill(camps)[-1].visible, "after a reload, too"
    *_, told, _, _, undo, _ = press("camps-undo", camps, state)
    assert weights(camps) == before and told == "" and not undo.visible
    press("camps-look", camps, state)
    press("camps-0", camps, state)
    people.set_weight(db, other[0], 0.3)
    people.erase(db, other[1])
    assert not raters.fill(camps)[-1].visible, "by hand is by hand, and who is erased does not come back"
    press("camps-undo", camps, state)
    assert weights(camps) == {p: w for p, w in (before | {other[0]: 0.3}).items() if p != other[1]}
    people.erase(db, other[0])
    *_, told, first, _, _, _ = press("camps-look", camps, state)
    assert told.startswith("<p>No two people") and not first.visible


def test_camps_are_for_owners_who_have_looked(camps):
    before = weights(camps)
    for button in raters.ON_CAMPS:
        with pytest.raises(gr.Error, match="Sign in as the owner"):
            press(button, camps, {"person": "eve", "camps": None})
    for button in ("camps-0", "camps-1", "camps-9", None):
        with pytest.raises(gr.Error, match="Look for camps first"):
            press(button, camps, dict(OWNER))
    assert weights(camps) == before and raters.nothing()[2] == "" and not raters.nothing()[-1].visible
    people.set_weight(camps.db, "mia", 1)
    assert from_feedback(camps.db).train == from_feedback(camps.db).held_out == [], "two against two: merged, nothing"
