"""The Models tab and its kind: what is asked of one thing is never done to another, and is named before it is done."""

import gradio as gr
import pytest

from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.student.transformers import TransformersEngine
from kdloop.ui import imports, keys, models, offers, pack_panel, raters
from storage import audit, checkpoints
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
        offers.offer(settings, serving, base.id, "plain", eve)
    with pytest.raises(gr.Error, match="Choose a version first"):
        offers.offer(settings, serving, None, "plain", ann)
    with pytest.raises(gr.Error, match="Type the name first"):
        offers.offer(settings, serving, base.id, " ", ann)
    with pytest.raises(gr.Error, match="up to 40 characters"):
        offers.offer(settings, serving, base.id, "x" * 41, ann)
    offers.offer(settings, serving, base.id, "plain", ann)
    assert models.choices(settings) == [("v0 (serving, “plain”)", base.id)]
    shown = offers.shown(settings, "eve")
    assert shown.visible and shown.value == "" and [value for _, value in shown.choices] == ["", str(base.id)]
    offers.choose(settings, str(base.id), eve)
    assert offers.shown(settings, "eve").value == str(base.id)
    offers.choose(settings, "", eve)
    assert offers.shown(settings, "eve").value == ""
    offers.choose(settings, str(base.id), eve)
    offers.offer(settings, serving, base.id, "", ann)
    assert models.choices(settings) == [("v0 (serving)", base.id)] and not offers.shown(settings, "eve").visible
    with pytest.raises(gr.Error, match="no longer offered"):
        offers.choose(settings, str(base.id), eve)
    deeds = [action for _, _, action, _ in audit.entries(db)]
    assert deeds[:2] == ["ended the offer of a version", "offered a version in the chat"]
