"""Branches of a conversation: every reader goes by the one that is open, or that the page shows."""

from threading import Event

import pytest
from parts import Spoken
from transformers import AutoTokenizer

from kdloop.chat import turn
from kdloop.chat.turn import Place
from kdloop.feedback import collect
from kdloop.feedback.examples import from_feedback
from kdloop.methods import multi_turn
from kdloop.settings import Settings
from kdloop.student import Sample
from kdloop.student.serving import Serving
from storage import branches, conversations, feedback, people
from storage.conversations import UnknownRow
from storage.database import connect, open_database
from storage.migrations import MIGRATIONS


class Echo(Spoken):
    """Says "re: " and the last message; breaks at "break"."""

    def __init__(self, tokenizer):
        self.tokenizer, self.source, self.read = tokenizer, tokenizer.name_or_path, []

    def stream(self, prompt, sampling, seed, stop):
        self.read = [m["content"] for m in prompt]
        if self.read[-1] == "break":
            raise RuntimeError("the engine broke")
        yield Sample(f"re: {self.read[-1]}", "finished", 5, 5, 0.0, 0.1)


@pytest.fixture
def talk(db, tiny_student):
    """(db, engine, say): `say(text, conversation, after=, instead_of=)` gives the last reply to ann."""
    engine = Echo(AutoTokenizer.from_pretrained(tiny_student))
    settings, serving = Settings(home=db.parent), Serving(db, lambda: engine)

    def say(text, conversation=None, **at):
        *_, reply = turn.say(settings, serving, Place(conversation, **at), "ann", text, Event())
        return reply

    return db, engine, say


def asked(db, conversation, turn=None):
    return [t.prompt[-1]["content"] for t, _ in conversations.history(db, conversation, "ann", turn)]


def test_a_message_asked_anew_goes_on_from_there_and_nothing_is_lost(talk):
    db, engine, say = talk
    first = say("tides")
    at = first.conversation_id
    second = say("why two", at)
    say("and moons", at)
    anew = say("why three", at, instead_of=second.turn_id)
    assert engine.read == ["tides", "re: tides", "why three"]
    assert asked(db, at) == ["tides", "why three"]
    say("and suns", at)
    assert engine.read[2:] == ["why three", "re: why three", "and suns"]
    both = [second.turn_id, anew.turn_id]
    assert branches.siblings(db, at) == {both[0]: both, both[1]: both}

    assert branches.open_branch(db, "ann", second.turn_id)[0] == at
    assert asked(db, at) == ["tides", "why two", "and moons"], "where that branch was left"
    say("and rivers", at)
    assert engine.read[2:] == ["why two", "re: why two", "and moons", "re: and moons", "and rivers"]
    branches.open_branch(db, "ann", anew.turn_id)
    assert asked(db, at) == ["tides", "why three", "and suns"]

    begun = say("ebbs", at, instead_of=first.turn_id)  # the conversation's first message
    assert engine.read == ["ebbs"] and asked(db, at) == ["ebbs"]
    assert len(branches.siblings(db, at)[begun.turn_id]) == 2
    third = say("floods", at, instead_of=begun.turn_id)
    assert branches.siblings(db, at)[first.turn_id] == [first.turn_id, begun.turn_id, third.turn_id]
    with connect(db) as c:
        assert c.execute("select count(*) from turns").fetchone()[0] == 8
    assert len(people.everything(db, "ann")["turns"]) == 8


def test_what_the_page_shows_goes_on_whatever_is_open_elsewhere(talk):
    db, engine, say = talk
    first = say("tides")
    at = first.conversation_id
    other = say("ebbs", at, instead_of=first.turn_id)
    say("and suns", at, after=first.turn_id)
    assert engine.read == ["tides", "re: tides", "and suns"]
    assert asked(db, at, other.turn_id) == ["ebbs"] and asked(db, at, "nobody's") == ["tides", "and suns"]
    say("and moons", at, after=first.turn_id)  # of a page that has not seen the message before this one
    assert engine.read[2:] == ["and suns", "re: and suns", "and moons"]
    assert asked(db, at, first.turn_id) == ["tides", "and suns", "and moons"]


def test_a_message_whose_reply_fails_is_no_branch(talk):
    db, _, say = talk
    first = say("tides")
    at = first.conversation_id
    second = say("why", at)
    with pytest.raises(RuntimeError):
        say("break", at, instead_of=first.turn_id)
    assert asked(db, at) == ["tides", "why"] and branches.siblings(db, at) == {}
    with connect(db) as c:
        (failed,) = c.execute("select id from turns where parent_id is null and id <> ?", [first.turn_id]).fetchone()
    with pytest.raises(UnknownRow):
        branches.open_branch(db, "ann", failed)
    say("go on", at, after=failed)
    assert asked(db, at) == ["tides", "why", "go on"]
    assert not conversations.is_last(db, conversations.turn(db, second.turn_id))


def test_a_branch_is_its_persons_and_its_conversations(talk):
    db, _, say = talk
    mine, other = say("tides"), say("stars")
    for person, id in (("bob", mine.turn_id), ("ann", "nobody's")):
        with pytest.raises(UnknownRow):
            branches.open_branch(db, person, id)
    with pytest.raises(UnknownRow):
        say("why", mine.conversation_id, instead_of=other.turn_id)
    assert asked(db, mine.conversation_id) == ["tides"]


def test_only_the_end_of_a_branch_is_tried_again(talk):
    db, _, say = talk
    first = say("tides")
    at = first.conversation_id
    second = say("why", at)
    anew = say("how", at, instead_of=second.turn_id)
    ends = {r.turn_id: conversations.is_last(db, conversations.turn(db, r.turn_id)) for r in (first, second, anew)}
    assert list(ends.values()) == [False, True, True]


def test_votes_searches_and_training_know_every_branch(talk):
    db, _, say = talk
    first = say("tides")
    at = first.conversation_id
    second = say("why plinth", at)
    collect.thumb(db, "ann", second.completion_id, True)
    anew = say("why gravel", at, instead_of=second.turn_id)
    collect.thumb(db, "ann", anew.completion_id, False)
    later = say("and then", at)
    collect.thumb(db, "ann", later.completion_id, True)
    assert feedback.thumbs(db, "ann", at) == {second.completion_id: True, anew.completion_id: False,
                                              later.completion_id: True}  # fmt: skip
    for word in ("plinth", "gravel"):
        assert [id for id, _ in conversations.find_conversations(db, "ann", word)] == [at]
    split = from_feedback(db)
    told = {e.question for e in [*split.train, *split.held_out]}
    assert len(told) == 3 and not any("plinth" in q and "gravel" in q for q in told)
    liked = [e for e in [*split.train, *split.held_out] if e.chosen]
    assert sorted(m[2]["content"] for m in multi_turn.conversations(liked)) == ["why gravel", "why plinth"]
    people.erase(db, "ann")
    assert not any(people.everything(db, "ann").values())


def test_an_older_conversation_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.database.MIGRATIONS", MIGRATIONS[: [m.__name__ for m in MIGRATIONS].index("branches")])
    path = open_database(tmp_path / "kdloop.db")
    with connect(path) as c:
        c.execute(
            "insert into conversations (id, person, created_at) values ('v', 'ann', '2026'), ('w', 'ann', '2026')"
        )
        c.execute("insert into checkpoints (id, version, status, created_at) values (1, 0, 'serving', '2026')")
        for at, end in enumerate(["finished", "failed", "cut"]):
            prompt = f'[{{"role": "user", "content": "q{at}"}}]'
            c.execute("insert into turns values (?, 'v', ?, ?, '2026')", [f"t{at}", at, prompt])
            k = [f"k{at}", f"t{at}", end]
            c.execute("insert into completions (id, turn_id, author, checkpoint_id, status, created_at) "
                      "values (?, ?, 'student', 1, ?, '2026')", k)  # fmt: skip
    monkeypatch.undo()
    open_database(path)
    assert asked(path, "v") == ["q0", "q2"] and branches.siblings(path, "v") == {}
