"""The error of the gate over rounds and looks, and verdicts that can be made again from what is stored."""

import json
from dataclasses import replace

import numpy as np
import pytest
from parts import Spoken
from test_raters import votes

from kdloop import packs
from kdloop.feedback.examples import Split
from kdloop.gate.outcomes import Outcomes
from kdloop.gate.spending import ERROR, Turn, settled
from kdloop.gate.verdict import CannotDecide, Judgement, decide, decided_again, judged, require_a_judge
from kdloop.raters import preference_model
from kdloop.rounds.tasks import gate_prompts
from kdloop.student import Sampling

SHORT, LONG = (sorted(packs.prompts("general", "train"), key=len)[part] for part in (slice(60, 100), slice(-100, -60)))


def test_all_gates_since_a_promotion_spend_the_error_together_and_all_looks_that_of_their_gate():
    assert sum(Turn(k).error for k in range(1, 2000)) == pytest.approx(ERROR, rel=1e-3)
    looks = Turn(3).looks(128)
    assert [look.n for look in looks] == [32, 64, 96, 128]
    assert sum(look.alpha for look in looks) == pytest.approx(Turn(3).error)


def gate_of(chances, turn, rng):
    """A gate on 128 prompts whose outcomes are drawn: (win, loss) probabilities."""
    draw = rng.choice([1.0, -1.0, 0.0], 128, p=[*chances, 1 - sum(chances)]).tolist()
    return judged(lambda a, b: draw[a:b], turn, Judgement("draws", (), prompts=128))


def test_twenty_gates_of_equal_candidates_seldom_promote_one_and_a_better_one_is_soon_found():
    rng = np.random.default_rng(5)
    lines = [any(gate_of((0.35, 0.35), Turn(k), rng).better for k in range(1, 21)) for _ in range(300)]
    assert sum(lines) <= 15, "5 % of 300 lines; expected are fewer"
    better = [gate_of((0.65, 0.2), Turn(1), rng) for _ in range(200)]
    assert sum(j.better for j in better) > 190 and np.mean([len(j.gains) for j in better]) < 75
    worse = [gate_of((0.2, 0.65), Turn(1), rng) for _ in range(100)]
    assert not any(j.better for j in worse) and np.mean([len(j.gains) for j in worse]) < 34


def test_a_gain_too_small_to_notice_is_no_promotion():
    last = Turn(1).looks(4000)[-1]
    assert settled(Outcomes(1600, 1400, 1000), last, 0.55) is False
    assert settled(Outcomes(1600, 1400, 1000), last, 0.525) is True


def test_a_missing_completion_counts_against_the_candidate():
    assert Outcomes.of([0.4, None, float("nan"), 0.05, -0.3], 0.1) == Outcomes(1, 3, 1)
    split = Split(votes(40, lambda i: False), votes(64, lambda i: False)[40:])
    rater = preference_model.fit(split.train, split.held_out)
    brief, mute = Spoken(lambda p, seed: SHORT[seed % 40]), Spoken(lambda p, seed: "")
    found = decide(mute, brief, brief, split, gate_prompts(split, 32, 1), rater, Sampling(8), Turn())
    assert not found.passed and found.judgement.outcomes.losses == found.judgement.outcomes.n
    assert "without a completion" in found.reason


def test_a_stored_verdict_can_be_made_again_from_its_rows_and_seed():
    split = Split(votes(40, lambda i: False), votes(64, lambda i: False)[40:])
    rater = preference_model.fit(split.train, split.held_out)
    brief = Spoken(lambda p, seed: SHORT[seed % 40])
    long = Spoken(lambda p, seed: LONG[seed % 40])
    engines, turn = (brief, long, long), Turn(2, 1, seed=77)
    found = decide(*engines, split, gate_prompts(split, 32, 77), rater, Sampling(8), turn)
    stored = json.loads(json.dumps(found.as_dict()))
    assert found.judgement.better and stored["gate"] == {"number": 2, "since": 1, "seed": 77}
    assert stored["judged_by"] == "preference model of 24 held-out votes"
    assert decided_again(stored) == stored["passed"]
    assert decided_again(stored | {"guards": {}}) and not decided_again(
        stored | {"gains": [-g for g in stored["gains"]]}
    )
    again = decide(*engines, split, gate_prompts(split, 32, 77), rater, Sampling(8), turn)
    assert again.as_dict() == found.as_dict()
    assert gate_prompts(split, 32, 78) != gate_prompts(split, 32, 77), "each round has prompts of its own"


def test_a_judge_of_other_votes_refuses_before_training_what_its_votes_do_not_confirm():
    """The training part likes short texts; what was held out likes neither."""
    liked, coin = votes(40, lambda i: False), votes(64, lambda i: i % 2)[40:]
    split = Split(liked, coin)
    rater = preference_model.fit(split.train, split.held_out)
    assert rater.skill.proven
    with pytest.raises(CannotDecide, match=r"do not confirm .* gate no\. 1 since v0") as refused:
        require_a_judge(rater, split, Turn())
    assert refused.value.tested
    split = Split(liked, votes(64, lambda i: False)[40:])
    require_a_judge(preference_model.fit(split.train, split.held_out), split, Turn())
    few = Split(liked, votes(51, lambda i: False)[40:])
    with pytest.raises(CannotDecide, match="11 of 12 held-out votes"):
        require_a_judge(preference_model.fit(few.train, few.held_out), few, Turn())


def test_a_judge_that_would_call_nearly_all_a_tie_is_found_before_training():
    """Votes follow length, but the training part's pairs are of two texts as long: nothing there to decide."""
    rater = preference_model.fit(votes(40, lambda i: False), votes(64, lambda i: False)[40:])
    alike = [replace(e, rejected=e.chosen) for e in votes(60, lambda i: False)]
    with pytest.raises(CannotDecide, match="of 60 pairs that people decided it calls 60 a tie"):
        require_a_judge(rater, Split(alike, votes(64, lambda i: False)[40:]), Turn())


def test_what_trains_and_what_judges_share_no_vote():
    train, held_out = votes(40, lambda i: False), votes(64, lambda i: False)[40:]
    other = votes(64, lambda i: True)[40:]
    first, second = preference_model.fit(train, held_out), preference_model.fit(train, other)
    assert np.allclose(first.weights, second.weights) and not np.allclose(first.judge.weights, second.judge.weights)
    assert first.judge.skill.accuracy > 0.9 and second.judge.skill.accuracy < 0.1
