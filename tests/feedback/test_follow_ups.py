"""A vote on a follow-up ("And a smaller one?") is about a conversation: whoever judges or samples sees all of it."""

import threading

import numpy as np
import pytest
from parts import context
from test_collect import ask
from test_preference_model import vote
from transformers import AutoTokenizer

from kdloop import packs, recipes
from kdloop.feedback import collect
from kdloop.feedback.examples import Example, Split, asks_any_of, from_feedback
from kdloop.gate.outcomes import by_rater
from kdloop.knowledge import elicit
from kdloop.knowledge.rows import training_id
from kdloop.methods import supervised
from kdloop.methods.self_training.self_teaching import with_critique
from kdloop.packs import Task
from kdloop.raters import active, features, preference_model
from kdloop.rounds.tasks import training_tasks
from kdloop.student import Sample
from storage import checkpoints, conversations, feedback, people, traces
from storage.conversations import as_prompt

ASKED = [*as_prompt("Name a mountain in Peru."), {"role": "assistant", "content": "Huascarán."}]
FOLLOW_UP = [*ASKED, *as_prompt("And a smaller one?")]
OTHER = [*as_prompt("Name a fruit."), {"role": "assistant", "content": "A melon."}, *as_prompt("And a smaller one?")]


@pytest.fixture
def voted(db):
    """Choices on two follow-ups whose last messages are the same."""
    for prompt in (FOLLOW_UP, OTHER):
        turn = conversations.add_turn(db, conversations.start_conversation(db, "ann", id=training_id()), prompt)
        base = checkpoints.serving(db).id
        sides = [conversations.add_completion(db, turn.id, "student", text=t, checkpoint_id=base) for t in ("a", "b")]
        collect.choose(db, "ann", *sides, "left")
    return db


def test_a_round_asks_whole_conversations_and_takes_none_for_another(voted):
    split = from_feedback(voted)
    tasks = training_tasks(recipes.VOTES, split, seed=1)
    assert [t.messages for t in tasks[:2]] == [FOLLOW_UP, OTHER] and len(tasks) == recipes.VOTES.prompts
    assert not any(t.before for t in tasks[2:])
    held_out = Split(split.train, split.train[1:])
    assert [t.messages for t in training_tasks(recipes.VOTES, held_out, seed=1) if t.before] == [FOLLOW_UP]


def test_best_of_n_samples_and_writes_the_conversation_and_other_sources_leave_it_out(db):
    seen = []

    def say(messages, seed):
        seen.append(messages)
        return " ".join(["bread river"] * (1 + seed % 8))

    tasks = [Task(FOLLOW_UP[-1]["content"], before=tuple(ASKED)), packs.tasks("general", "train")[0]]
    m = context(db, say, pack="general", rater=preference_model.fit([vote(i) for i in range(80)]))
    elicit(m, tasks, [{"source": "best_of_n", "sure": 0.5, "echoes": 2}])
    assert seen.count(FOLLOW_UP) == seen.count(tasks[1].messages) == 4
    written = [e for e in from_feedback(db, m.round.id).train if e.prompt == FOLLOW_UP]
    assert {e.rejected.text for e in written} > {FOLLOW_UP[-1]["content"]}, "only the last message is said again"
    seen.clear()
    elicit(m, tasks, [{"source": "rlcd"}, {"source": "majority"}])
    assert seen and not any("smaller" in said["content"] for messages in seen for said in messages)


def test_a_judge_of_style_reads_what_came_before(monkeypatch):
    """The preference model in fitting, in the gate and as a reward; a completion that takes up the conversation's words
    is near to it."""
    votes = [vote(i) for i in range(8)]
    read = []
    noted = lambda prompt, *said: read.append(prompt) or features.surface(prompt, *said)  # noqa: E731
    monkeypatch.setattr(preference_model, "surface", noted)
    with_context = [Example([*ASKED, *e.prompt], *e.completions, e.conversation, e.rows) for e in votes]
    model = preference_model.fit(with_context)
    samples = [Sample(text, "finished", 5, 5, 0.0, 0.1) for text in ("One.", "Another thing.")]
    by_rater(model, [FOLLOW_UP], samples[:1], samples[1:])
    model.reward(FOLLOW_UP, "Nothing else.", True)
    assert read and all("Name a mountain in Peru." in prompt for prompt in read)


def test_relevance_is_to_the_conversation_and_an_echo_is_of_its_last_message():
    said = "Huaytapallana is a smaller mountain in the Andes of Peru."
    near, alone = (features.styles([p], [said])[2] for p in (FOLLOW_UP, FOLLOW_UP[-1:]))
    assert near < alone - 0.1
    assert features.styles([FOLLOW_UP], ["And a smaller one?"])[1] == 1
    long = [{"role": "user", "content": "word " * 155}] * 3
    assert features.newest([*long, *FOLLOW_UP]) == FOLLOW_UP and features.newest(long) == long[2:]
    assert features.newest([{"role": "user", "content": "word " * 900}])
    assert np.allclose(features.embed_prompts([as_prompt("Why?")]), features.embed(["Why?"]), atol=1e-6)


def test_a_template_is_put_around_the_last_message_once(tiny_student):
    tokenizer = AutoTokenizer.from_pretrained(tiny_student)
    k = conversations.Completion("1", "t", "student", 1, "A pebble.")
    e = Example(FOLLOW_UP, k, k, "c", ("r",), critique="No.", rationale="So.")
    told = with_critique(e)
    assert told[:-1] == ASKED and "Peru" not in told[-1]["content"] and "And a smaller one?" in told[-1]["content"]
    ids = supervised.chosen_and_rationale_rows(tokenizer, e)[1]["input_ids"]
    assert tokenizer.decode(ids).count("Name a mountain in Peru.") == 1


def test_nobody_else_is_shown_what_followed_from_a_persons_conversation(db):
    """Its last message may be one that a pack asks, too."""
    public = packs.prompts("general", "train")[0]
    for prompt, shown in (([*ASKED, *as_prompt(public)], 0), (as_prompt(public), 1)):
        turn = conversations.add_turn(db, conversations.start_conversation(db, "round 1"), prompt)
        base = checkpoints.serving(db).id
        a, b = (conversations.add_completion(db, turn.id, "student", text=t, checkpoint_id=base) for t in ("a", "b"))
        row = feedback.add_feedback(
            db,
            turn.id,
            rater="model",
            channel="ranking",
            source="preference_model",
            chosen_id=a,
            rejected_id=b,
            score=0.6,
        )
        assert len(collect.lessons(db, "bob", {})) == shown and bool(feedback.ai_choice(db, "bob", row)) == bool(shown)
    active.wait()


def test_what_a_person_said_leaves_the_memory_of_raters_with_an_erasure(db):
    """Also where a refit is reading it at that moment."""
    secrets = ["My badge is 4417.", "Its number is 4417, as you said."]
    for i in range(8):
        a, b = ask(db, f"{secrets[1]} {i}", "I do not know.", question=f"{secrets[0]} {i}")
        collect.choose(db, "ann", a, b, "left")
    preference_model.fit(from_feedback(db).train)
    assert any("4417" in text for key in preference_model.FEATURE_CACHE for text in key[:2])
    people.erase(db, "ann")
    assert not preference_model.FEATURE_CACHE
    begun, go_on, read = threading.Event(), threading.Event(), preference_model.read

    def slow():
        begun.set()
        go_on.wait()
        read([secrets[0]], [(secrets[1], True)])

    estimates = active.ESTIMATES.setdefault(db, active.Estimates())
    estimates.refit = threading.Thread(target=slow)
    estimates.refit.start()
    begun.wait()
    threading.Timer(0.2, go_on.set).start()
    people.erase(db, "bob")
    assert not any("4417" in text for key in preference_model.FEATURE_CACHE for text in key[:2])


def test_short_messages_in_a_transcript_that_a_judge_was_given_are_found(db):
    """By an erasure: who speaks stands before them."""
    words = traces.Words.of({"And a smaller one?"})
    assert words.are_in(conversations.transcript(FOLLOW_UP)) and not words.are_in("She said: And a smaller one? No.")


def test_a_replayed_conversation_asks_nothing_that_the_pack_holds_out():
    held_out = packs.held_out("general")
    first = packs.prompts("general", "gate")[0]
    assert asks_any_of([*as_prompt(first), *ASKED, *as_prompt("And?")], held_out)
    assert not asks_any_of(FOLLOW_UP, held_out)
