"""Hindsight: what people write next is a critique of the answer before it, where the owner and the person allow it."""

import pytest
from parts import context

from kdloop.feedback.examples import from_feedback
from kdloop.feedback.readiness import readiness
from kdloop.knowledge import hindsight
from kdloop.knowledge.rows import Refused
from kdloop.methods import METHODS
from kdloop.methods.self_training.self_teaching import with_critique
from kdloop.recipes import load
from kdloop.rounds import needs
from kdloop.settings import Settings
from kdloop.ui import sidebar
from storage import conversations, feedback, follow_ups, people, rounds
from storage.conversations import as_prompt
from storage.database import connect


def talk(db, person, question, answer, *then, **how):
    """A conversation, with an answer, and a message after it; ids of (conversation, the answer)."""
    conversation = conversations.start_conversation(db, person, question, **how)
    prompt = as_prompt(question)
    turn = conversations.add_turn(db, conversation, prompt)
    said = conversations.add_completion(db, turn.id, "student", text=answer, checkpoint_id=1)
    for message in then:
        prompt = [*prompt, {"role": "assistant", "content": answer}, *as_prompt(message)]
        turn = conversations.add_turn(db, conversation, prompt)
        conversations.add_completion(db, turn.id, "student", text=answer, checkpoint_id=1)
    return conversation, said


@pytest.fixture
def talked(db):
    """ann allows it, bob does not, eve is blocked; the others' last messages have no answer or no message after it."""
    for person in ("ann", "eve"):
        follow_ups.allow(db, person, True)
    people.set_weight(db, "eve", 0)
    where = {"id": next(i for i in map(str, range(99)) if conversations.is_held_out(i))}
    said = talk(db, "ann", "How do tides work?", "By the Moon, which is far.", "Shorter, please", "Shorter still")
    talk(db, "bob", "How do ships float?", "By water.", "Which water?")
    talk(db, "eve", "How do birds fly?", "By wings.", "Wrong!")
    talk(db, "ann", "How do cars drive?", "By wheels.")
    talk(db, "ann", "How do fish swim?", "By fins.", "Nonsense", **where)
    talk(db, "ann", "How do duels end?", "By votes.", "Really?", kind="duel")
    return said


def test_the_next_message_is_a_critique_of_the_answer_of_those_who_allow_it(db, talked):
    assert follow_ups.count(db) == 2
    m = context(db, None, pack="general", hindsight=True)
    assert hindsight.hindsight(m, []) == 2
    examples = from_feedback(db, m.round.id).train
    assert [e.critique for e in examples] == ["Shorter, please", "Shorter still"]
    assert [e.question.count("Moon") for e in examples] == [0, 1], "of the second the conversation is the prompt"
    first = examples[0]
    assert first.rejected.text == "By the Moon, which is far." and first.chosen is None
    assert METHODS[load("hindsight").method].usable(first)
    assert "What was said of it: Shorter, please" in with_critique(first)[-1]["content"]
    vote = feedback.add_feedback(db, talked_turn(db, talked[1]), rater="bob", channel="thumb", chosen_id=talked[1])
    assert [f.held_out for f in feedback.live_feedback(db) if f.id == vote] == [0], "it cannot judge what it taught"


def talked_turn(db, completion):
    return conversations.completion(db, completion).turn_id


def test_nothing_is_read_without_the_owners_or_anybodys_leave(db, talked):
    with pytest.raises(Refused, match="off: an owner can allow it"):
        hindsight.hindsight(context(db, None, pack="general"), [])
    follow_ups.allow(db, "ann", False)
    with pytest.raises(Refused, match="Nobody who allows it"):
        hindsight.hindsight(context(db, None, pack="general", hindsight=True), [])


def test_a_recipe_says_what_is_missing(db, talked):
    def need(**values):
        settings = Settings(home=db.parent, **values)
        return next(n for n in needs.of(settings, load("hindsight"), readiness(db)) if n.what == needs.FOLLOW_UPS)

    assert need().do == needs.SWITCH_ON and not need().met
    assert need(hindsight="on").values == {"n": 2, "most": 8} and not need(hindsight="on").met
    talk(db, "ann", "How do bees buzz?", "By wings.", *map(str, range(6)))
    assert need(hindsight="on").met


def test_an_erasure_takes_what_a_round_had_written_down_and_the_leave(db, talked):
    m = context(db, None, pack="general", hindsight=True)
    hindsight.hindsight(m, [])
    people.erase(db, "ann")
    assert from_feedback(db, m.round.id).train == [] and not follow_ups.allows(db, "ann")
    assert rounds.get_round(db, m.round.id).cancel_requested_at, "its candidate would learn what is deleted"
    with connect(db) as c:
        assert not c.execute("select 1 from feedback where critique like '%Shorter%'").fetchall()


def test_a_person_is_asked_only_where_the_owner_lets_rounds_learn_from_it(db):
    state = {"person": "ann"}
    for switch in ("off", "on"):
        settings = Settings(home=db.parent, hindsight=switch)
        assert sidebar.consent(settings, state).visible == (switch == "on")
    sidebar.allow(settings, True, state)
    assert sidebar.consent(settings, state).value and follow_ups.allows(db, "ann")
    sidebar.allow(settings, False, state)
    assert not sidebar.consent(settings, state).value
