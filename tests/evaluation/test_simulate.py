"""`python -m kdloop simulate`, with a small random student."""

import json

import pytest
from parts import published

from kdloop import packs
from kdloop.__main__ import main as command_line
from kdloop.evaluation.simulate import compare, load_rater
from kdloop.gate.evidence import MOST_WITH_TIES
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.student.transformers import TransformersEngine
from storage import checkpoints, feedback, rounds
from storage.database import connect

RATER = """
def rate(prompt, completion):
    return len(completion) // 8  # often equal: then it abstains

def secret_of_the_rater(prompt, completion):
    return 0.0
"""


@pytest.fixture
def rater(tmp_path):
    file = tmp_path / "rater.py"
    file.write_text(RATER)
    return file


def test_a_rater_that_is_not_there_is_named(rater):
    assert load_rater(f"{rater}:rate")("a", "b" * 80) == 10
    for spec in ("rate", f"{rater}:none", "nowhere.py:rate"):
        with pytest.raises(ValueError, match="rater"):
            load_rater(spec)


@pytest.mark.slow
def test_the_report_counts_votes_abstentions_and_what_every_round_came_to(
    byte_student, rater, tmp_path, monkeypatch, capsys
):
    home, out = tmp_path / "home", tmp_path / "report.json"
    monkeypatch.setenv("KDLOOP_STUDENT", byte_student)
    monkeypatch.setenv("KDLOOP_ROUND_MAX_TOKENS", "16")
    line = f"simulate --rater {rater}:rate --votes 6 --rounds 2 --seed 3 --home {home} --json {out}"
    assert command_line(line.split()) == 0
    report = json.loads(out.read_text())
    votes = feedback.live_feedback(home / "kdloop.db")
    assert report["votes"] == len(votes) == 12 and {v.channel for v in votes} == {"choice"}
    assert f"{report['abstentions']} abstentions" in capsys.readouterr().out
    assert [r["status"] for r in report["rounds"]] == ["rejected", "rejected"]
    assert all(r["reason"].startswith("Rejected before training") for r in report["rounds"])
    assert report["final"] == report["rounds"][-1]["heldout"] and report["final"]["ties"] == 100
    assert report["transcripts"] == []
    assert b"secret_of_the_rater" not in (home / "kdloop.db").read_bytes()


@pytest.mark.slow
def test_votes_on_a_share_of_the_prompts_without_the_raters_own_pairs(
    byte_student, rater, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("KDLOOP_STUDENT", byte_student)
    monkeypatch.setenv("KDLOOP_ROUND_MAX_TOKENS", "16")
    for name, more, share in (("with", "--share 0.03", 0.03), ("without", "--share 0.03 --no-ai", 0.03)):
        home, out = tmp_path / name, tmp_path / f"{name}.json"
        line = f"simulate --rater {rater}:rate --votes 99 --seed 3 --home {home} --json {out} {more}"
        assert command_line(line.split()) == 0 and "points of win rate per vote" in capsys.readouterr().out
        with connect(home / "kdloop.db") as c:
            asked = {r[0] for r in c.execute("select json_extract(prompt, '$[#-1].content') from turns")}
        assert len(asked) == round(share * len(packs.prompts("general", "train")))
        report, (ran,) = json.loads(out.read_text()), rounds.list_rounds(home / "kdloop.db")
        assert (report["share"], report["ai"]) == (share, name == "with")
        assert (ran.recipe or {}).get("knowledge") == (None if name == "with" else [])
    for nonsense in ("0", "1.5", "x"):
        with pytest.raises(SystemExit):
            command_line(f"simulate --rater {rater}:rate --home {tmp_path} --share {nonsense}".split())
    assert "argument --share: invalid share value" in capsys.readouterr().err


@pytest.mark.slow
def test_a_challenger_is_compared_by_the_rater_until_people_would_have_decided(db, tiny_student):
    """A version that says the same as the champion is a string of ties: after MOST_WITH_TIES it is rolled back."""
    engine = TransformersEngine(tiny_student)
    k = published(db, engine, std=0)
    settings, questions = Settings(home=db.parent, round_max_tokens=4), packs.prompts("general", "train")[:50]
    serving = Serving(db, lambda: engine)
    assert compare(settings, serving, lambda *_: 0.0, questions, 1, 0.0) == {}
    checkpoints.promote(db, k.id, k.round_id, "trial", verdict={"reason": "On trial: 15 wins"})
    told = compare(settings, serving, lambda *_: 0.0, questions, 1, 0.0)
    assert (told["outcome"], told["compared"], told["ties"]) == ("rolled back", MOST_WITH_TIES, MOST_WITH_TIES)
    assert checkpoints.serving(db).version == 0
