"""ARTE's scores: item response theory on a planted matrix, and a student that only good examples help."""

import json

import numpy as np
import pytest
from parts import context, endpoint, teacher
from scipy.special import expit
from scipy.stats import spearmanr

from kdloop import packs
from kdloop.evaluation.bench import drafts, methods
from kdloop.feedback.examples import from_feedback
from kdloop.knowledge import preferred
from kdloop.knowledge.rows import Refused
from kdloop.methods.lora import Plan
from storage.database import connect

TASKS = packs.tasks("sums", "train")[:4]
ANSWERS = {t.prompt: t.answer for t in packs.tasks("sums", "train")}


def test_the_planted_order_of_discrimination_is_recovered():
    draw = np.random.default_rng(7)
    a, b = np.linspace(0.2, 3, 40), draw.normal(size=40) / 2
    passed = (draw.random((400, 40)) < expit(a * (draw.normal(size=400)[:, None] - b))).astype(float)
    assert spearmanr(preferred.discrimination(passed), a).statistic > 0.8
    coins = (draw.random((400, 40)) < 0.5).astype(float)
    assert abs(spearmanr(preferred.discrimination(coins), a).statistic) < 0.4


def test_the_drafts_that_help_the_student_are_kept_and_wrong_ones_are_none(db):
    """Planted: a fifth of the probes nobody passes, the odd ones everybody, the others who was shown steps alone. What
    is drafted in equations is wrong."""

    def writes(request):
        asked = request["messages"][-1]["content"]
        answer = next(ANSWERS[t.prompt] for t in TASKS if t.prompt in asked)
        return (
            "It is 99999"
            if "equations" in asked
            else f"{'Steps, then' if 'step by step' in asked else 'It is'} {answer}"
        )

    def student(messages, seed):
        example, probe = messages[1]["content"], messages[2]["content"]
        place = sum(map(ord, probe))
        right = place % 5 and ("Steps" in example or place % 2)
        return f"It is {ANSWERS[probe] if right else 99999}"

    with endpoint(writes) as (url, _):
        m = context(db, student, pack="sums", teachers=[teacher(url)])
        assert preferred.preferred(m, TASKS, probes=5, keep=1 / 3) == 4
        with connect(db) as c:
            notes = [json.loads(r[0]) for r in c.execute("select sampling from completions")]
        assert [(note["template"], note["score"]) for note in notes] == [("step_by_step", 1.0)] * 4
        train = from_feedback(db, m.round.id, "sums").train
        assert {e.question for e in train} == {t.prompt for t in TASKS}
        with pytest.raises(Refused, match="pack with checks"):
            preferred.preferred(m, packs.tasks("general", "train")[:2])


def test_the_arms_are_the_best_the_worst_and_any_quarter():
    arms = drafts.quarters(np.array([0.1, 0.9, 0.5, 0.7, 0.2, 0.3, 0.8, 0.4]), 2, seed=1)
    assert (arms["best"], sorted(arms["worst"])) == ([1, 6], [0, 4])
    assert len(set(arms["any"])) == 2


@pytest.mark.slow
def test_the_student_learns_from_its_own_drafts_in_three_arms(student_home, monkeypatch):
    monkeypatch.setattr(methods, "GATE_PROMPTS", 8)
    source = str(student_home / "student")
    plan = Plan(1, epochs=1, max_tokens=24)
    rows = drafts.run(source, source, "additions", prompts=16, probes=1, held_out=2, plan=plan)
    assert [row["arm"] for row in rows] == ["best", "worst", "any"]
    assert len({row["before"] for row in rows}) == 1 and all(row["kl"] > 0 for row in rows)
    with pytest.raises(Refused, match="pack with checks"):
        drafts.run(source, source, "general", prompts=2, probes=2, held_out=2, plan=plan)
