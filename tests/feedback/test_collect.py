import json

import pytest

from kdloop.feedback import collect, exports
from kdloop.feedback.examples import from_feedback, key
from kdloop.knowledge.rows import training_id
from storage import checkpoints, conversations, feedback, rounds
from storage.conversations import UnknownRow


def ask(db, *texts, person="ann", question="why?", **conversation):
    """A turn with student completions; their ids."""
    begun = conversations.start_conversation(db, person, **conversation)
    turn = conversations.add_turn(db, begun, [{"role": "user", "content": question}])
    base = checkpoints.serving(db).id
    return [conversations.add_completion(db, turn.id, "student", text=t, checkpoint_id=base) for t in texts]


def test_a_thumb_is_idempotent_changes_its_mind_and_is_undone(db):
    (k,) = ask(db, "because")
    first = collect.thumb(db, "ann", k, True)
    assert collect.thumb(db, "ann", k, True) == first
    collect.thumb(db, "ann", k, False)
    assert [(f.chosen_id, f.rejected_id) for f in feedback.live_feedback(db)] == [(None, k)]
    collect.thumb(db, "ann", k, None)
    assert feedback.live_feedback(db) == []


def test_nobody_rates_what_someone_else_was_told(db):
    (k,) = ask(db, "because")
    with pytest.raises(UnknownRow):
        collect.thumb(db, "bob", k, True)


def test_choice_edit_stars_and_critique_become_rows(db):
    left, right = ask(db, "a long answer", "short")
    collect.choose(db, "ann", left, right, "right")
    one = collect.edit(db, "ann", left, "a better answer")
    assert collect.edit(db, "ann", left, "a better answer ") == one
    collect.stars(db, "ann", left, 2)
    collect.critique(db, "ann", left, "too long")
    rows = {f.channel: f for f in feedback.live_feedback(db)}
    assert set(rows) == {"choice", "edit", "stars", "critique"}
    assert (rows["choice"].chosen_id, rows["choice"].rejected_id) == (right, left)
    assert conversations.completion(db, rows["edit"].chosen_id).author == "human"


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda db, a, b: collect.stars(db, "ann", a, 6), "give 1 to 5"),
        (lambda db, a, b: collect.edit(db, "ann", a, "  "), "needs some words"),
        (lambda db, a, b: collect.edit(db, "ann", a, "one"), "same as"),
        (lambda db, a, b: collect.choose(db, "ann", a, b, "up"), "one of left"),
        (lambda db, a, b: collect.choose(db, "ann", a, a, "left"), "same prompt"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_kept(db, act, message):
    a, b = ask(db, "one", "two")
    with pytest.raises(ValueError, match=message):
        act(db, a, b)
    assert feedback.live_feedback(db) == []


def test_nothing_held_out_is_in_the_training_part(db):
    for i in range(160):  # most questions twice, and then not in the same part: many conversations are held out
        a, b = ask(db, f"the first answer {i}", f"another one entirely {i}", question=f"question {i % 83}?")
        collect.choose(db, "ann", a, b, "left")
    split = from_feedback(db)
    assert split.train and split.held_out
    assert not {e.conversation for e in split.train} & {e.conversation for e in split.held_out}
    assert not {key(e.prompt) for e in split.train} & {key(e.prompt) for e in split.held_out}
    assert split.dropped["same prompt as a held-out one"] > 0


def test_a_vote_for_a_completion_that_only_repeats_its_prompt_teaches_nothing(db):
    question = "Why did the Impressionists paint so many blurry ponds?"
    a, b = ask(
        db, "The Impressionists paint so many blurry ponds.", "They worked outdoors, in haste.", question=question
    )
    collect.choose(db, "ann", a, b, "left")
    split = from_feedback(db)
    assert split.train + split.held_out == [] and split.dropped["liked, but only repeats the prompt"] == 1
    collect.choose(db, "ann", a, b, "right")
    split = from_feedback(db)
    assert len(split.train + split.held_out) == 1


def test_ties_identical_and_contradictory_pairs_are_dropped_and_counted(db):
    a, b = ask(db, "one answer", "quite another")
    collect.choose(db, "ann", a, b, "tie")
    a, b = ask(db, "the very same words", "the very same words", question="two?")
    collect.choose(db, "ann", a, b, "left")
    for choice, question in (("left", "three?"), ("right", "three?")):
        a, b = ask(db, "first text here", "second words there", question=question, id=training_id())
        collect.choose(db, "ann", a, b, choice)
    split = from_feedback(db)
    assert split.train + split.held_out == []
    assert split.dropped == {"ties": 1, "identical pairs": 1, "contradictory": 1}


CODE = "for n in range(3):\n    print(n)\nprint('done')"
SMALL = [
    ("When was it founded?", "It was founded in 1802.", "It was founded in 1820."),
    ("What is 2 - 9?", "7", "-7"),
    ("Solve x + 3 = 1.", "x = 1 - 3", "x = 1 + -3"),
    ("Who wrote it?", "it was goethe.", "It was Goethe."),
    ("Name two cities.", "Bonn, Ulm", "Ulm, Bonn"),
    ("Name two cities.", "Bonn and Ulm", "1. Bonn\n2. Ulm"),
    ("Is it true?", "Yes it is", "Yes, it is!"),
    ("Print them and say that you are done.", CODE, CODE.replace("\nprint", "\n    print")),
    ("Write the body of f.", "return a", "    return a"),
    ("Write this in capitals: the elbe flows north.", "the elbe flows north.", "The Elbe flows north."),
    ("Über wen?", "Über Jos\u00e9.", "Über Jose\u0301."),
    ("Good or bad?", "🙂", "🙁"),
]


@pytest.mark.parametrize(("question", "said", "better"), SMALL)
def test_a_correction_counts_however_small_it_is(db, question, said, better):
    """Also of one's prompt's own words, with which a liked completion would be no answer."""
    (k,) = ask(db, said, question=question)
    collect.edit(db, "ann", k, better + " \n")
    (e,) = from_feedback(db).train
    assert (e.chosen.text, e.rejected.text) == (better, said)


@pytest.mark.parametrize(("left", "right"), [("The answer is 5.", "The answer is -5."), ("a < b", "a > b")])
def test_a_choice_between_two_that_hardly_differ_counts_and_a_guess_does_not(db, left, right):
    """Whoever goes by the looks of a text, such as the preference model, says nothing about these."""
    a, b = ask(db, left, right, question="How much is it?")
    turn = conversations.completion(db, a).turn_id
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me").id
    sides = {"chosen_id": b, "rejected_id": a, "channel": "ranking", "round_id": round}
    for source, kept in (("preference_model", 0), ("verifier", 1)):
        feedback.add_feedback(db, turn, rater=source, source=source, **sides)
        assert len(from_feedback(db, round).train) == kept
    collect.choose(db, "ann", a, b, "left")
    (e,) = from_feedback(db, round).train
    assert (e.chosen.text, e.source, e.outvoted) == (left, "human", ()), "people decide"


def test_a_text_that_is_the_same_is_no_correction_and_the_person_is_told(db):
    (k,) = ask(db, "One.\nTwo.")
    with pytest.raises(ValueError, match="same as what the student wrote"):
        collect.edit(db, "ann", k, "\nOne.\nTwo. \n")
    left, right = ask(db, "one", "two", person="round 1")
    row = feedback.add_feedback(
        db, conversations.completion(db, left).turn_id, rater="r", channel="ranking", source="preference_model",
        chosen_id=left, rejected_id=right, score=0.7,
    )  # fmt: skip
    for text in ("one", "two "):
        with pytest.raises(ValueError, match="as it stands: choose it"):
            collect.fix(db, "bob", row, text)
    assert [f.source for f in feedback.live_feedback(db, None)] == [] and collect.fix(db, "bob", row, "One")


def test_reasons_alone_are_a_critique_and_unknown_ones_are_refused(db):
    (k,) = ask(db, "because")
    collect.critique(db, "ann", k, "", ("style", "wrong"))
    with pytest.raises(ValueError, match="Reasons"):
        collect.critique(db, "ann", k, "", ("ugly",))
    assert [f.rejected_id for f in feedback.live_feedback(db)] == [k]


def test_a_person_checks_what_an_ai_rater_chose_once(db):
    left, right = ask(db, "long and tedious", "short", person="round 1")
    turn = conversations.completion(db, left).turn_id
    row = feedback.add_feedback(
        db, turn, rater="rater", channel="ranking", chosen_id=left, rejected_id=right, score=0.61,
        source="preference_model",
    )  # fmt: skip
    assert [a.probability for a in feedback.ai_choices(db, "ann")] == [0.61]
    collect.review(db, "ann", row, "right")
    assert feedback.ai_choices(db, "ann") == [] and len(feedback.ai_choices(db, "bob")) == 1
    with pytest.raises(ValueError, match="checked already"):
        collect.review(db, "ann", row, "left")
    assert [(f.chosen_id, f.rejected_id) for f in feedback.live_feedback(db)] == [(right, left)]


@pytest.mark.parametrize(("format", "n"), [("dpo", 1), ("kto", 3), ("sft", 2)])
def test_exports_are_rows_that_trl_takes_without_a_persons_id(db, tmp_path, format, n):
    left, right = ask(db, "a long answer", "short", person="secret-ann", question="why so?")
    collect.choose(db, "secret-ann", left, right, "right")
    (k,) = ask(db, "fine", person="secret-ann")
    collect.thumb(db, "secret-ann", k, True)
    assert exports.export(db, format, tmp_path / "out.jsonl") == n
    text = (tmp_path / "out.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert "secret-ann" not in text and {r["split"] for r in rows} <= {"train", "held_out"}
    assert (
        set(rows[0])
        == {
            "dpo": {"prompt", "chosen", "rejected", "split"},
            "kto": {"prompt", "completion", "label", "split"},
            "sft": {"messages", "split"},
        }[format]
    )
    with pytest.raises(ValueError, match="Unknown format"):
        exports.export(db, "xml", tmp_path / "out")
