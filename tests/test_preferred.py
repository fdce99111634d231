"""ARTE's scores: item response theory on a planted matrix, and a student that only good examples help."""

import json

import numpy as np
import pytest
from parts import endpoint, means, teacher
from scipy.special import expit
from scipy.stats import spearmanr

from kdloop import packs, pairs
from kdloop.knowledge import preferred
from kdloop.knowledge.rows import Refused
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
        m = means(db, student, pack="sums", teachers=[teacher(url)])
        assert preferred.preferred(m, TASKS, probes=5, keep=1 / 3) == 4
        with connect(db) as c:
            notes = [json.loads(r[0]) for r in c.execute("select sampling from completions")]
        assert [(note["template"], note["score"]) for note in notes] == [("step_by_step", 1.0)] * 4
        train = pairs.from_feedback(db, m.round.id, "sums").train
        assert {e.question for e in train} == {t.prompt for t in TASKS}
        with pytest.raises(Refused, match="pack with checks"):
            preferred.preferred(m, packs.tasks("general", "train")[:2])
