"""Evidence by people: worked by hand, never too sure of a coin however often one looks, and soon sure of the better."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta

from kdloop.gate.evidence import CONFIRM, MOST, PRIOR, Evidence, log_e_value


def test_an_e_value_is_the_integral_that_its_docstring_says():
    inside = beta(*PRIOR).sf(0.5)
    for wins, losses in ((0, 0), (1, 0), (9, 3), (20, 31)):
        found, _ = quad(lambda p: p**wins * (1 - p) ** losses * beta(*PRIOR).pdf(p) / inside, 0.5, 1)  # noqa: B023
        assert log_e_value(wins, losses) == pytest.approx(np.log(found * 2.0 ** (wins + losses)), abs=1e-6)


def test_the_e_process_is_a_supermartingale_under_every_null():
    """The expectation of the next e-value is at most this one, for p <= 1/2."""
    for wins in range(12):
        for losses in range(12):
            now, won, lost = (np.exp(log_e_value(*c)) for c in ((wins, losses), (wins + 1, losses), (wins, losses + 1)))
            for p in (0.0, 0.2, 0.36, 0.5):
                assert p * won + (1 - p) * lost <= now * (1 + 1e-9)


def confirmed(p: float, trials: int, seed: int, ties: float = 0.0) -> list[int]:
    """Comparisons until each trial was confirmed, looking after every one; only those that were."""
    draws, found = np.random.default_rng(seed).random((trials, MOST, 2)), []
    for trial in draws:
        outcomes = [0.5 if tie < ties else float(u < p) for u, tie in trial]
        for n in range(1, MOST + 1):
            state = Evidence.of(outcomes[:n]).decision
            if state != "running":
                found += [n] if state == "confirmed" else []
                break
    return found


def test_a_coin_is_confirmed_in_less_than_one_trial_of_twenty_and_a_worse_one_hardly_ever():
    assert len(confirmed(0.5, 400, seed=1)) <= 0.05 * 400
    assert len(confirmed(0.36, 400, seed=2)) == 0


def test_a_challenger_that_people_prefer_is_confirmed_in_time():
    found = confirmed(0.72, 400, seed=3)
    assert len(found) >= 0.8 * 400 and np.median([*found, *[MOST + 1] * (400 - len(found))]) <= 32


def test_one_vote_decides_nothing_and_ties_alone_roll_back_at_the_end():
    assert Evidence(1, 0).decision == Evidence(0, 1).decision == "running" and Evidence(1, 0).better < CONFIRM / 10
    assert Evidence(0, 0, MOST - 1).decision == "running" and Evidence(0, 0, MOST).decision == "rolled back"
    assert Evidence(30, 4).decision == "confirmed" and Evidence(2, 12).decision == "rolled back"
