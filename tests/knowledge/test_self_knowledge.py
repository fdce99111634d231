"""Each source of self-knowledge on a student whose samples are known: what is kept, and where it is written."""

import random
from dataclasses import replace

import pytest
from parts import context

from kdloop import packs
from kdloop.feedback.examples import Example, from_feedback
from kdloop.knowledge import self_knowledge, self_play
from kdloop.knowledge.references import references
from kdloop.knowledge.rows import Refused
from kdloop.methods import METHODS
from kdloop.raters import verifiers
from storage.conversations import Completion, Draft
from storage.database import connect

TASKS = packs.tasks("sums", "train")[:6]
ANSWERS = {t.prompt: t.answer for t in TASKS}


def sometimes_right(messages, seed):
    """Right for two of three seeds where the prompt is one of the first three tasks, else never."""
    prompt = messages[-1]["content"]
    known = prompt in [t.prompt for t in TASKS[:3]]
    return f"It is {ANSWERS[prompt]}" if known and seed % 3 else f"It is 1000{seed % 4}"


def written(db, m):
    return from_feedback(db, m.round.id, m.pack.name)


def test_verified_prefers_what_passes_and_leaves_out_prompts_without_any(db):
    m = context(db, sometimes_right)
    assert self_knowledge.verified(m, TASKS, n=6) == 3
    split = written(db, m)
    assert not split.held_out and {e.question for e in split.train} == {t.prompt for t in TASKS[:3]}
    for e in split.train:
        task = next(t for t in TASKS if t.prompt == e.question)
        assert verifiers.passed(task, e.chosen.text) and not verifiers.passed(task, e.rejected.text)
        assert e.source == "verifier" and e.chosen.checkpoint_id


def test_references_are_learned_where_they_pass_their_own_checks(db):
    m = context(db, lambda *_: pytest.fail("nothing is sampled"))
    wrong = packs.Task("What is 1 and 1, in words?", "three", ({"check": "contains", "words": ["two"]},))
    assert references(m, [*TASKS, wrong]) == len(TASKS)
    train = written(db, m).train
    assert {e.question: e.chosen.text for e in train} == ANSWERS and not any(e.rejected for e in train)
    assert {(e.chosen.author, e.chosen.name, e.chosen.licence) for e in train} == {("human", "pack sums", "apache-2.0")}
    with pytest.raises(Refused, match="pack sums has no reference answers"):
        references(m, [wrong])


def test_majority_never_sees_the_answer_and_needs_agreement(db):
    m = context(db, sometimes_right)
    blind = [replace(t, answer="", checks=()) for t in TASKS]
    assert self_knowledge.majority(m, blind, n=6, share=0.6) == 3
    assert all(e.chosen.text == f"It is {ANSWERS[e.question]}" for e in written(db, m).train)
    tie = [Draft(t, "finished", "student") for t in ("is 1", "is 2", "is 1", "is 2")]
    assert self_knowledge.vote(tie, 0.5) == ([], [])


def test_star_records_what_a_hint_led_to_under_the_plain_prompt(db):
    def hinted(messages, seed):
        _, hint, rest = messages[-1]["content"].partition("\n\nThe answer is ")
        return f"so it is {rest.split('.')[0]}" if hint else "no idea"

    m = context(db, hinted)
    assert self_knowledge.star(m, TASKS, n=2) == len(TASKS)
    train = written(db, m).train
    assert {e.question: e.chosen.text for e in train} == {p: f"so it is {a}" for p, a in ANSWERS.items()}
    assert not any(METHODS[name].usable(e) for e in train for name in ("sdpo", "step_by_step")), "a hint is no critique"
    with connect(db) as c:
        rows = c.execute("select json_extract(sampling, '$.hint') from completions where text like 'so%'").fetchall()
    assert {r[0] for r in rows} == set(ANSWERS.values())


def test_rests_rising_thresholds_keep_ever_smaller_parts(db):
    task = packs.Task("?", "4", ({"check": "number"}, {"check": "words", "most": 1}))
    group = [Draft(t, "finished", "student") for t in ("4", "it is 4", "5", "no idea at all", "4")]
    kept = [{s.text for s, _ in self_knowledge.at_least(task, group, tau)} for tau in (0.0, 0.5, 1.0)]
    assert kept == [{"4", "it is 4", "5", "no idea at all"}, {"4", "it is 4", "5"}, {"4"}]
    m = context(db, sometimes_right)
    with pytest.raises(ValueError, match="must rise"):
        self_knowledge.rest(m, TASKS, thresholds=(1.0, 0.5))
    assert self_knowledge.rest(m, TASKS, n=6, thresholds=(1.0,)) == 3


def test_sources_that_check_refuse_prompts_without_checks(db):
    m = context(db, sometimes_right, pack="general")
    for source in (self_knowledge.verified, self_knowledge.star, self_knowledge.rest):
        with pytest.raises(Refused, match="needs a pack with checks"):
            source(m, [packs.Task("Hello?")])
    with pytest.raises(Refused, match="preference model"):
        self_knowledge.best_of_n(m, TASKS)


def test_a_held_out_prompt_cannot_be_written(db):
    m = context(db, lambda messages, seed: "It is 4")
    for task in (packs.tasks("sums", "heldout")[0], packs.tasks("sums", "gate")[0], packs.tasks("general", "gate")[0]):
        with pytest.raises(Refused, match="held out"):
            self_knowledge.majority(m, [task], n=2)


def test_rlcd_pairs_differ_only_in_the_affix_and_keep_it(db):
    m = context(
        db, lambda messages, seed: "good" if self_play.GOOD in messages[-1]["content"] else "bad", pack="general"
    )
    tasks = packs.tasks("general", "train")[:3]
    assert self_play.rlcd(m, tasks) == 3
    train = written(db, m).train
    assert {(e.question, e.chosen.text, e.rejected.text) for e in train} == {(t.prompt, "good", "bad") for t in tasks}
    same = context(db, lambda messages, seed: "same", pack="general")
    assert self_play.rlcd(same, tasks) == 0


def test_spin_prefers_what_people_liked_to_the_writers_samples_and_drops_equal_ones(db):
    liked = [
        Example(
            [{"role": "user", "content": f"q{i}?"}],
            Completion(f"{i}", "t", "human", None, f"text {i}"),
            None,
            "c",
            ("r",),
        )
        for i in range(3)
    ]
    m = context(
        db,
        lambda messages, seed: "text 0" if "q0" in messages[-1]["content"] else "mine",
        pack="general",
        examples=liked,
    )
    assert self_play.spin(m, []) == 2
    assert {(e.chosen.text, e.rejected.text, e.rejected.checkpoint_id) for e in written(db, m).train} == {
        ("text 1", "mine", 1),
        ("text 2", "mine", 1),
    }
    with pytest.raises(Refused, match="liked"):
        self_play.spin(replace(m, examples=()), [])


@pytest.mark.parametrize(
    ("text", "points"),
    [("Score: 4", 4), ("score = 4/5", 4), ("**Score:** 3", 3), ("none", None), ("Score: 7", None), ("Score: 4.5", None),
     ("Score: 2 ... Score: 5", None), ("4 points", None)],
)  # fmt: skip
def test_own_points_are_read_strictly(text, points):
    assert self_play.points(text) == points


def test_a_student_that_cannot_judge_itself_is_refused_and_one_that_can_makes_pairs(db):
    tasks = packs.tasks("general", "train")[:3]
    with pytest.raises(Refused, match="0 of 12 of its verdicts"):
        self_play.self_rewarding(context(db, lambda messages, seed: "lovely", pack="general"), tasks)

    def judge(messages, seed):
        text = messages[-1]["content"]
        return (f"Score: {5 if 'fine' in text else 1}") if "Response:" in text else ("fine" if seed % 2 else "poor")

    m = context(db, judge, pack="general")
    assert self_play.self_rewarding(m, tasks) == 3
    assert {(e.chosen.text, e.rejected.text) for e in written(db, m).train} == {("fine", "poor")}


def test_the_loop_filter():
    loop = "one two three four five six seven eight nine ten eleven twelve thirteen"
    assert self_play.loops(f"{loop} {loop}") and not self_play.loops(loop)
    assert self_play.extended("a b c.", "a b c d e.") and not self_play.extended("a b c.", "a b c d e")
    assert not self_play.extended("a b c d e.", "a b c d e.")


def test_self_lengthen_writes_longer_texts_under_a_prompt_that_asks_for_their_length(db):
    long = " ".join(f"word{i}" for i in range(50)) + "."
    m = context(
        db, lambda messages, seed: long if "twice as long" in messages[-1]["content"] else "Short one.", pack="general"
    )
    task = packs.tasks("general", "train")[0]
    assert self_play.self_lengthen(m, [task]) == 1
    (e,) = written(db, m).train
    assert e.question == f"{task.prompt} Use about 50 words." and (e.chosen.text, e.rejected.text) == (
        long,
        "Short one.",
    )


def test_a_scripted_debate_gives_exactly_its_rows():
    opening, closing = (
        [Draft(t, "finished", "student") for t in texts] for texts in (("is 4", "is 5", "is 4"), ("is 4",) * 3)
    )
    prompts = [[{"role": "user", "content": f"agent {i}"}] for i in range(3)]
    task = packs.Task("What is 2 + 2?")
    rows = self_play.debated(task, opening, closing, prompts, random.Random(1), keep=0.0)
    assert [(p[-1]["content"], s.text) for p, s in rows] == [(task.prompt, "is 4")] * 2 + [("agent 1", "is 4")]
    assert len(self_play.debated(task, opening, closing, prompts, random.Random(1), keep=1.0)) == 5
    none = [Draft(t, "finished", "student") for t in ("is 1", "is 2", "is 3")]
    assert self_play.debated(task, opening, none, prompts, random.Random(1), keep=1.0) == []
