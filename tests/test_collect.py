import json

import pytest

from kdloop import collect, exports, pairs
from storage import checkpoints, conversations, feedback
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
    for i in range(160):  # 80 questions twice; a conversation is held out by its random id: one time in ten
        a, b = ask(db, f"the first answer {i}", f"another one entirely {i}", question=f"question {i % 80}?")
        collect.choose(db, "ann", a, b, "left")
    split = pairs.from_feedback(db)
    assert split.train and split.held_out
    assert not {e.conversation for e in split.train} & {e.conversation for e in split.held_out}
    assert not {pairs.key(e.prompt) for e in split.train} & {pairs.key(e.prompt) for e in split.held_out}
    assert split.dropped["same prompt as a held-out one"] > 0


def test_a_vote_for_a_completion_that_only_repeats_its_prompt_teaches_nothing(db):
    question = "Why did the Impressionists paint so many blurry ponds?"
    a, b = ask(
        db, "The Impressionists paint so many blurry ponds.", "They worked outdoors, in haste.", question=question
    )
    collect.choose(db, "ann", a, b, "left")
    split = pairs.from_feedback(db)
    assert split.train + split.held_out == [] and split.dropped["liked, but only repeats the prompt"] == 1
    collect.choose(db, "ann", a, b, "right")
    split = pairs.from_feedback(db)
    assert len(split.train + split.held_out) == 1


def test_ties_near_identical_and_contradictory_pairs_are_dropped_and_counted(db):
    a, b = ask(db, "one answer", "quite another")
    collect.choose(db, "ann", a, b, "tie")
    a, b = ask(db, "the very same words", "The very same words!", question="two?")
    collect.choose(db, "ann", a, b, "left")
    for choice, question in (("left", "three?"), ("right", "three?")):
        a, b = ask(db, "first text here", "second words there", question=question)
        collect.choose(db, "ann", a, b, choice)
    split = pairs.from_feedback(db)
    assert split.train + split.held_out == []
    assert (split.dropped["ties"], split.dropped["near-identical pairs"], split.dropped["contradictory"]) == (1, 1, 1)


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
