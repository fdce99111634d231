"""Erasure to the weights: the champion's line once more without what is gone, the same to the last bit each time."""

from dataclasses import asdict, replace

import pytest

from kdloop import __main__ as cli
from kdloop import packs, recipes
from kdloop.feedback import collect
from kdloop.raters import preference_model
from kdloop.rounds import replays
from kdloop.rounds.run import run
from kdloop.settings import Settings
from storage import ancestry, checkpoints, conversations, feedback, people, rounds
from storage.conversations import as_prompt
from storage.database import transaction

RECIPE = replace(recipes.VOTES, prompts=2, passes=2, examples=40).as_dict()
QUESTIONS = packs.prompts("general", "train")


def vote(db, person, questions, contrary=False):
    """They prefer the short one of two completions, or the long one."""
    for question in questions:
        turn = conversations.add_turn(db, conversations.start_conversation(db, person), as_prompt(question))
        both = f"Yes, {question[:12]}", f"Well, let me think at length about it: {question} " * 2
        short, long = (conversations.add_completion(db, turn.id, "student", text=x, checkpoint_id=1) for x in both)
        collect.choose(db, person, short, long, "right" if contrary else "left")


@pytest.fixture
def trains(db, byte_student):
    """A function: carries a round to its end, as a process of its own does; the hash of its adapter, and its row."""
    settings = Settings(home=db.parent, student=byte_student, round_max_tokens=8, gate_prompts=4)

    def to_its_end(step=None):
        preference_model.FEATURE_CACHE.clear()
        how = {"requested": "auto", "started_by": "test", "owner": "me", "seed": 5, "recipe": RECIPE}
        started = rounds.start_round(db, **how, **(asdict(step) if step else {}))
        run(settings, started)
        rounds.release_lease(db, "me")
        ended = rounds.get_round(db, started.id)
        assert ended.candidate_id, ended.verdict or ended.error
        directory = checkpoints.adapter_dir(db, checkpoints.get_checkpoint(db, ended.candidate_id))
        return checkpoints.manifest(directory)["files"]["adapter_model.safetensors"], ended

    return to_its_end


def test_a_round_is_repeated_to_the_last_bit_and_then_without_whom_it_forgets(db, trains):
    vote(db, "ann", QUESTIONS[:26])
    vote(db, "bob", QUESTIONS[26:40])
    before, ended = trains()
    checkpoints.serve(db, ended.candidate_id)
    vote(db, "cleo", QUESTIONS[40:44], contrary=True)  # after the round: nothing that it could repeat
    assert replays.first_step(db) is None
    step = replays.first_step(db, anyway=True)
    again, repeated = trains(step)
    assert again == before and repeated.replays == ended.id
    assert repeated.verdict["reason"].startswith(f"Round {ended.id} again") and repeated.verdict["gate"]["number"] == 1

    people.erase(db, "cleo")
    assert replays.first_step(db) is None, "her votes were in no round that made the champion"
    bobs = {row["id"] for row in people.everything(db, "bob")["feedback"]}
    assert bobs & set(ancestry.trained_on(db, checkpoints.serving(db)))
    version(db, ended.candidate_id)  # so that what follows is a step on the way, and not gated
    people.erase(db, "bob")
    assert replays.first_step(db) == step
    without, first = trains(step)
    assert without != before and first.verdict["reason"] == replays.NOT_GATED
    assert replays.next_step(db).origin_id == first.candidate_id


def version(db, parent, rows=(), replayed=None, serves=True):
    """A checkpoint whose round has read these rows, without weights."""
    how = {"requested": "auto", "seed": 1, "started_by": "test", "owner": "me"} | (replayed or {})
    started = rounds.start_round(db, **how)
    rounds.note_read(db, started.id, rows)

    def save(directory):
        (directory / "weights").write_text("w")

    k = checkpoints.publish(db, started.id, save, parent_id=parent, method="dpo", seed=1, metrics={})
    checkpoints.reject(db, k.id, started.id)
    rounds.release_lease(db, "me")
    return checkpoints.serve(db, k.id) if serves else k


def test_a_line_is_repeated_from_the_first_round_that_had_read_it_to_the_last(db):
    vote(db, "ann", QUESTIONS[:1])
    rows = [row["id"] for row in people.everything(db, "ann")["feedback"]]
    base = checkpoints.serving(db)
    first = version(db, base.id)
    second = version(db, first.id, rows)
    third = version(db, second.id)
    people.erase(db, "ann")
    step = replays.first_step(db)
    assert (step.replays, step.origin_id) == (second.round_id, first.id)
    assert replays.next_step(db) is None, "nothing was begun"
    repeated = version(db, first.id, replayed={"replays": step.replays, "origin_id": step.origin_id}, serves=False)
    assert not replays.is_last(db, rounds.get_round(db, repeated.round_id))
    step = replays.next_step(db)
    assert (step.replays, step.origin_id) == (third.round_id, repeated.id)
    last = version(db, repeated.id, replayed={"replays": step.replays, "origin_id": step.origin_id}, serves=False)
    assert replays.is_last(db, rounds.get_round(db, last.round_id)) and replays.next_step(db) is None
    with transaction(db) as c:
        c["checkpoints"].update(first.id, {"pruned_at": "now"})
    assert replays.first_step(db).replays == first.round_id, "its files are gone, so its round is repeated, too"


def test_a_repetition_uses_up_no_new_votes(db):
    old = version(db, checkpoints.serving(db).id)
    vote(db, "ann", QUESTIONS[:3])
    version(db, 1, replayed={"replays": old.round_id, "origin_id": 1}, serves=False)
    assert feedback.count_votes(db) == (3, 3)
    version(db, 1, serves=False)
    assert feedback.count_votes(db) == (3, 0)


def test_where_nothing_was_erased_from_the_line_the_command_says_so_and_changes_nothing(db, capsys):
    version(db, checkpoints.serving(db).id)
    vote(db, "ann", QUESTIONS[:1])
    people.erase(db, "ann")
    before = rounds.list_rounds(db)
    assert cli.main(["retrain", "--home", str(db.parent)]) == 0
    assert replays.NOTHING in capsys.readouterr().out and rounds.list_rounds(db) == before
