"""`python -m kdloop simulate`, with a small random student."""

import json

import pytest
from parts import published

from kdloop import packs
from kdloop.__main__ import main as command_line
from kdloop.evaluation.bench import votes_to_better
from kdloop.evaluation.simulate import compare, load_rater
from kdloop.evaluation.voting import KINDS, LEAST_SEEN, Voter
from kdloop.gate.evidence import MOST_WITH_TIES
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.student.transformers import TransformersEngine
from storage import checkpoints, conversations, feedback, follow_ups, rounds
from storage.conversations import as_prompt
from storage.database import connect, now

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
    serving, voter = Serving(db, lambda: engine), Voter(lambda *_: 0.0)
    assert compare(settings, serving, voter, questions, 1) == {}
    checkpoints.promote(db, k.id, k.round_id, "trial", verdict={"reason": "On trial: 15 wins"})
    told = compare(settings, serving, voter, questions, 1)
    assert (told["outcome"], told["compared"], told["ties"]) == ("rolled back", MOST_WITH_TIES, MOST_WITH_TIES)
    assert checkpoints.serving(db).version == 0


def test_a_simulated_person_chooses_and_gives_thumbs_and_errs_as_often_as_asked(db):
    def pairs(n):
        for i in range(n):
            turn = conversations.add_turn(
                db, conversations.start_conversation(db, "simulated person"), as_prompt(f"q{i}")
            )
            texts = ("rather long " * (1 + i % 7), "brief")
            ids = [conversations.add_completion(db, turn.id, "student", text=t, checkpoint_id=1) for t in texts]
            yield f"q{i}", *zip(ids, texts, strict=True)

    given = {}
    for kind, flips in ((kind, flips) for kind in KINDS for flips in (0.0, 0.25, 1.0)):
        voter, before = (
            Voter(lambda q, text: -len(text), flips=flips, kind=kind, seed=1),
            len(feedback.live_feedback(db)),
        )
        said = sum(voter.say(db, *pair) for pair in pairs(120))
        given[kind, flips] = feedback.live_feedback(db)[before:]
        assert len(given[kind, flips]) == said
    assert len(given["choices", 0.0]) == 120 and {f.channel for f in given["mixed", 0.0]} == {"thumb", "choice"}
    assert sum(f.channel == "choice" for f in given["mixed", 0.0]) == 120 // 6
    assert 90 < len(given["thumbs", 0.0]) <= 120 - LEAST_SEEN, "of one as good as usual nothing is said"

    def brief(rows):
        """How many of the choices are of the brief side."""
        return sum(conversations.completion(db, f.chosen_id).text == "brief" for f in rows if f.channel == "choice")

    assert brief(given["choices", 0.0]) == 120 and brief(given["choices", 1.0]) == 0
    assert 75 <= brief(given["choices", 0.25]) <= 105
    liked = [sum(f.chosen_id is not None for f in given["thumbs", flips]) for flips in (0.0, 1.0)]
    assert sum(liked) == len(given["thumbs", 0.0]) and liked[0] != liked[1]

    follow_ups.allow(db, "simulated person", True)
    teller = Voter(lambda q, text: -len(text), tell=lambda q, text: f"{q}: {text} is too long")
    (pair,) = pairs(1)
    assert teller.say(db, *pair) and follow_ups.count(db) == 1
    (told,) = follow_ups.take(db, now(), 5)
    assert told.completion.text == "brief" and told.message == "q0: brief is too long", "after what was chosen"


@pytest.mark.slow
def test_a_cell_of_votes_to_better_is_a_round_on_fresh_prompts_and_a_refusal_counts_as_half(byte_student, tmp_path):
    settings = Settings(home=tmp_path, student=byte_student, round_max_tokens=16)
    refused = votes_to_better.cell(settings, votes_to_better.Row(lambda q, text: len(text), 4), 1)
    assert (refused["stage"], refused["votes"], refused["rate"], refused["n"]) == ("before training", 4, 0.5, 100)
    assert not list((tmp_path / "votes-to-better").iterdir()), "its home is gone"
    asked = {packs.normal(p) for part in packs.PARTS for p in packs.prompts("general", part)}
    asked |= set(map(packs.normal, packs.gate_pool("general")))
    assert len(set(votes_to_better.fresh_prompts())) == 100
    assert not asked & set(map(packs.normal, votes_to_better.fresh_prompts()))


def test_where_a_round_ended_and_what_all_runs_came_to():
    gated = {"status": "rejected", "reason": "Rejected in spite of 9 wins", "seconds": {"gate": 9}, "trial": {}}
    by_people = {"status": "rejected", "trial": {"outcome": "rolled back"}}
    ended = (gated, gated | {"reason": "Rejected: not shown"}, gated | {"seconds": {}}, by_people, {"status": "failed"})
    assert [votes_to_better.stage(e) for e in ended] == ["guard", "judge", "before training", "people", "failed"]
    assert votes_to_better.stage(by_people | {"trial": {"outcome": "confirmed"}}) == "serves"
    cell = {"row": "careful, 36 choices", "seconds": {"elicit": 50, "train": 100, "gate": 30}, "KL": 0.1}
    text = votes_to_better.table([cell | {"stage": "serves", "rate": 0.8}, cell | {"stage": "guard", "rate": 0.5}])
    assert "| careful, 36 choices | 2 | 0 | 0 | 1 | 0 | 1 | 0.65 (-1.26 to 2.56) | 0.80 | 50, 100, 30 | 0.10 |" in text
    assert "| the eight unseen tastes together | 2 |" in text
