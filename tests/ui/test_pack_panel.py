"""The Admin tab's packs: what is shown of them, to owners alone, and what belongs beside answers."""

import json

import gradio as gr
import pytest
from gradio.context import LocalContext
from parts import learned_from

from kdloop import packs
from kdloop.evaluation import measure, pack_check, pack_install
from kdloop.settings import Settings
from kdloop.ui import pack_panel, transcript
from storage import audit, checkpoints, measurements, rounds
from storage.measurements import Measurement

MINE = {"name": "verified@times", "pack": "times"}
ANN, EVE = {"person": "owner of packs", "owner": "ann"}, {"person": "eve"}  # the pace is of each person


@pytest.fixture
def settings(db, monkeypatch):
    monkeypatch.setenv("KDLOOP_HOME", str(db.parent))
    return Settings(home=db.parent, host="0.0.0.0", admin_token="open sesame")


@pytest.fixture
def sent(tmp_path):
    """A file of tasks; the first is there twice, in two wordings."""
    prompts = ["What is 9 plus 1?", "what is 9 PLUS 1", *(f"What is {a} times {b}?" for a in range(20) for b in (2, 3))]
    answers = [10, 10, *(a * b for a in range(20) for b in (2, 3))]
    rows = ({"question": p, "answer": a} for p, a in zip(prompts, answers, strict=True))
    (tmp_path / "times.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(tmp_path / "times.jsonl")


def test_an_owner_installs_checks_and_removes_a_pack_and_a_visitor_does_not(settings, sent):
    about = "times", "cc0-1.0", "<b>Times</b>", "Reckon it again."
    shown, _, _ = pack_panel.opened(settings, ANN)
    assert pack_panel.NONE_OF_YOURS in shown and pack_panel.NOT_MEASURED.split(":")[0] in shown
    for act in (
        lambda who: pack_panel.opened(settings, who),
        lambda who: pack_panel.install(settings, sent, *about, who),
        lambda who: pack_panel.check(settings, "times", who),
        lambda who: pack_panel.what_goes(settings, "times", who),
        lambda who: pack_panel.remove(settings, "times", who),
    ):
        with pytest.raises(gr.Error, match="Sign in as the owner"):
            act(EVE)
    assert packs.installed() == []
    shown, chosen, *_ = pack_panel.install(settings, sent, *about, ANN)
    assert "&lt;b&gt;Times" in shown and chosen.value == "times" and pack_panel.NONE_OF_YOURS not in shown
    sizes = [len(packs.tasks("times", part)) for part in packs.PARTS]
    assert sum(sizes) == 41 and "".join(f"<td>{n}</td>" for n in sizes) + "<td>number</td><td>cc0-1.0</td>" in shown
    found = pack_panel.check(settings, "times", ANN)
    assert "times is sound" in found and "heldout.jsonl" in found and "200 to tell a difference" in found
    assert "Remove times: 41 prompts, 0 documents. What versions" in pack_panel.what_goes(settings, "times", ANN)
    with pytest.raises(gr.Error, match="comes with kdloop: it is not removed"):
        pack_panel.what_goes(settings, "sums", ANN)
    round = rounds.start_round(settings.db, requested="dpo", seed=1, started_by="test", owner="me", recipe=MINE)
    for act in (pack_panel.what_goes, pack_panel.remove):
        with pytest.raises(gr.Error, match=r"Round 1 uses the pack .*times.*: wait for its end, or cancel it first"):
            act(settings, "times", ANN)
    with pytest.raises(ValueError, match="Round 1 uses the pack"):
        pack_install.install(str(packs.place("times").folder))
    rounds.finish_round(settings.db, round.id, "rejected")
    pack_panel.remove(settings, "times", ANN)
    assert packs.installed() == []
    did = [(who, action, about) for _, who, action, about in audit.entries(settings.db)]
    assert did == [("ann", "removed a pack", "times"), ("ann", "installed a pack", "times")]


def test_the_failures_of_a_check_come_first_and_say_what_to_do(settings, sent):
    pack_panel.install(settings, sent, "times", "mit", "", "", ANN)
    held, train = (packs.place("times").folder / f"{part}.jsonl" for part in ("heldout", "train"))
    train.write_text(train.read_text() + held.read_text().splitlines()[0] + "\n")
    found = pack_panel.check(settings, "times", ANN)
    assert "times is not sound yet" in found and "remove it from train" in found
    assert 0 < found.index("to mend") < found.index("note")
    report = pack_check.check("times", None)
    token = LocalContext.request.set(gr.Request(headers={"accept-language": "de"}))
    found = pack_panel.findings(report)
    LocalContext.request.reset(token)
    assert "Leck: &#x27;What is" in found and "dieselbe Frage in heldout" in found and "entferne sie aus train" in found
    assert "ähnliche Fragen wurden nicht gesucht" in found and "leak" not in found


def test_a_share_is_shown_until_other_prompts_another_version_or_another_student_is_there(settings):
    checkpoints.know_student(settings.db, "a")
    asked, base = measure.asked("intents", 100), checkpoints.serving(settings.db)
    measured = [Measurement("intents", base.id, measure.digest(asked), len(asked), 42)]
    measurements.record(settings.db, "a", measured)
    row = next(one for one in pack_panel.pack_list.every(settings.db) if one.pack.name == "intents")
    assert row.shares == (0.42, 0.42) and "<td>42%</td></tr>" in pack_panel.row(row, "v0")
    assert "<td>42%</td><td>42%</td></tr>" in pack_panel.row(row, "v1")
    assert measure.share("science", measured[0]) is None, "these are other prompts"
    checkpoints.know_student(settings.db, "b")
    assert measurements.newest(settings.db, base.id) == {}


def test_what_a_pack_disclaims_stands_below_the_answers_of_who_learned_from_it(settings, sent):
    pack_panel.install(settings, sent, "law", "mit", "", "No *legal* <b>advice</b>.", ANN)
    assert transcript.authors(settings, EVE) == ""
    k = learned_from(settings.db, "law")
    assert transcript.authors(settings, EVE) == "", "it does not serve yet"
    checkpoints.promote(settings.db, k.id, k.round_id)
    assert "No &#42;legal&#42; &#60;b&#62;advice" in transcript.authors(settings, EVE)
