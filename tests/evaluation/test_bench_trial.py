"""The table of docs/trust.md is what the command writes, and its simulation is the app's own rule."""

from pathlib import Path

import numpy as np
import pytest

from kdloop.evaluation.bench.trial import RATERS, STEPS, Raters, decided, row
from kdloop.gate.evidence import trail
from storage.trials import Vote

PAGE = Path(__file__).parents[2] / "docs" / "trust.md"


@pytest.mark.parametrize("raters", [RATERS[0], RATERS[8]], ids=lambda r: r.who)
def test_the_page_has_the_rows_that_the_command_writes(raters):
    assert f"| {' | '.join(row(raters, 2000, 1))} |" in PAGE.read_text(encoding="utf-8")
    assert all(f"| {r.who} |" in PAGE.read_text(encoding="utf-8") for r in RATERS)


@pytest.mark.parametrize("raters", [RATERS[5], RATERS[12], Raters("two", (0.7, 0.3))], ids=lambda r: r.who)
def test_a_simulated_trial_ends_as_the_apps_rule_ends_it(raters):
    """The same draws, one vote after the other."""
    ends, at = decided(raters, 6, np.random.default_rng(3))
    rng, likes = np.random.default_rng(3), np.array(raters.likes)
    share = raters.share or 1 / len(likes)
    chances = np.array([share, *[(1 - share) / max(1, len(likes) - 1)] * (len(likes) - 1)])
    who = rng.choice(len(likes), size=(6, STEPS), p=chances / chances.sum())
    ties, wins = rng.random((6, STEPS)) < raters.ties, rng.random((6, STEPS)) < likes[who]
    for i in range(6):
        votes = [Vote(str(w), 0.5 if tie else float(win)) for w, tie, win in zip(who[i], ties[i], wins[i], strict=True)]
        found = trail(votes, raters.shared)
        assert {"confirmed": 1, "rolled back": -1, "running": 0}[found[-1].decision] == ends[i]
        assert len(found) - 1 == at[i]
