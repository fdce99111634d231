"""A tree worked by hand, weights that act one way, a fit that beats a constant, and what a round leaves unanswered."""

import json
from dataclasses import replace

import numpy as np
import pytest
from parts import context, endpoint, teacher
from scipy.special import log_expit, logit

from kdloop import packs
from kdloop.feedback.examples import from_feedback
from kdloop.knowledge import labeling
from kdloop.raters import harm
from kdloop.raters.harm import EQUAL_WEIGHTS, Effect

TREE = [
    Effect("a neighbour", "health", "major", "medium", True, "violence"),
    Effect("a shop", "property", "minor", "high", False, "crime"),
    Effect("a reader", "knowledge", "significant", "high", True),
]


def test_a_tree_has_the_score_that_is_worked_by_hand():
    weights = harm.weights_of({"violence": 0.9, "health": 0.5, "crime": 0.4, "later": 0.6, "benefit": 0.3})
    by_hand = 0.9 * 0.5 * 1.0 * 2 / 3 + 0.4 * 1.0 * 0.25 * 1.0 * 0.6 - 0.3 * 1.0 * 0.5 * 1.0  # 0.3 + 0.06 - 0.15
    assert weights.score(TREE) == pytest.approx(by_hand) == pytest.approx(0.21)
    assert weights.harmful(TREE) == pytest.approx(1 / (1 + np.exp(-0.21))) and weights.harmful([]) == 0.5
    assert weights.because(TREE, 1) == "violence: health of a neighbour (major, medium)"


def test_a_greater_weight_never_makes_a_harm_look_smaller():
    draw = np.random.default_rng(1)
    for _ in range(200):
        weights, harms = harm.from_vector(draw.random(17)), some_tree(draw, benefits=0)
        for name, known in (("actions", harm.ACTIONS), ("effects", harm.EFFECTS)):
            one = str(draw.choice(known))
            raised = replace(weights, **{name: getattr(weights, name) | {one: 1.0}})
            assert raised.score(harms) >= weights.score(harms)
    for name in ("violence", "health"):
        assert harm.weights_of({name: 0.1}).score(TREE) < EQUAL_WEIGHTS.score(TREE)


def some_tree(draw, benefits=2):
    def of(action):
        picked = [str(draw.choice(list(x))) for x in (harm.EFFECTS, harm.EXTENT, harm.LIKELIHOOD)]
        return Effect("x", *picked, bool(draw.integers(2)), action)

    harms = [of(str(draw.choice(harm.ACTIONS))) for _ in range(draw.integers(1, 4))]
    return harms + [of("") for _ in range(benefits)]


def test_weights_fitted_on_forty_labels_beat_a_constant_on_twenty_others():
    """Planted: people mind violence and crime, and nothing else."""
    draw, minded = np.random.default_rng(3), ("violence", "crime")
    known = [some_tree(draw) for _ in range(60)]
    labels = [any(e.action in minded for e in tree) for tree in known]
    fitted = harm.fit(known[:40], labels[:40])
    sign = np.where(labels[40:], 1, -1)
    nll = -log_expit(sign * np.array([fitted.score(t) for t in known[40:]])).mean()
    constant = -log_expit(sign * logit(np.mean(labels[:40]))).mean()
    assert nll < constant
    others = [w for a, w in fitted.actions.items() if a not in minded]
    assert min(fitted.actions[a] for a in minded) > np.mean(others)


@pytest.mark.parametrize(
    "text",
    [
        "I think it is fine",
        json.dumps({"harms": []}),
        json.dumps({"harms": [3], "benefits": []}),
        json.dumps({"harms": [{"who": "x"}], "benefits": []}),
        json.dumps({"harms": [TREE[0].__dict__ | {"extent": "huge"}], "benefits": []}),
        json.dumps({"harms": [TREE[0].__dict__ | {"action": ""}], "benefits": []}),
        json.dumps({"harms": [], "benefits": [TREE[0].__dict__]}),
        json.dumps({"harms": [TREE[0].__dict__ | {"immediate": "yes"}], "benefits": []}),
    ],
)
def test_what_is_not_a_tree_is_no_verdict(text):
    assert harm.read(text) is None


def test_a_tree_is_read_as_it_was_said():
    said = {"harms": [e.__dict__ for e in TREE[:2]], "benefits": [{k: v for k, v in TREE[2].__dict__.items() if v}]}
    assert harm.read(json.dumps(said)) == TREE and harm.read(json.dumps({"harms": [], "benefits": []})) == []


@pytest.mark.parametrize(
    "wrapped", ["```json\n{}\n```", "<think>{{no}}</think>{}", "\ufeff{}", "Here it is:\n{}\nDone.", "[{}]"]
)
def test_a_tree_in_any_wrapping_is_that_tree_and_one_that_was_quoted_is_none(wrapped):
    said = json.dumps({"harms": [TREE[0].__dict__ | {"extent": " Major "}], "benefits": []})
    assert harm.read(wrapped.format(said)) == TREE[:1]
    assert harm.read(wrapped.format(said), prompt=f"Reply with {said}") is None
    harmless = json.dumps({"harms": [], "benefits": []})
    assert harm.read(f"{wrapped.format(said)}\n{harmless}") is None, "two trees"
    assert harm.read(json.dumps({"harms": ["violence"], "benefits": []})) is None


def test_a_round_leaves_harmful_and_unreadable_prompts_unanswered(db):
    tasks = packs.tasks("general", "train")[:4]
    said = {
        tasks[0].prompt: json.dumps({"harms": [TREE[0].__dict__], "benefits": []}),
        tasks[1].prompt: "hard to say",
        tasks[2].prompt: json.dumps({"harms": [], "benefits": []}),
        tasks[3].prompt: json.dumps({"harms": [TREE[1].__dict__], "benefits": []}),
    }

    def say(request):
        asked = request["messages"][-1]["content"]
        return next(s for p, s in said.items() if p in asked) if "JSON" in asked else "An answer."

    with endpoint(say) as (url, seen):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        assert labeling.labels(m, tasks) == 4 and len(seen) == 4, "nobody is asked about harm unless it matters"
        strict = context(db, None, pack="general", teachers=[teacher(url)])
        assert labeling.labels(strict, tasks, most_harm=0.5) == 1
        lenient = context(db, None, pack="general", teachers=[teacher(url)])
        lenient = replace(lenient, pack=replace(lenient.pack, harm={"crime": 0.0}))
        assert labeling.labels(lenient, tasks, most_harm=0.5) == 2
    assert [e.question for e in from_feedback(db, strict.round.id).train] == [tasks[2].prompt]
    with pytest.raises(ValueError, match="no weight 'crimes'; there are violence"):
        harm.weights_of({"crimes": 0.5})
    with pytest.raises(ValueError, match="crime = 2"):
        harm.weights_of({"crime": 2})
