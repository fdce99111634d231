"""Teachers over the official client: llama.cpp's own server with the real student on loopback, and what goes wrong."""

import importlib.util
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from parts import completion, endpoint

from kdloop import packs
from kdloop.feedback import exports
from kdloop.feedback.examples import from_feedback
from kdloop.knowledge import labeling
from kdloop.knowledge.rows import Refused, SourceContext
from kdloop.packs import Task
from kdloop.raters import teacher
from kdloop.raters.teacher import Teacher, Teachers, by_teacher
from kdloop.student import Sampling
from kdloop.student.base import EMBEDDED_WHEEL
from storage import checkpoints, conversations, feedback, rounds
from storage import teachers as store
from storage.conversations import as_prompt

SHORT = Sampling(12, temperature=0.0)
HELLO = [as_prompt("Say hello."), as_prompt("Name a colour.")]


@pytest.fixture(scope="module")
def url():
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(importlib.util.find_spec(EMBEDDED_WHEEL).origin).parent.glob("*.gguf")))
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 2048, 2, 1
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"


def one(url, **values):
    common = {"model": "student", "url": url, "terms": "allowed", "licence": "apache-2.0", "concurrency": 2}
    return Teacher(**{"name": "llama"} | common | values)


def test_a_real_server_answers_is_accounted_and_is_asked_once(db, url):
    teachers = Teachers(db, [one(url, price_in=1.0, price_out=2.0)])
    first = teachers.ask(HELLO, SHORT, [1, 2])
    assert all(a.ok and a.text and not a.cached for a in first), [a.error for a in first]
    assert all(a.status == ("cut" if a.completion_tokens >= 12 else "finished") for a in first)
    spent = store.usage(db)["llama"]
    assert spent.calls == 2 and spent.prompt_tokens == sum(a.prompt_tokens for a in first)
    assert spent.cost == pytest.approx(sum(a.prompt_tokens + 2 * a.completion_tokens for a in first) / 1e6)
    again = teachers.ask(HELLO, SHORT, [1, 2])
    assert [a.text for a in again] == [a.text for a in first] and all(a.cached for a in again)
    assert store.usage(db)["llama"] == spent
    assert not teachers.ask(HELLO[:1], SHORT, [3])[0].cached, "another seed is another request"


def test_structured_output_and_logprobs_come_back(db, url):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema | {"additionalProperties": False}}}
    teachers = Teachers(db, [one(url)])
    (answer,) = teachers.ask([as_prompt("Give a number.")], Sampling(30, 0.0), [1], response_format=shape)
    assert answer.ok and answer.text.startswith("{"), answer
    (answer,) = teachers.ask(HELLO[:1], SHORT, [1], logprobs=True, top_logprobs=3)
    assert len(answer.logprobs[0]["top_logprobs"]) == 3
    assert teachers.ask(HELLO[:1], SHORT, [1], logprobs=True, top_logprobs=3)[0].logprobs == answer.logprobs


def test_a_call_that_fails_gives_no_completion_and_is_not_remembered(db):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    (answer,) = Teachers(db, [one(nobody, retries=0, timeout=2)]).ask(HELLO[:1], SHORT, [1])
    assert not answer.ok and not answer.text and "APIConnectionError" in answer.error
    assert store.usage(db) == {}
    with pytest.raises(ValueError, match="llama gave no completion"):
        by_teacher(answer)


def test_no_call_that_could_exceed_the_budget_is_made(db, url):
    prices = {"price_in": 1000.0, "price_out": 1000.0}
    (answer,) = Teachers(db, [one(url, budget=0.001, **prices)]).ask(HELLO[:1], SHORT, [1])
    assert not answer.ok and "budget of 0.001 is used up" in answer.error
    assert Teachers(db, [one(url, budget=1.0, **prices)]).ask(HELLO[:1], SHORT, [1])[0].ok


@pytest.mark.parametrize(("gone", "cost"), [({}, 200.0), ({"usage": None}, 17.0)])
def test_a_reply_without_a_completion_is_paid_for_once_and_counts(db, gone, cost):
    """A filtered one: its tokens are on the bill. Where the body does not say how many, the most that it can be."""
    body = completion("") | gone
    body["choices"][0]["finish_reason"] = "content_filter"
    with endpoint(lambda request: (200, body)) as (url, seen):
        teachers = Teachers(db, [one(url, price_in=1e6, price_out=2e6)])
        prompt = [as_prompt("Say hello.")]
        (first,), (again,) = (teachers.ask(prompt, Sampling(6), [1]) for _ in range(2))
    assert not first.ok and not again.ok and not again.text and len(seen) == 1
    assert store.usage(db)["llama"].cost == pytest.approx(cost)


def test_those_who_ask_at_once_share_one_budget(db):
    """As two chats do: each has teachers of its own."""

    def slowly(request):
        time.sleep(0.5)
        return "Hello."

    with endpoint(slowly) as (url, seen), ThreadPoolExecutor(4) as pool:
        prices = {"price_in": 1e6, "price_out": 1e6, "budget": 200.0}
        each = [Teachers(db, [one(url, **prices)]) for _ in range(4)]
        prompts = [[as_prompt(f"Hello {i}")] for i in range(4)]
        asked = [pool.submit(t.ask, p, Sampling(150), [1]) for t, p in zip(each, prompts, strict=True)]
        said = [a.result()[0] for a in asked]
    assert len(seen) == 1 and sum(a.ok for a in said) == 1
    assert {a.error for a in said if not a.ok} == {"the budget of 200 is used up"}
    assert each[0].ask([as_prompt("More?")], Sampling(10), [1])[0].ok is False, "150 are spent"


def test_several_teachers_are_drawn_by_weight(db):
    teachers = Teachers(db, [one("http://a", name="a", weight=3), one("http://b", name="b")])
    drawn = [teachers.pick(seed).name for seed in range(400)]
    assert 260 < drawn.count("a") < 340 and teachers.pick(5) == teachers.pick(5)
    with pytest.raises(ValueError, match="No teacher 'c'; there are a, b"):
        teachers.named("c")


def test_a_teachers_file_is_read_and_what_is_wrong_with_it_is_said(db, tmp_path):
    file = tmp_path / "teachers.toml"
    file.write_text('[[teacher]]\nname = "a"\nurl = "http://a/v1"\nterms = "forbidden"\n')
    (only,) = teacher.load(str(file), db).all
    assert only.restricted and not only.may_teach
    file.write_text('[[teacher]]\nname = "a"\nurl = "http://a/v1"\n')
    with pytest.raises(ValueError, match="read its provider's terms"):
        teacher.load(str(file), db)
    file.write_text('[[teacher]]\nname = "a"\nurls = "http://a/v1"\n')
    with pytest.raises(ValueError, match="unknown urls"):
        teacher.load(str(file), db)
    assert teacher.load("", db) is None


def means_with(db, teachers):
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    return SourceContext(db, round, (), Sampling(40), packs.load("general"), teachers=teachers)


def test_labels_are_liked_completions_that_carry_their_author_licence_and_template(db, url):
    context = means_with(db, Teachers(db, [one(url, name="big", terms="forbidden", confirmed=True)]))
    wrong = Task("What is 1 + 1? (in words)", "", ({"check": "words", "most": 0},))
    tasks = [Task("Why is the sky blue?"), Task("What is a cat?"), wrong]
    assert labeling.labels(context, tasks, template="explain", temperature=0.0) == 2
    examples = from_feedback(db, context.round.id).train
    assert [e.question for e in examples] == ["Why is the sky blue?", "What is a cat?"]
    for e in examples:
        assert (e.source, e.chosen.author, e.chosen.name, e.chosen.licence) == (
            "teacher",
            "teacher",
            "big",
            "apache-2.0",
        )
        assert e.chosen.restricted and e.rejected is None


def test_terms_that_forbid_training_are_refused_with_the_remedy(db, url):
    context = means_with(db, Teachers(db, [one(url, terms="forbidden")]))
    with pytest.raises(Refused, match=r"terms of llama forbid .* confirmed = true"):
        labeling.labels(context, [Task("What is a cat?")])
    assert store.usage(db) == {} and not from_feedback(db, context.round.id).train


def test_a_template_renders_to_what_was_sent_and_a_rationale_becomes_a_second_target():
    shown = labeling.render("step_by_step", "2 + 2?", [("1 + 1?", "2")])
    assert [m["content"] for m in shown] == ["1 + 1?", "2", "2 + 2?\n\nThink step by step, then give the answer."]
    with pytest.raises(ValueError, match="No template 'plane'; there are plain"):
        labeling.render("plane", "?")
    said = by_teacher(teacher.Answer(one("http://a"), "Two and two make four. Answer: 4", "finished"))
    assert [(p, s.text) for p, s in labeling.second_target(said)] == [
        ("", "4"),
        ("[rationale] ", "Two and two make four."),
    ]
    assert labeling.unusable("I'm sorry, but I can't help") and not labeling.unusable("Gladly.")


def test_what_an_authors_terms_restrict_is_not_exported(db, tmp_path):
    base = checkpoints.serving(db).id
    conversation = conversations.start_conversation(db, "ann")
    for restricted in (0, 1):
        turn = conversations.add_turn(db, conversation, as_prompt(f"question {restricted}?"))
        told = {"author": "teacher", "text": "an answer", "name": "big", "licence": "?", "restricted": restricted}
        mine = conversations.add_completion(db, turn.id, "student", text="no idea at all", checkpoint_id=base)
        theirs = conversations.add_completion(db, turn.id, **told)
        feedback.add_feedback(db, turn.id, rater="ann", channel="choice", chosen_id=theirs, rejected_id=mine)
    assert exports.export(db, "dpo", tmp_path / "out.jsonl") == 1
    assert "question 0?" in (tmp_path / "out.jsonl").read_text()
