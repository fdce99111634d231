"""What several samples are worth: the estimator against brute force, and a student that is right now and then."""

from itertools import combinations

import pytest
from parts import Spoken

from kdloop import packs
from kdloop.evaluation import measure

TASKS = packs.tasks("sums", "heldout")[:30]


@pytest.mark.parametrize("n", range(1, 7))
def test_pass_at_k_is_the_share_of_all_choices_of_k_that_hold_a_right_one(n):
    for right in range(n + 1):
        for k in range(1, n + 1):
            chosen = list(combinations([True] * right + [False] * (n - right), k))
            assert measure.pass_at_k(n, right, k) == pytest.approx(sum(map(any, chosen)) / len(chosen))


def test_the_best_of_more_is_never_worse_and_a_majority_can_be():
    """Right for two samples of five, and the three wrong ones say the same: the checks find it, a vote does not."""
    answers = {t.prompt: t.answer for t in TASKS}
    engine = Spoken(lambda messages, seed: answers[messages[-1]["content"]] if seed % 5 < 2 else "It is 4321")
    found = measure.coverage(engine, TASKS, 5, 16)
    best = list(found["best of"].values())
    assert best == sorted(best) and best[0] == pytest.approx(0.4) and best[-1] == 1 and found["majority"] == 0
    mostly = Spoken(lambda messages, seed: answers[messages[-1]["content"]] if seed % 5 < 3 else f"It is {4321 + seed}")
    assert measure.coverage(mostly, TASKS, 5, 16)["majority"] == 1
    never = measure.coverage(Spoken(lambda messages, seed: "It is 4321"), TASKS, 5, 16)
    assert set(never["best of"].values()) == {0.0} and never["majority"] == 0
