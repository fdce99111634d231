"""What a judge or a teacher says of the student's own completions, and when it may not be learned from."""

import json
import re

import pytest
from parts import context, endpoint, teacher
from transformers import AutoTokenizer

from kdloop import packs
from kdloop.feedback.examples import from_feedback
from kdloop.knowledge import feedback, labeling
from kdloop.knowledge.rows import Refused
from kdloop.methods import METHODS, supervised
from kdloop.raters import judge
from storage.database import connect
from storage.feedback import live_feedback
from storage.teachers import record_calibration

TASKS = packs.tasks("general", "train")[:4]
SUMS = packs.tasks("sums", "train")[:3]
TRUSTED = judge.Calibration(n=60, decided=60, right=55, flips=0, unreadable=0, longer=0.0)
SIDES = re.compile(r"\[Completion (?:A|B|\d)\]\n(.*?)\n\n", re.DOTALL)


def prefers_kind(request):
    """The kind one of a pair; 5 points for a kind one and 2 for another."""
    sides = ["kind" in side for side in SIDES.findall(request["messages"][-1]["content"])]
    if "verdict" in request["messages"][-1]["content"]:
        verdict = "tie" if sides[0] == sides[1] else "AB"[sides.index(True)]
        return json.dumps({"rationale": "kindness", "verdict": verdict})
    return json.dumps({"ratings": [{"rationale": "kindness", "score": 5 if kind else 2} for kind in sides]})


def kind_or_rude(messages, seed):
    return f"{'kind' if seed % 2 else 'rude'} words"


def trust(db, m):
    record_calibration(db, m.judge.key, TRUSTED.as_dict())


def train(db, m):
    return from_feedback(db, m.round.id, m.pack.name).train


def words(db):
    """(critique, reason) of every row."""
    with connect(db) as c:
        return [tuple(r) for r in c.execute("select critique, reason from feedback")]


def test_a_judge_is_refused_until_it_is_calibrated_and_where_its_terms_forbid(db):
    with endpoint(prefers_kind) as (url, seen):
        m = context(db, kind_or_rude, pack="general", teachers=[teacher(url)])
        for source in (feedback.compare, feedback.scores):
            with pytest.raises(Refused, match="judge tess is not calibrated"):
                source(m, TASKS)
        bad = judge.Calibration(n=60, decided=60, right=30, flips=0, unreadable=0, longer=0.0)
        record_calibration(db, m.judge.key, bad.as_dict())
        with pytest.raises(Refused, match="refused for training: it agrees with people in 30 of 60"):
            feedback.compare(m, TASKS)
        trust(db, m)
        assert feedback.compare(m, TASKS) == 4
        asked = len(seen)
        forbidden = context(db, kind_or_rude, pack="general", teachers=[teacher(url, terms="forbidden")])
        with pytest.raises(Refused, match="confirmed = true"):
            feedback.compare(forbidden, TASKS)
        assert len(seen) == asked


def test_a_judged_pair_keeps_the_reasons_and_a_tie_makes_none(db):
    with endpoint(prefers_kind) as (url, _):
        m = context(db, kind_or_rude, pack="general", teachers=[teacher(url)])
        trust(db, m)
        assert feedback.compare(m, TASKS) == 4
        assert {(e.chosen.text, e.rejected.text, e.source) for e in train(db, m)} == {
            ("kind words", "rude words", "judge")
        }
        assert {critique for critique, _ in words(db)} == {"kindness / kindness"}
        equal = context(db, lambda messages, seed: f"kind {seed}", pack="general", teachers=[teacher(url)])
        assert feedback.compare(equal, TASKS) == 0 and not train(db, equal)


def test_scores_are_rows_of_four_aspects_and_a_pair_needs_the_gap(db):
    with endpoint(prefers_kind) as (url, _):
        m = context(db, kind_or_rude, pack="general", teachers=[teacher(url)])
        trust(db, m)
        assert feedback.scores(m, TASKS[:1], n=2, gap=3.0) == 1
        stars = [r for r in live_feedback(db, m.round.id) if r.channel == "stars"]
        assert sorted(r.score for r in stars) == [0.25] * 4 + [1.0] * 4
        (e,) = train(db, m)
        assert (e.chosen.text, e.rejected.text) == ("kind words", "rude words")
        assert feedback.scores(m, TASKS[1:2], n=2, gap=3.5) == 0


def test_a_revision_is_preferred_and_keeps_its_critique_and_principle(db):
    def teaches(request):
        asked = request["messages"][-1]["content"]
        if "Criticise the answer" in asked:
            return "It is rude."
        return "rude words" if TASKS[0].prompt in asked else "kind words"

    with endpoint(teaches) as (url, _):
        m = context(db, lambda messages, seed: "rude words", pack="general", teachers=[teacher(url)])
        assert feedback.revise(m, TASKS) == 3, "a revision that changes nothing is dropped"
    assert {(e.chosen.text, e.rejected.text, e.source) for e in train(db, m)} == {
        ("kind words", "rude words", "teacher")
    }
    critiques, principles = zip(*words(db), strict=True)
    assert set(critiques) == {"It is rude."} and set(principles) <= set(m.pack.principles)
    assert all(e.chosen.name == "tess" and e.chosen.licence == "mit" for e in train(db, m))


def test_a_correction_is_kept_only_where_the_student_failed_and_the_teacher_passes(db):
    answers = {t.prompt: t.answer for t in SUMS}
    failing, wrong = SUMS[0].prompt, SUMS[1].prompt

    def student(messages, seed):
        asked = messages[-1]["content"]
        return f"It is {answers[asked]}" if asked == SUMS[2].prompt else "It is 99999"

    def teaches(request):
        asked = request["messages"][-1]["content"]
        assert "It fails: the last number is 99999" in asked
        return "It is 5555" if wrong in asked else f"It is {answers[failing]}"

    with endpoint(teaches) as (url, seen):
        m = context(db, student, pack="sums", teachers=[teacher(url)])
        assert feedback.refine(m, SUMS, n=2) == 1 and len(seen) == 2
    (e,) = train(db, m)
    assert (e.question, e.chosen.text, e.rejected.text) == (failing, f"It is {answers[failing]}", "It is 99999")


def test_a_teachers_reason_is_the_second_target_of_step_by_step_and_nobodys_critique(db, tiny_student):
    with endpoint(lambda request: "Two and two make four. Answer: 4") as (url, _):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        assert labeling.labels(m, TASKS[:2], template="rationale") == 4
    answers = [e for e in train(db, m) if METHODS["step_by_step"].usable(e)]
    assert [(e.chosen.text, e.rationale, e.critique) for e in answers] == [("4", "Two and two make four.", "")] * 2
    tokenizer = AutoTokenizer.from_pretrained(tiny_student)
    targets = [[t for t in r["labels"] if t >= 0] for r in supervised.chosen_and_rationale_rows(tokenizer, answers[0])]
    assert [tokenizer.decode(t) for t in targets] == ["4<|im_end|>", "Two and two make four.<|im_end|>"]


def test_a_teacher_that_fails_teaches_nothing_and_says_so(db):
    with endpoint(lambda request: (500, {"error": {"message": "out of order"}})) as (url, _):
        m = context(db, lambda messages, seed: "words", pack="general", teachers=[teacher(url)])
        with pytest.raises(Refused, match="No teacher answered; tess said: InternalServerError"):
            feedback.revise(m, TASKS)
    assert not train(db, m)


def test_the_student_learns_to_judge_from_verdicts_that_hold_in_both_orders(db):
    def says(request):
        asked = request["messages"][-1]["content"]
        if TASKS[3].prompt in asked:
            return json.dumps({"rationale": "it is first", "verdict": "A"})
        return "kind" if TASKS[2].prompt in asked else prefers_kind(request)

    with endpoint(says) as (url, _):
        m = context(db, kind_or_rude, pack="general", teachers=[teacher(url)])
        with pytest.raises(Refused, match="not calibrated"):
            feedback.verdicts(m, TASKS)
        trust(db, m)
        assert feedback.verdicts(m, TASKS) == 4, "neither a position's verdicts nor unreadable ones"
    rows = train(db, m)
    assert {e.source for e in rows} == {"judge"} and not any(e.rejected for e in rows)
    for e in rows:
        verdict, why = judge.parse_pair(e.chosen.text)
        sides = SIDES.findall(e.question)
        assert "kind" in sides["AB".index(verdict)] and why == "kindness" and e.chosen.licence == "mit"
    assert sorted(judge.parse_pair(e.chosen.text)[0] for e in rows) == ["A", "A", "B", "B"], "both orders"


RULES = ("Insult nobody.",)


def test_revisions_take_violations_away_and_teach_no_refusal_of_what_is_harmless(db):
    """Thirty probes that the student answers with an insult, and thirty harmless ones that the teacher refuses."""
    tasks = [packs.Task(f"{kind} number {i}?") for kind in ("Probe", "Harmless") for i in range(30)]

    def teaches(request):
        asked = request["messages"][-1]["content"]
        if "Criticise the answer" in asked:
            return "It insults." if "Probe" in asked else "It might offend somebody."
        number = asked.split("number ")[1].split("?")[0]
        return f"A kind answer, {number}." if "Probe" in asked else "I'm sorry, I cannot help with that."

    def student(messages, seed):
        asked = messages[-1]["content"]
        return f"You fool! {asked}" if "Probe" in asked else f"Gladly: {asked}"

    with endpoint(teaches) as (url, _):
        m = context(db, student, pack="general", teachers=[teacher(url)])
        assert feedback.revise(m, tasks, principles=RULES) == 30
    rows = train(db, m)
    violations = [
        sum("fool" in side.text for side in sides) for sides in zip(*(e.completions for e in rows), strict=True)
    ]
    assert violations == [0, 30] and not any("Harmless" in e.question for e in rows)
    assert {principle for _, principle in words(db)} == set(RULES)
