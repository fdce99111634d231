"""A student's thought, from the reply to votes, prompts, training and exports: apart from its answer everywhere."""

import json
from dataclasses import replace
from threading import Event

import pytest
import torch
from parts import endpoint, migrations_before, teacher, thinker

from kdloop.api.endpoints import ask
from kdloop.chat import turn
from kdloop.feedback import collect, exports
from kdloop.feedback.examples import from_feedback
from kdloop.methods.objective import sequence
from kdloop.methods.self_training.self_teaching import caution
from kdloop.raters.rendering import escape
from kdloop.raters.teacher import Teachers
from kdloop.settings import Settings
from kdloop.student import Sampling
from kdloop.student.serving import Serving
from kdloop.student.template import Template
from kdloop.student.transformers import TransformersEngine
from kdloop.ui import transcript
from storage import checkpoints, conversations, people
from storage.conversations import Completion, NotKept, as_prompt
from storage.conversations import transcript as as_text
from storage.database import connect, open_database

QUESTION, THOUGHT, SAID = "Where does the river end?", "It flows east, so to the sea.", "In the sea."
NEXT, SAID_NEXT = "And the rain?", "In the river."
TOLD = Completion("", "", "student", 1, SAID, thought=THOUGHT)


@pytest.fixture(scope="module", params=["qwen3", "gptoss", "deepseek_r1_distill"])
def student(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    later = [*as_prompt(QUESTION), TOLD.message, *as_prompt(NEXT)]
    return thinker(request.param, directory, as_prompt(QUESTION), TOLD, (later, replace(TOLD, text=SAID_NEXT)))


@pytest.fixture
def chat(db, student, monkeypatch):
    """(settings, serving) of a student that thinks, greedily."""
    monkeypatch.setattr(turn, "Sampling", lambda tokens: Sampling(tokens, temperature=0))
    settings = Settings(home=db.parent, thinking="on", context_tokens=1024)
    engine = TransformersEngine(student, dtype=torch.float32, thinks="on")
    return settings, Serving(db, lambda: engine)


def say(chat, text, conversation=None, **changed):
    settings, serving = chat
    return [*turn.say(replace(settings, **changed), serving, turn.Place(conversation), "ann", text, Event())]


def stored(db, id):
    with connect(db) as c:
        return dict(c.execute("select * from completions where id = ?", [id]).fetchone())


def test_the_thought_grows_first_and_is_stored_apart(chat, db):
    *growing, last = say(chat, QUESTION)
    assert (last.thought, last.text, last.status) == (THOUGHT, SAID, "finished")
    assert all(not r.text for r in growing if r.thought not in ("", THOUGHT)), "the answer comes after it"
    assert any(r.thought and r.thought != THOUGHT for r in growing)
    row = stored(db, last.completion_id)
    assert (row["text"], row["thought"]) == (SAID, THOUGHT)
    template = chat[1].base.template
    assert row["completion_tokens"] == len(template.completion_ids(SAID, True, THOUGHT)) - 1
    copy = people.everything(db, "ann")
    assert [k["thought"] for k in copy["completions"]] == [THOUGHT], "it is in the person's copy"


def test_votes_raters_and_exports_see_the_answer(chat, db, tmp_path):
    first = say(chat, QUESTION)[-1]
    second = say(chat, NEXT, first.conversation_id)[-1]
    assert (second.text, second.thought) == (SAID_NEXT, THOUGHT)
    collect.thumb(db, "ann", second.completion_id, True)
    split = from_feedback(db)
    (example,) = [*split.train, *split.held_out]
    assert example.chosen.said == (SAID_NEXT, True) and example.chosen.written == (SAID_NEXT, True, THOUGHT)
    assert THOUGHT not in example.question and THOUGHT not in as_text(example.prompt)
    assert escape(SAID) and THOUGHT not in collect.rateable(db, "ann", second.completion_id).text
    for format, n in (("sft", 1), ("kto", 1), ("dpo", 0)):
        assert exports.export(db, format, tmp_path / "out") == n
        rows = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
        for row in rows:
            messages = row.get("messages") or [*row["prompt"], *row["completion"]]
            assert [m["content"] for m in messages] == [QUESTION, SAID, NEXT, SAID_NEXT]
            assert [m["reasoning_content"] for m in messages] == ["", THOUGHT, "", THOUGHT]
            rendered = chat[1].base.template.rendered(messages, False)
            assert f"{SAID_NEXT}" in rendered


def test_an_export_without_thoughts_has_no_field_for_them(db, tmp_path):
    base = checkpoints.ensure_base(db)
    asked = conversations.add_turn(db, conversations.start_conversation(db, "ann", "Hi"), as_prompt("Hi"))
    id = conversations.add_completion(db, asked.id, "student", text="Hello.", checkpoint_id=base.id)
    collect.thumb(db, "ann", id, True)
    assert exports.export(db, "sft", tmp_path / "out") == 1
    (row,) = map(json.loads, (tmp_path / "out").read_text().splitlines())
    assert [set(m) for m in row["messages"]] == [{"role", "content"}] * 2


def test_what_was_said_is_learned_as_it_was_written(chat, db):
    """From the reply over the database to the ids of training: those that the student wrote, with its thought."""
    first = say(chat, QUESTION)[-1]
    second = say(chat, NEXT, first.conversation_id)[-1]
    collect.thumb(db, "ann", second.completion_id, True)
    split, engine = from_feedback(db), chat[1].base
    (example,) = [*split.train, *split.held_out]
    prompt, completion = sequence(engine.tokenizer, example.prompt, example.chosen)
    rendered = engine.template.rendered(example.prompt, True)
    assert prompt == engine.template.encode(rendered)
    assert THOUGHT not in rendered, "these families leave thoughts of earlier turns out"
    assert completion == engine.template.completion_ids(SAID_NEXT, True, THOUGHT)


def test_a_reply_that_is_cut_in_its_thought_is_no_answer(chat, db):
    last = say(chat, QUESTION, max_tokens=14)[-1]
    assert last.status == "cut" and last.text == "" and THOUGHT.startswith(last.thought) and last.thought
    row = stored(db, last.completion_id)
    assert (row["status"], row["text"], row["thought"]) == ("cut", "", last.thought)
    with pytest.raises(ValueError, match="Only a completion that the student has finished can be rated"):
        collect.thumb(db, "ann", last.completion_id, True)
    state = {"person": "ann", "conversation": last.conversation_id}
    assert transcript.CUT_IN_THOUGHT in transcript.authors(chat[0], state)
    say(chat, NEXT, last.conversation_id)
    (_, (later, _)) = conversations.history(db, last.conversation_id, "ann")
    assert later.prompt[1] == {"role": "assistant", "content": ""}, "nor is it in what follows"


def test_stop_and_leaving_keep_the_thought_so_far(chat, db):
    settings, serving = chat
    for leave in (False, True):
        stop, seen = Event(), None
        replies = turn.say(settings, serving, turn.Place(), "ann", QUESTION, stop)
        for seen in replies:
            if len(seen.thought) > 5 and seen.status == "open":
                if leave:
                    replies.close()
                stop.set()
        row = stored(db, seen.completion_id)
        assert (
            row["status"] == "stopped" and row["text"] == "" and THOUGHT.startswith(row["thought"]) and row["thought"]
        )


def test_the_api_gives_it_in_a_field_of_its_own(chat):
    reply = ask(*chat, QUESTION)
    assert (reply["text"], reply["thought"], reply["status"]) == (SAID, THOUGHT, "finished")


def test_the_page_folds_it_and_an_edit_begins_with_the_answer(chat, db):
    last = say(chat, QUESTION)[-1]
    _, message = transcript.transcript(chat[0], "ann", last.conversation_id)
    assert message["content"].count("<details") == 1 and " open" not in message["content"].partition(">It")[0]
    assert transcript.prose.plain(message["content"]) == SAID
    growing = transcript.assistant_message("", "id", THOUGHT, writing=True)["content"]
    assert '<details class="kd-thought" open>' in growing and "Thinking" in growing
    with pytest.raises(ValueError, match="same as what the student wrote"):
        collect.edit(db, "ann", last.completion_id, transcript.prose.plain(message["content"]))


def test_a_teacher_gets_no_thought_of_the_student(db):
    talk = [*as_prompt(QUESTION), TOLD.message, *as_prompt(NEXT)]
    with endpoint(lambda request: "In clouds.") as (url, seen):
        (answer,) = Teachers(db, [teacher(url)]).ask([talk], Sampling(8), [1])
    assert answer.ok and [m["content"] for m in seen[0]["messages"]] == [QUESTION, SAID, NEXT]
    assert THOUGHT not in json.dumps(seen[0])


def test_methods_that_cost_long_thinkers_say_so(student):
    engines = {t: TransformersEngine(student, thinks=t) for t in ("on", "off")}
    for method in ("sdft", "sdpo"):
        assert "2607.05184" in caution(method, engines["on"].tokenizer)
        assert caution(method, engines["off"].tokenizer) == ""
    assert caution("dpo", engines["on"].tokenizer) == ""


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "tool", "content": "rain", "tool_call_id": "1"}, "role 'tool'"),
        ({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather"}}]}, "tool_calls"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "no plain text"),
        ({"role": "user", "content": "Hi", "name": "eve"}, "name"),
    ],
)
def test_a_conversation_with_tools_or_images_is_refused_in_words_before_it_is_stored(db, message, words):
    conversation = conversations.start_conversation(db, "ann", "Hi")
    with pytest.raises(NotKept, match=words):
        conversations.add_turn(db, conversation, [*as_prompt("Hi"), message, *as_prompt("And?")])
    with connect(db) as c:
        assert c.execute("select count(*) from turns").fetchone()[0] == 0


def test_rows_of_an_older_database_have_no_thought(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.database.MIGRATIONS", migrations_before("thought_column"))
    db = open_database(tmp_path / "kdloop.db")
    base = checkpoints.ensure_base(db)
    asked = conversations.add_turn(db, conversations.start_conversation(db, "ann", "Hi"), as_prompt("Hi"))
    id = conversations.add_completion(db, asked.id, "student", text="Hello.", checkpoint_id=base.id)
    monkeypatch.undo()
    open_database(db)
    found = conversations.completion(db, id, "ann")
    assert (found.text, found.thought, found.written) == ("Hello.", "", ("Hello.", True, ""))
    assert found.message == {"role": "assistant", "content": "Hello."}


def test_a_template_is_asked_once_for_each_setting(student):
    tokenizer = TransformersEngine(student, thinks="on").tokenizer
    on = Template.of(tokenizer)
    assert Template.of(tokenizer, "off") is Template.of(tokenizer) is not on
