"""Expansion, curation and feature: the gates on planted duplicates and noise, the golden values, the sidecar."""

import json
import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from parts import Spoken, context, endpoint, teacher
from scipy.stats import chisquare, fisher_exact

from kdloop import packs
from kdloop.feedback.examples import Example, from_feedback
from kdloop.knowledge import curation, expansion, feature, labeling, passages
from kdloop.knowledge.rows import Refused
from kdloop.methods import losses
from kdloop.raters import judge as judging
from kdloop.raters.teacher import Teacher, Teachers
from kdloop.student import Sampling
from kdloop.student.transformers import TransformersEngine
from storage.conversations import Completion, as_prompt
from storage.database import connect
from storage.teachers import record_calibration

TASKS = packs.tasks("general", "train")[:10]
N = 20  # answers to their own prompts, and as many to others'


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence():
    assert expansion.rouge_l("the cat sat on the mat", "the cat lay on a mat") == pytest.approx(4 / 6)
    assert expansion.rouge_l("a b c", "a b c") == 1 and expansion.rouge_l("a", "b") == 0 == expansion.rouge_l("", "a")
    assert expansion.rouge_l("police killed the gunman", "police kill the gunman") == pytest.approx(0.75)


def test_self_instruct_drops_planted_duplicates_and_what_cannot_be_answered(db):
    held_out = packs.prompts("general", "heldout")[0]
    planted = [
        TASKS[0].prompt,
        held_out,
        "Draw me a picture of a house please",
        "Too short",
        "Write a program that adds two numbers",
    ]
    planted.append("word " * 151)
    fine = ["Explain how bees find their way home", "Suggest three names for a boat"]

    def say(r):
        if "8 more" not in r["messages"][-1]["content"]:
            return "An answer."
        return "\n".join(f"{i}. {p}" for i, p in enumerate([*planted, *fine, fine[0].lower()], 9))

    with endpoint(say) as (url, _):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        assert expansion.self_instruct(m, TASKS, n=6, calls=1) == 2
    assert {e.question for e in from_feedback(db, m.round.id).train} == set(fine)
    shown = expansion.demonstrations([f"h{i}" for i in range(9)], [f"m{i}" for i in range(9)], random.Random(1))
    assert sorted(s[0] for s in shown) == ["h"] * 6 + ["m"] * 2


@pytest.mark.parametrize("restricted", [0, 1])
def test_prompts_that_a_restricted_teacher_may_have_written_restrict_their_rows_whoever_answers(
    db, tmp_path, restricted
):
    (tmp_path / "a.txt").write_text("The harbour of Oldtown was dug by hand. It took nine years.")
    asked = "How was the harbour of Oldtown dug?"
    with endpoint(lambda r: "By hand." if r["messages"][-1]["content"].startswith(asked) else asked) as (url, _):
        rex = teacher(url, name="rex", model="rex", terms="forbidden", confirmed=True)
        m = context(db, None, pack="general", teachers=[teacher(url), rex][: 1 + restricted])
        assert expansion.self_instruct(m, TASKS, n=1, calls=1) + curation.topics(m, [], n=2) == 2
        assert passages.documents(m, [], directory=str(tmp_path)) == 1
    rows = from_feedback(db, m.round.id).train
    assert rows and {e.chosen.restricted for e in rows} == {restricted}


def test_evolve_eliminates_refusals_copies_and_what_gained_nothing_and_keeps_parents(db):
    def say(r):
        asked = r["messages"][-1]["content"]
        if asked.startswith("Do these two"):
            return "Yes." if TASKS[1].prompt in asked else "No."
        if asked.startswith("Rewrite this"):
            if TASKS[0].prompt in asked:
                return "I'm sorry, I cannot."
            new = f"Please answer in {len(asked)} words: {asked[-60:]}"
            return f"Here is the rewritten prompt: {new}" if TASKS[2].prompt in asked else new
        return "An answer."

    with endpoint(say) as (url, seen):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        rows = expansion.evolve(m, TASKS[:6])
    told = [r["messages"][-1]["content"] for r in seen if r["messages"][-1]["content"].startswith("Rewrite")]
    assert all(any(how in t for how in expansion.OPERATORS.values()) for t in told) and rows == 3
    with connect(db) as c:
        notes = c.execute("select json_extract(sampling, '$.parent') from completions").fetchall()
    assert {r[0] for r in notes} == {t.prompt for t in TASKS[3:6]}


def test_operators_are_drawn_evenly_and_nothing_is_evolved_deeper_than_four(db):
    def say(r):
        asked = r["messages"][-1]["content"]
        if asked.startswith("Do these two"):
            return "No."
        n = sum(ord(c) * i for i, c in enumerate(asked)) % 9973
        return f"Number {n} wants {n + 7} things of {n * 3}" if asked.startswith("Rewrite this") else "An answer."

    with endpoint(say) as (url, seen):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        expansion.evolve(m, packs.tasks("general", "train")[:150])
        told = [r["messages"][-1]["content"] for r in seen]
        drawn = [sum(how in t for t in told) for how in expansion.OPERATORS.values()]
        assert sum(drawn) == 150 and chisquare(drawn).pvalue > 0.05, drawn
        expansion.evolve(m, TASKS[:1], rounds=9)
    with connect(db) as c:
        depths = {r[0] for r in c.execute("select json_extract(sampling, '$.depth') from completions")}
    assert depths == {1, 2, 3, 4}


def test_lion_finds_exactly_the_hard_prompts_and_writes_as_many_easy_ones(db):
    """Planted: three of eight prompts where the teacher's answer is worth a point more. The judge gives whatever stands
    first two points more, which both orders cancel."""
    tasks = packs.tasks("general", "train")[:8]
    hard = {t.prompt for t in tasks[:3]}

    def say(r):
        asked = r["messages"][-1]["content"]
        if "Rate each completion" in asked:
            shown = re.findall(r"\[Completion \d\]\n(.*)", asked)
            worth = [2 + (s == "teacher's" and any(p in asked for p in hard)) for s in shown]
            points = [worth[0] + 2, worth[1]]
            return json.dumps({"ratings": [{"rationale": "so", "score": p} for p in points]})
        if asked.startswith("Write one new request"):
            return f"{'Harder' if 'harder' in asked else 'Easier'} than {sum(map(ord, asked))} of {len(asked)}, please"
        return "teacher's"

    with endpoint(say) as (url, seen):
        m = context(db, lambda messages, seed: "student's", pack="general", teachers=[teacher(url)])
        trusted = judging.Calibration(n=60, decided=60, right=55, flips=0, unreadable=0, longer=0.0)
        record_calibration(db, m.judge.key, trusted.as_dict())
        assert expansion.hard_and_easy(m, tasks) == 6
        gaps = [expansion.referee(m.judge, t.prompt, "teacher's", "student's") for t in tasks]
    assert gaps == [1.0] * 3 + [0.0] * 5, "the mean of both orders"
    asked = [r["messages"][-1]["content"] for r in seen]
    assert {p for p in hard if any(p in a for a in asked if "rarer and harder" in a)} == hard
    assert not any(t.prompt in a for t in tasks[3:] for a in asked if "rarer and harder" in a)
    new = [e.question.split()[0] for e in from_feedback(db, m.round.id).train]
    assert sorted(new) == ["Easier"] * 3 + ["Harder"] * 3


def test_topics_are_asked_in_turn_and_stored_and_near_duplicates_dropped(db):
    def say(r):
        asked = r["messages"][-1]["content"]
        if not asked.startswith("Write one short question about"):
            return "An answer."
        topic = asked.split("about ")[1].split(" that")[0]
        return " ".join([("pets" if topic == "family" else topic).capitalize()] * 4) + " explained?"

    with endpoint(say) as (url, _):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        rows = curation.topics(m, TASKS, n=20)
    with connect(db) as c:
        stored = [r[0] for r in c.execute("select json_extract(sampling, '$.topic') from completions")]
    assert rows == len(stored) == len(set(stored)) and "family" not in stored and set(stored) <= set(m.pack.topics)


def test_documents_become_questions_with_their_passage(db, tmp_path):
    (tmp_path / "bees.txt").write_text("Bees dance to tell where flowers are. " * 30)
    with endpoint(
        lambda r: "They dance." if "Answer from" in r["messages"][-1]["content"] else "What do bees do to tell?"
    ) as (url, _):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        assert passages.documents(m, [], directory=str(tmp_path)) == 1, "the second passage asks the same again"
        with pytest.raises(Refused, match="No documents"):
            passages.documents(m, [], directory=str(tmp_path / "none"))
    with connect(db) as c:
        assert c.execute("select json_extract(sampling, '$.passage') from completions").fetchone()[0] == "bees.txt#0"


def example(i, prompt="", text=""):
    k = Completion(f"k{i}", "t", "human", None, text or f"It is {i}.")
    return Example(as_prompt(prompt or f"What is {i}?"), k, None, f"c{i}", (str(i),))


def test_every_mosaic_parses_back_to_its_answers_in_the_stated_order():
    draw = random.Random(3)
    for _ in range(1000):
        parts = [(f"q{draw.random()}", f"a{draw.random()}\nline two") for _ in range(draw.randint(1, 10))]
        order = draw.choice(curation.ORDERS)
        prompt, text = curation.compose(parts, order)
        numbered = [(i, a) for i, (_, a) in enumerate(parts, 1)]
        assert curation.decompose(text) == (numbered[::-1] if order == "the reverse" else numbered)
        assert all(f"[{i}] {q}" in prompt for i, (q, _) in enumerate(parts, 1)) and order in prompt


def test_mosaic_writes_fewer_rows_within_the_budget_and_carries_restrictions_on(db):
    examples = [example(i) for i in range(20)]
    m = context(db, None, pack="general", examples=examples)
    rows = curation.mosaic(m, [], most=4, budget=30)
    train = from_feedback(db, m.round.id).train
    assert 5 <= rows == len(train) <= 10 and all(len(e.chosen.text.split()) <= 30 for e in train)
    with pytest.raises(Refused, match="two completions"):
        curation.mosaic(context(db, None, pack="general"), [])


def test_ifd_and_deita_have_their_golden_values():
    assert curation.ifd(1.8, 2.3) == pytest.approx(0.606531, abs=1e-6)
    assert curation.expected_grade([0.0] * 6) == pytest.approx(3.5)
    assert curation.expected_grade([-99.0] * 5 + [0.0]) == pytest.approx(6)


CONDITIONED, DIRECT = (2.5, 1.9, 1.0, 1.5), 2.0  # NLL with and without the prompt, nats per token
GRADED = (6, 2, 4, 5)


class Graded(Spoken):
    """Knows the texts "text 0" to "text 3"."""

    def logprobs(self, prompts, completions):
        rows = []
        for prompt, (said, *_) in zip(prompts, completions, strict=True):
            asked = prompt[-1]["content"]
            if "Give a grade" in asked:
                rows.append([0.0 if said == str(GRADED[int(asked.split("text ")[1][0])]) else -99.0])
            else:
                rows.append([-(CONDITIONED[int(said[-1])] if asked else DIRECT)] * 2)
        return rows


def test_every_selection_keeps_what_is_planted_for_it():
    """The first answer does not belong to its prompt by IFD, has the best grades, and the last asks the same; those
    that ask a teacher are in the tests around this one."""
    asked = ["How do I bake bread?", "Who was Napoleon?", "Why is the sky blue?", "How do I bake a bread?"]
    examples = [example(i, q, f"text {i}") for i, q in enumerate(asked)]

    def kept(name, n):
        return [examples.index(e) for e in curation.SELECTIONS[name](examples, n, Graded(None), None)]

    assert set(curation.SELECTIONS) == {"ifd", "deita", "coreset", "difference", "salt"}
    assert kept("ifd", 2) == [1, 3] and kept("ifd", 9) == [1, 3, 2]
    assert kept("deita", 2) == [0, 2] and kept("deita", 9) == [0, 2, 1]
    assert not {0, 3} <= set(kept("coreset", 3)) and len(kept("coreset", 3)) == 3


def test_salts_score_is_the_median_of_what_is_learnable():
    """Twelve tokens, each half as likely as the one before; noise to the teacher is what is not among its ten."""
    row = np.log([2.0 ** -(j + 1) / (1 - 2.0**-12) for j in range(12)])
    nll = -row
    assert curation.learnable(np.array([row] * 3), [0, 3, 11]) == pytest.approx(nll[0])
    assert curation.learnable(np.array([row] * 3), [9, 3, 11]) == pytest.approx(nll[3])
    assert curation.learnable(np.array([row] * 3), [10, 3, 11]) == 0
    assert curation.learnable(np.array([row] * 2), [0, 1]) == pytest.approx((nll[0] + nll[1]) / 2)


def test_difference_sampling_leaves_out_what_surprises_the_teacher(db, student_home, tiny_student):
    """The real student as the teacher of a random one: half of the answers belong to another question. SALT's choice
    leaves out what is noise to it."""
    teachers = Teachers(db, [Teacher("local", directory=str(student_home / "student"), terms="allowed")])
    asked = [
        ("What is the capital of France?", "The capital of France is Paris."),
        ("How many days has a week?", "A week has seven days."),
        ("What colour is snow?", "Snow is white."),
        ("What do bees make?", "Bees make honey."),
    ]
    matched = [example(i, q, a) for i, (q, a) in enumerate(asked)]
    shuffled = [example(i + 9, q, asked[i - 1][1]) for i, (q, _) in enumerate(asked)]
    student = TransformersEngine(tiny_student)
    kept = curation.by_difference([*shuffled, *matched], 4, student, teachers)
    assert len(kept) == 4 and sum(e in matched for e in kept) >= 3
    noise = example(30, asked[0][0], "qzx vwk jjx pqz kkv zzw xqj")
    assert noise not in curation.by_salt([noise, *matched], 4, student, teachers)
    remote = Teachers(db, [Teacher("far", url="http://127.0.0.1:9/v1", terms="allowed")])
    for nobody in (None, remote):
        for selection in ("difference", "salt"):
            with pytest.raises(Refused, match=f"select = {selection} needs a teacher with a directory"):
                curation.SELECTIONS[selection](matched, 2, student, nobody)


@pytest.mark.slow
def test_ifd_leaves_out_answers_that_belong_to_another_prompt(student_home):
    engine = TransformersEngine(str(student_home / "student"))
    asked = sorted(packs.prompts("general", "train"), key=len)[:N]
    said = engine.complete([as_prompt(q) for q in asked], Sampling(12, temperature=0.0), range(N))
    matched = [example(i, q, s.text) for i, (q, s) in enumerate(zip(asked, said, strict=True))]
    planted = [example(N + i, q, said[i - 1].text) for i, q in enumerate(asked)]
    kept = curation.by_ifd([*matched, *planted], N, engine)
    chosen = [sum(e in part for e in kept) for part in (matched, planted)]
    assert fisher_exact([[k, N - k] for k in chosen], alternative="greater").pvalue < 0.05, chosen


def test_dedupe_is_idempotent_and_the_coreset_spreads():
    texts = ["How do I bake bread?", "How do I bake a bread?", "Who was Napoleon?", "Why is the sky blue?"]
    kept = curation.dedupe(texts)
    assert kept == [0, 2, 3] and curation.dedupe([texts[i] for i in kept]) == [0, 1, 2] and curation.dedupe([]) == []
    points = np.array([[0, 0], [0.1, 0], [5, 0], [5.1, 0], [0, 5]])
    assert {tuple(points[i].round()) for i in curation.k_center(points, 3)} == {(0, 0), (5, 0), (0, 5)}


def test_features_are_the_teachers_distribution_and_small(db, student_home):
    directory = str(student_home / "student")
    engine, said = TransformersEngine(directory), ("Paris is the capital of France.", True)
    prompt = as_prompt("What is the capital of France?")
    kept = feature.top_k(engine, prompt, said)
    full = feature.distribution(engine, prompt, said)
    assert kept.bytes_per_token <= 256 and kept.logprobs.shape == (len(full), 32)
    other = torch.log_softmax(full * 0.7, -1)  # the same student at another temperature
    apart = losses.forward_kl(feature.completed(kept, other), other).mean()
    whole = losses.forward_kl(full, other).mean()
    assert 0.8 * whole < apart < 1.02 * whole, "what is apart in the tail is not seen"
    assert losses.forward_kl(feature.completed(kept, full), full).mean() == pytest.approx(0, abs=2e-3)
    path = feature.sidecar(feature.folder(db), "row")
    feature.save(path, kept)
    assert np.array_equal(feature.read(path).ids, kept.ids)


def test_features_need_a_local_teacher_of_the_same_vocabulary(db, tiny_student):
    local = Teacher("local", directory=tiny_student, terms="allowed")
    m = context(db, None, pack="general", teachers=[local])
    student = Spoken(None)
    student.tokenizer = m.teachers.engine(local).tokenizer
    m = replace(m, writers=((student, m.writers[0][1]),))
    assert feature.features(m, TASKS[:2], k=8) == 2
    with connect(db) as c:
        ids = [r[0] for r in c.execute("select id from feedback")]
    assert all(feature.read(feature.sidecar(feature.folder(db), id)).ids.shape[1] == 8 for id in ids)
    remote = Teachers(db, [Teacher("far", url="http://127.0.0.1:9/v1", terms="allowed")])
    with pytest.raises(Refused, match="directory"):
        feature.features(replace(m, teachers=remote), TASKS[:1])
    with pytest.raises(ValueError, match="No template 'x'"):
        labeling.render("x", "q")
