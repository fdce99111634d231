"""The preference model on votes about real sentences, and what the gate makes of outcomes."""

import random

import pytest
from parts import Spoken

from kdloop import packs
from kdloop.feedback.examples import Example, Split, echoes
from kdloop.gate import guards
from kdloop.gate.guards import Guard
from kdloop.gate.outcomes import Outcomes
from kdloop.gate.spending import Turn
from kdloop.gate.verdict import MAX_EXAMPLES, CannotDecide, Judgement, decide, require_a_judge, verdict
from kdloop.raters import preference_model
from kdloop.rounds.tasks import gate_prompts
from kdloop.student import Sample, Sampling
from storage.conversations import Completion, as_prompt

PROMPTS = packs.prompts("general", "train")


def votes(n, flip):
    """Pairs of a short and a long text (both prompts of the pack, so real sentences); `flip(i)` picks the long one."""
    texts = sorted(PROMPTS, key=len)
    out = []
    for i in range(n):
        short, long = (
            Completion(f"{i}{s}", "t", "student", 1, t, "finished")
            for s, t in (("s", texts[20 + i]), ("l", texts[-20 - i]))
        )
        chosen, rejected = (long, short) if flip(i) else (short, long)
        out.append(Example([{"role": "user", "content": PROMPTS[i]}], chosen, rejected, f"c{i}", (str(i),)))
    return out


def test_a_consistent_rater_is_learned_from_36_votes_and_generalises():
    model = preference_model.fit(votes(30, lambda i: False), votes(36, lambda i: False)[30:])
    assert model.skill.proven and model.skill.accuracy > 0.9
    right = 0
    for unseen in votes(60, lambda i: False)[40:]:
        short, long = ((k.text, True) for k in unseen.completions)
        forward, backward = (
            model.probabilities([unseen.question], [a], [b])[0] for a, b in ((short, long), (long, short))
        )
        assert abs(forward + backward - 1) < 1e-3
        reward = [model.reward(unseen.prompt, *said) for said in (short, long)]
        assert (reward[0] > reward[1]) == (forward > 0.5)
        right += forward > 0.5
    assert right >= 15, f"{right} of 20 unseen pairs, where a coin gets 15 in 2 % of cases"


def test_votes_at_random_prove_no_skill():
    proven = 0
    for seed in range(5):
        coin = random.Random(seed)
        flips = [coin.random() < 0.5 for _ in range(36)]
        proven += preference_model.fit(votes(36, flips.__getitem__)).skill.proven
    assert proven <= 1


def test_a_verdict_shows_nobody_what_people_asked():
    engine = Spoken(lambda messages, seed: f"An answer of {seed}")
    for n in (2, 6, 64):
        split = Split(votes(10, lambda i: False), votes(10, lambda i: False))
        asked = gate_prompts(split, n, seed=n)
        decided = decide(engine, engine, engine, split, asked, None, Sampling(8), Turn())
        shown = min(MAX_EXAMPLES, sum(p not in split.held_out_prompts for p in asked[:n]))
        private = {e.question for e in split.held_out}
        assert len(decided.examples) == shown and not private & {e["prompt"] for e in decided.examples}


def test_no_judge_no_training():
    with pytest.raises(CannotDecide, match="0 of 20 held-out pairs"):
        require_a_judge(None, Split(train=votes(10, lambda i: False), held_out=[]), Turn())


def test_the_verdict_needs_a_clear_win_enough_comparisons_and_every_guard():
    good, bad = Guard("repetition rise", 0.01, "<= 0.05", True), Guard("repetition rise", 0.3, "<= 0.05", False)

    def judged(wins, losses, ties, *guards):
        judgement = Judgement("rater", (1.0,) * wins + (-1.0,) * losses + (0.0,) * ties, better=wins > 30)
        return verdict(judgement, guards, Turn(3, 2))

    assert judged(40, 5, 10, good).passed and "gate no. 3 since v2" in judged(40, 5, 10, good).reason
    assert "too few" in judged(3, 0, 60, good).reason
    assert "not shown to be better" in judged(14, 10, 30, good).reason
    blocked = judged(40, 5, 10, good, bad)
    assert not blocked.passed and "repetition rise 0.3, limit <= 0.05" in blocked.reason


def test_what_earlier_rounds_learned_by_checks_may_not_be_lost():
    tasks = packs.tasks("additions", "gate")[:30]
    answers = {t.prompt: t.answer for t in tasks}
    right = Spoken(lambda messages, seed: f"The answer is {answers[messages[-1]['content']]}.")
    wrong = Spoken(lambda messages, seed: "I would rather talk about the weather.")
    kept, lost, gained = (
        guards.regression_guard(tasks, *engines, Sampling(8))[0]
        for engines in ((right,) * 2, (wrong, right), (right, wrong))
    )
    assert (kept.ok, lost.ok, gained.ok) == (True, False, True) and lost.value == -1
    assert not guards.regression_guard([], wrong, right, Sampling(8))


def test_the_interval_is_wilsons():
    assert Outcomes(50, 50, 0).ci95 == [0.4034, 0.5966]
    assert Outcomes(10, 0, 0).ci95 == [0.7833, 1.0]
    low, high = Outcomes(5, 5, 90).ci95
    assert low > 0.46 and high < 0.54, "ties say something: an interval that ignored them would be [0.40, 0.60]"


def test_the_pack_is_large_and_its_parts_are_disjoint():
    parts = {name: packs.prompts("general", name) for name in ("train", "gate", "heldout")}
    assert len(parts["train"]) >= 300 and len(parts["heldout"]) >= 100 and len(parts["gate"]) >= 100
    everything = [p for part in parts.values() for p in part]
    assert len(set(everything)) == len(everything)
    embedded = preference_model.embed(everything)
    cosines = embedded @ embedded.T
    cosines[range(len(everything)), range(len(everything))] = 0
    assert cosines.max() <= 0.9


def test_saying_the_same_to_everything_breaks_a_guard_and_so_does_leaving_the_topic():
    def samples(texts):
        return [Sample(t, "finished", 10, 10, 0.0, 1.0) for t in texts]

    questions = PROMPTS[:24]
    prompts = [as_prompt(q) for q in questions]
    before = samples([f"{q} You ask me that, and so here is my honest opinion of it" for q in questions])
    excuse = samples([f"I am sorry for your loss, number {i}." for i in range(24)])
    off_topic = samples(PROMPTS[24:48])
    broken = [
        [g.name for g in guards.topic_guards(prompts, new, before) if not g.ok]
        for new in (before, excuse, off_topic, samples(questions))
    ]
    assert broken == [[], ["sameness rise", "relevance change"], ["relevance change"], ["prompts repeated, rise"]]


def test_a_completion_that_repeats_its_prompt_is_no_answer():
    asked = "Lavender in a pot: how often to water?"
    assert echoes(asked, asked) and echoes("bored bored bored. entertain me", "bored. entertain me.")
    for answer in ("Once a week.", "Water lavender in a pot once a week, and less in winter.", "Pot.", ""):
        assert not echoes(asked, answer)
