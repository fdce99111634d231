"""Which completion of a turn a conversation goes on with: the same for the page, the next prompt and every vote."""

from threading import Event

import pytest
from parts import Spoken
from transformers import AutoTokenizer

from kdloop.chat import turn
from kdloop.feedback import collect
from kdloop.settings import Settings
from kdloop.student import Sample
from kdloop.student.serving import Serving
from storage import conversations
from storage.conversations import as_prompt
from storage.database import connect


class Counting(Spoken):
    """Streams "said 1", "said 2" ..."""

    def __init__(self, tokenizer):
        self.tokenizer, self.source, self.n, self.prompts = tokenizer, tokenizer.name_or_path, 0, []

    def stream(self, prompt, sampling, seed, stop):
        self.n += 1
        self.prompts.append(prompt)
        yield Sample(f"said {self.n}", "finished", 5, 5, 0.0, 0.1)


@pytest.fixture
def talk(db, tiny_student):
    """(db, engine, say, again): two functions that talk as ann, and give the last reply."""
    engine = Counting(AutoTokenizer.from_pretrained(tiny_student))
    settings, serving = Settings(home=db.parent), Serving(db, lambda: engine)

    def say(text, conversation=None, **at):
        place = turn.Place(conversation, **at)
        *_, reply = turn.say(settings, serving, place, "ann", text, Event())
        return reply

    def again(completion_id):
        *_, reply = turn.retry(settings, serving, completion_id, "ann", Event())
        return reply

    return db, engine, say, again


def current(db, reply):
    return [k.text for _, k in conversations.history(db, reply.conversation_id, "ann")]


def test_the_newest_goes_on_unless_another_was_chosen_over_it(talk):
    db, engine, say, again = talk
    first = say("Hello")
    second = again(first.completion_id)
    assert current(db, first) == ["said 2"]
    collect.choose(db, "ann", first.completion_id, second.completion_id, "left")
    assert current(db, first) == ["said 1"]
    third = again(first.completion_id)
    assert current(db, first) == ["said 3"], "a retry after a choice"
    say("And?", first.conversation_id)
    assert [m["content"] for m in engine.prompts[-1]] == ["Hello", "said 3", "And?"]
    collect.choose(db, "ann", first.completion_id, third.completion_id, "left")
    assert current(db, first)[0] == "said 1"
    collect.undo(db, "ann", "choice", third.completion_id)
    assert current(db, first)[0] == "said 3", "a choice that was taken back"


@pytest.mark.parametrize("choice", ["tie", "both bad", "right"])
def test_no_other_choice_brings_the_former_back(talk, choice):
    db, _, say, again = talk
    first = say("Hello")
    second = again(first.completion_id)
    collect.choose(db, "ann", first.completion_id, second.completion_id, choice)
    assert current(db, first) == ["said 2"]


def test_a_retry_is_about_what_was_shown_and_only_at_the_conversations_end(talk):
    db, engine, say, again = talk
    first = say("Hello")
    then = say("And?", first.conversation_id)
    with pytest.raises(ValueError, match="went on elsewhere"):
        again(first.completion_id)
    assert again(then.completion_id).turn_id == then.turn_id
    with pytest.raises(conversations.UnknownRow):
        list(turn.retry(Settings(home=db.parent), Serving(db, lambda: engine), then.completion_id, "bob", Event()))


def test_what_another_page_still_waits_for_is_in_no_prompt(talk):
    db, engine, say, _ = talk
    first = say("Hello")
    elsewhere = conversations.add_turn(db, first.conversation_id, as_prompt("Elsewhere"))
    conversations.add_completion(db, elsewhere.id, "student", status="open", checkpoint_id=1)
    say("Here", first.conversation_id)
    assert [m["content"] for m in engine.prompts[-1]] == ["Hello", "said 1", "Here"]


@pytest.mark.parametrize("text", ["", "  \n ", "x" * 8001, "word, " * 1300])
def test_a_refused_message_leaves_no_conversation(talk, text):
    db, _, say, _ = talk
    with pytest.raises(ValueError):
        say(text)
    assert conversations.count_turns(db, "ann") == 0 and contents(db) == 0


def contents(db):
    with connect(db) as c:
        return c.execute("select count(*) from conversations").fetchone()[0]


def test_a_messages_indent_is_kept(talk):
    _, engine, say, _ = talk
    say("\n \n    if x:\n        y()\n\n")
    assert engine.prompts[-1] == as_prompt("    if x:\n        y()")


def test_two_to_choose_from_are_stored_as_the_student_ended_them(db, tiny_student):
    engine = Counting(AutoTokenizer.from_pretrained(tiny_student))
    list(turn.say_twice(Settings(home=db.parent), Serving(db, lambda: engine), turn.Place(), "ann", "Hello", Event()))
    with connect(db) as c:
        rows = [tuple(r) for r in c.execute("select status, completion_tokens from completions")]
    assert rows == [("finished", 5)] * 2, "not stopped, which nobody did"
