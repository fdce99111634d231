"""The Rounds tab: what everybody may read of a round, what only owners may, and every verdict's numbers."""

import gradio as gr
import pytest

from kdloop.rounds.process import log_file
from kdloop.rounds.progress import Clock
from kdloop.rounds.run import CHOOSING_STEP_SIZE
from kdloop.rounds.supervisor import Supervisor
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
    refreshed = [f.inputs for f in page.fns.values() if built["outputs"][1] in f.outputs]
    assert refreshed == [built["inputs"]] * 4 and built["inputs"][1] is state
    assert [str(w.message) for w in recwarn if "arguments for function" in str(w.message)] == []


def test_why_a_round_broke_is_told_to_its_owner_alone(failed):
    shown = tab.fill(failed, tab.LATEST, {"person": "eve"})
    history, log = shown[3], shown[5]
    assert history["verdict"][0] == loop.BROKE and (log.value, log.visible) == ("", False)
    history, log = (tab.fill(failed, tab.LATEST, {"person": "ann", "owner": "ann"})[i] for i in (3, 5))
    assert history["verdict"][0] == ERROR and ERROR in log.value and log.visible
    alone = Settings(home=failed.home)
    assert tab.fill(alone, tab.LATEST, {"person": "ann"})[5].visible, "who sits at the computer owns it"
    assert not tab.fill(failed, tab.LATEST, {})[5].visible


def test_every_rounds_guards_can_be_read_not_the_last_ones_alone(failed):
    for value in (0.25, 0.5):
        round = rounds.start_round(failed.db, requested="auto", seed=1, started_by="test", owner="me")
        guards = {"mean words": {"value": value, "limit": "<= 1", "ok": True}}
        rounds.advance(failed.db, round.id, "rejected", verdict={"reason": "", "guards": guards})
        rounds.release_lease(failed.db, "me")
    assert [id for _, id in tab.judged(failed, "the latest")] == [tab.LATEST, 3, 2]
    assert [tab.guard_table(failed, which)["value"][0] for which in (tab.LATEST, 3, 2)] == ["0.5", "0.5", "0.25"]
    assert tab.guard_table(failed, 1).empty


def test_what_a_round_does_without_steps_is_said_instead_of_a_full_bar(db):
    settings = Settings(home=db.parent)
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    clock = Clock(db, round.id)
    with clock.phase("training"):
        clock.step(3, 12, 0.5)
        assert "3/12" in tab.live(settings)
        clock.note(CHOOSING_STEP_SIZE)
        assert CHOOSING_STEP_SIZE in tab.live(settings) and "12" not in tab.live(settings)


def test_the_losses_axes_are_numbers_before_the_first_round(db):
    """The page keeps the kinds of axes that it was built with: those of words would sort losses like names."""
    plot = gr.LinePlot(tab.loss_table(Settings(home=db.parent)), x="step", y="loss")
    assert plot.value["datatypes"] == {"step": "quantitative", "loss": "quantitative"}
