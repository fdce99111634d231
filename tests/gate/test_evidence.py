"""Evidence by people: worked by hand, never too sure of a coin however often one looks, and soon sure of the better."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta

from kdloop.gate.evidence import CONFIRM, MOST, MOST_WITH_TIES, PRIOR, Evidence, least_more, log_e_value, trail
from storage.trials import Vote


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


def after(outcomes, people=None, shared=False, weight=1.0):
    """The evidence where a trial of these outcomes ends, by these people in turn: a person each if not told."""
    who = people or [f"person {i}" for i in range(len(outcomes))]
    return trail([Vote(who[i % len(who)], o, weight) for i, o in enumerate(outcomes)], shared)


def confirmed(p: float, trials: int, seed: int) -> list[int]:
    """Comparisons until each trial was confirmed, looking after every one; only those that were."""
    draws = np.random.default_rng(seed).random((trials, MOST)) < p
    ends = [after(draw.astype(float)) for draw in draws]
    return [len(end) - 1 for end in ends if end[-1].decision == "confirmed"]


def test_a_coin_is_confirmed_in_less_than_one_trial_of_twenty_and_a_worse_one_hardly_ever():
    assert len(confirmed(0.5, 400, seed=1)) <= 0.05 * 400
    assert len(confirmed(0.36, 400, seed=2)) == 0


def test_a_challenger_that_people_prefer_is_confirmed_in_time():
    found = confirmed(0.72, 400, seed=3)
    assert len(found) >= 0.8 * 400 and np.median([*found, *[MOST + 1] * (400 - len(found))]) <= 32


def test_one_vote_decides_nothing_and_ties_alone_roll_back_at_the_end():
    for outcome in (0.0, 1.0):
        assert after([outcome])[-1].decision == "running" and after([outcome])[-1].better < CONFIRM / 10
    assert after([0.5] * (MOST_WITH_TIES - 1))[-1].decision == "running"
    last = after([0.5] * (MOST_WITH_TIES + 9))
    assert last[-1].decision == "rolled back" and len(last) == MOST_WITH_TIES + 1, "and nothing is read after the end"
    assert after([0, 1, *[0.0] * 12])[-1].decision == "rolled back" and after([])[-1] == Evidence()


def test_alone_a_flooder_decides_nothing_where_others_can_open_the_page():
    for outcome in (0.0, 0.5, 1.0):
        flood = after([outcome] * 3 * MOST, ["one"], shared=True)
        assert flood[-1].decision == "running" and flood[-1].better == 1 and len(flood) == 3 * MOST + 1
        assert after([outcome] * 3 * MOST, ["one"])[-1].decision != "running", "on the owner's own computer they do"


def test_a_flooder_beside_others_leaves_the_bound_as_it_is():
    """Each second comparison is one person's, who always prefers the challenger; to all others it is a coin."""
    others, ends = np.random.default_rng(4).random((60, MOST)) < 0.5, []
    for coins in others:
        outcomes = [o for coin in coins for o in (float(coin), 1.0)]
        who = [name for i in range(MOST) for name in (f"person {i}", "flooder")]
        ends.append(after(outcomes, who, shared=True)[-1].decision)
    assert ends.count("confirmed") <= 0.05 * 60 and ends.count("rolled back") > 30


def test_ties_cost_nothing_of_the_comparisons_in_which_a_better_one_is_found():
    draws = np.random.default_rng(5).random((40, MOST)) < 0.72
    plain, tied = (
        [after(row) for row in rows]
        for rows in (draws * 1.0, [np.insert(d * 1.0, slice(0, MOST, 2), 0.5) for d in draws])
    )
    assert [e[-1].decision for e in plain] == [e[-1].decision for e in tied]
    assert all(e[-1].better == pytest.approx(f[-1].better) for e, f in zip(plain, tied, strict=True))


def test_two_people_can_decide_together_and_half_a_weight_is_half_the_evidence():
    assert after([1.0] * 40, ["ann", "bob"], shared=True)[-1].decision == "confirmed"
    assert after([0.0] * 40, ["ann", "bob"], shared=True)[-1].decision == "rolled back"
    whole, half = after([1.0] * 6), after([1.0] * 12, weight=0.5)
    assert half[-1].better == pytest.approx(whole[-1].better)


def test_the_way_goes_from_roll_back_to_confirmation_and_how_many_more_is_told():
    up, down = after([1.0] * MOST), after([0.0] * MOST)
    assert up[0].way == 0 and up[-1].way == 1 and down[-1].way == -1 and np.all(np.diff([e.way for e in up]) > 0)
    assert least_more(Evidence()) == min(len(up), len(down)) - 1
    assert least_more(up[-2]) == 1
