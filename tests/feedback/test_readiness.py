"""What a round could learn from is told before it starts, vote by vote."""

import pytest

from kdloop.feedback import collect
from kdloop.feedback.readiness import SILENT, readiness
from storage import checkpoints, conversations
from storage.conversations import as_prompt
from storage.database import new_id
from storage.split import is_held_out


def two(db, question, held_out=False):
    """A turn with two completions, in a conversation of the training part, or of the gate's."""
    id = next(id for id in iter(new_id, None) if is_held_out(id) is held_out)
    turn = conversations.add_turn(db, conversations.start_conversation(db, "ann", id=id), as_prompt(question))
    base = checkpoints.serving(db).id
    return [
        conversations.add_completion(db, turn.id, "student", text=text, checkpoint_id=base)
        for text in (f"One thing about number {question}", f"Something else entirely, said of {question}")
    ]


def test_every_vote_is_counted_once(db):
    for i in range(3):
        collect.choose(db, "ann", *two(db, f"pair {i}"), "left")
    collect.thumb(db, "ann", two(db, "liked")[0], True)
    collect.thumb(db, "ann", two(db, "disliked")[0], False)
    collect.choose(db, "ann", *two(db, "tie"), "tie")
    collect.stars(db, "ann", two(db, "so-so")[0], 3)
    collect.choose(db, "ann", *two(db, "kept for the gate", held_out=True), "right")
    known = readiness(db)
    assert (known.votes, known.usable, known.held_out) == (8, 5, 1)
    assert (known.pairs, known.likes, known.dislikes) == (3, 1, 1)
    assert known.left_out == {"ties": 1, SILENT: 1} and not known.enough


@pytest.mark.parametrize(
    ("pairs", "likes", "dislikes", "enough"),
    [(8, 0, 0, True), (7, 0, 0, False), (0, 4, 4, True), (0, 4, 3, False), (0, 8, 0, True), (0, 0, 20, False)],
)
def test_enough_is_what_the_choice_of_a_method_needs(db, pairs, likes, dislikes, enough):
    from kdloop.feedback.examples import from_feedback
    from kdloop.methods import NothingToLearn, choose

    for i in range(pairs):
        collect.choose(db, "ann", *two(db, f"pair {i}"), "left")
    for i in range(likes + dislikes):
        collect.thumb(db, "ann", two(db, f"single {i}")[0], i < likes)
    assert readiness(db).enough is enough
    if enough:
        choose("auto", from_feedback(db).train)
    else:
        with pytest.raises(NothingToLearn):
            choose("auto", from_feedback(db).train)
