"""POST /v1/chat/completions as openai's own client uses it, on the real app."""

import json
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from copy import copy

import httpx
import pytest
from openai import APIError, BadRequestError, InternalServerError, NotFoundError, OpenAI, RateLimitError
from served import serving

from kdloop.api import bodies
from kdloop.api.access import Caller
from kdloop.api.completions import MOST_WAITING
from kdloop.api.refusals import Refusal
from kdloop.api.writing import Loop, Writing
from kdloop.chat.turn import Reply
from kdloop.rounds.supervisor import Supervisor
from kdloop.student import EngineUnavailable, NoLogprobs
from kdloop.student.serving import Serving
from kdloop.ui import replies
from storage import rounds
from storage.database import connect, transaction

HELLO = [{"role": "user", "content": "Hello?"}]


@pytest.fixture
def client(app):
    return OpenAI(base_url=f"{app.url}/v1", api_key="none is needed here", max_retries=0)


def ask(client, messages, **options):
    return client.chat.completions.create(model="kdloop", messages=messages, **options)


def texts(stream):
    return [c.delta.content for chunk in stream for c in chunk.choices if c.delta.content]


def stored(db, query="select v.id, t.position, k.status from conversations v join turns t on t.conversation_id = v.id "
           "join completions k on k.turn_id = t.id order by k.rowid"):  # fmt: skip
    with connect(db) as c:
        return [tuple(r) for r in c.execute(query)]


def eventually(check, seconds=60):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def test_models_are_the_champion_and_versions_by_name(client):
    assert [m.id for m in client.models.list()] == ["kdloop", "v0"] and client.models.retrieve("v0").id == "v0"
    assert client.chat.completions.create(model="v0", messages=HELLO).model == "v0"
    with pytest.raises(NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert unknown.value.param == "model" and unknown.value.code == "model_not_found"


def test_a_seed_gives_the_same_text_streamed_and_not_and_each_has_its_receipt(client):
    raw = client.chat.completions.with_raw_response.create(model="kdloop", messages=HELLO, seed=7)
    whole = raw.parse()
    assert raw.headers["x-kdloop-completion"] == whole.id and whole.id.startswith("chatcmpl-")
    assert whole.model == "v0" and whole.system_fingerprint == "v0-transformers"
    assert whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 12
    options = {"seed": 7, "stream": True, "stream_options": {"include_usage": True}}
    chunks = list(ask(client, HELLO, **options))
    assert "".join(texts(chunks)) == whole.choices[0].message.content and len(texts(chunks)) > 3
    assert [c.usage for c in chunks if c.usage] == [whole.usage] and chunks[-1].choices == []
    assert {c.id for c in chunks} != {whole.id} and len({c.id for c in chunks}) == 1
    assert ask(client, HELLO, seed=8).choices[0].message.content != whole.choices[0].message.content


def test_a_receipt_has_what_packs_disclaim_that_the_version_learned_from(client, app):
    """As if v0 were of a round: the student stays the same."""
    learned = "update checkpoints set round_id = ?, metrics = json_set(metrics, '$.disclaimer', ?) where id = 1"
    round = rounds.start_round(app.db, requested="dpo", seed=1, started_by="test", owner="me", recipe={"pack": "gone"})
    rounds.finish_round(app.db, round.id, "failed", error="a test")
    rounds.release_lease(app.db, "me")
    for id, said in ((round.id, ["Ask a doctor."]), (None, [])):
        with transaction(app.db) as c:
            c.execute(learned, [id, "".join(said)])
        assert ask(client, HELLO, max_tokens=3).choices[0].disclaimers == said
        choices = [c.to_dict() for chunk in ask(client, HELLO, stream=True, max_tokens=3) for c in chunk.choices]
        assert [c.get("disclaimers") for c in choices] == [said, *[None] * (len(choices) - 1)]


def test_sampling_is_what_the_client_says(client, app):
    short = ask(client, HELLO, max_tokens=3, temperature=0)
    assert short.usage.completion_tokens == 3
    assert (
        short.choices[0].message.content
        == ask(client, HELLO, max_completion_tokens=3, top_p=0).choices[0].message.content
    )
    ask(client, HELLO, temperature=1.5, top_p=0.4, seed=-5, max_tokens=10**6, extra_body={"top_k": 9})
    (said,) = stored(app.db, "select sampling from completions order by rowid desc limit 1")
    assert json.loads(said[0]) == {"max_tokens": 12, "temperature": 1.5, "top_p": 0.4, "top_k": 9, "seed": -5}


def test_a_conversation_is_recognised_and_stored_once(client, app):
    before, talk = len(stored(app.db)), [{"role": "system", "content": "It is 10:01."}]
    for i in range(3):
        talk[0] = {"role": "system", "content": f"It is 10:0{i}."}
        talk.append({"role": "user", "content": f"Question {i}?"})
        reply = ask(client, talk, user="ann")
        talk.append({"role": "assistant", "content": f" {reply.choices[0].message.content}\n"})
    ask(client, talk[:-1], user="ann")  # again
    ask(client, talk[:-1], user="bob")
    rows = stored(app.db)[before:]
    assert [position for _, position, _ in rows] == [0, 1, 2, 2, 0]
    assert len({id for id, _, _ in rows[:4]}) == 1 and rows[4][0] != rows[0][0]
    prompts = stored(app.db, "select prompt from turns order by rowid desc limit 2")
    assert json.loads(prompts[0][0]) == json.loads(prompts[1][0]) == talk[:-1]
    origins = stored(app.db, "select distinct origin from conversations")
    assert origins == [("api",)]
    ask(client, [*talk[:3], {"role": "user", "content": "Question one, in other words?"}], user="ann")
    branch = stored(app.db, "select conversation_id, position, parent_id from turns order by rowid desc limit 1")
    first = stored(app.db, f"select id from turns where conversation_id = '{rows[0][0]}' and position = 0")
    assert branch == [(rows[0][0], 3, first[0][0])]


def test_what_a_client_asks_for_itself_and_store_false_leave_nothing(client, app):
    before = stored(app.db)
    title = [{"role": "user", "content": "### Task:\nGenerate a concise, 3-5 word title with an emoji."}]
    first, second = ask(client, title, n=2).choices
    assert first.message.content and first.message.content != second.message.content
    assert texts(ask(client, title, stream=True)) and ask(client, HELLO, store=False).choices[0].message.content
    assert stored(app.db) == before
    ask(client, [{"role": "user", "content": "### Task:\nRespond to the user query using the provided context."}])
    assert len(stored(app.db)) == len(before) + 1, "a chat about documents is one"


def test_a_completion_ends_before_a_stop_text(client, app):
    whole = ask(client, HELLO, seed=3).choices[0].message.content
    at = len(whole) // 2
    stop = [whole[at : at + 3], "never said"]
    cut = ask(client, HELLO, seed=3, stop=stop).choices[0]
    assert cut.finish_reason == "stop" and cut.message.content == whole[: whole.index(stop[0])].strip()
    assert "".join(texts(ask(client, HELLO, seed=3, stop=stop, stream=True))) == cut.message.content
    assert [status for _, _, status in stored(app.db)[-2:]] == ["cut", "cut"], "the student did not end its turn"
    several = ask(client, HELLO, seed=2, n=2, stop=stop[0]).choices
    assert [c.finish_reason for c in several] == ["length", "stop"] and several[
        1
    ].message.content == cut.message.content


def test_log_probabilities_are_those_of_the_text(client, app, engine):
    reply = ask(client, HELLO, n=2, logprobs=True)
    for choice in reply.choices:
        listed = choice.logprobs.content
        assert "".join(t.token for t in listed) == choice.message.content
        assert [t.logprob for t in listed] == pytest.approx(
            engine.logprobs([HELLO], [(choice.message.content, False)])[0]
        )
    streamed = list(ask(client, HELLO, logprobs=True, stream=True))
    said = [t.token for c in streamed for choice in c.choices if choice.logprobs for t in choice.logprobs.content]
    assert "".join(said) == "".join(texts(streamed))


def test_log_probabilities_of_a_text_with_half_a_character_are_those_of_all_its_tokens(app, engine):
    """Three byte tokens spell it where it is scored, and the last of them alone reads the same."""
    loop = Loop(app.settings, Serving(app.db, lambda: engine), Supervisor(app.settings, None))
    writing = Writing.begin(loop, Caller(), bodies.chat({"messages": HELLO, "logprobs": True}, 12))
    for text in ("\ufffdwind vac", "rivers\ufffd", "\ufffd", "Hello", ""):
        listed = writing.logprobs(Reply("", "", "", text, "complete", writing.checkpoint))
        assert "".join(t["token"] for t in listed) == text
        assert [t["logprob"] for t in listed] == pytest.approx(engine.logprobs([HELLO], [(text, False)])[0])


def test_an_engine_without_log_probabilities_says_so_before_it_writes(app, engine):
    silent = copy(engine)

    def logprobs(prompts, completions):
        raise NoLogprobs("this server has none")

    silent.logprobs = logprobs
    model = Serving(app.db, lambda: silent)
    loop = Loop(app.settings, model, Supervisor(app.settings, model))
    asked = bodies.chat({"messages": HELLO, "logprobs": True}, 12)
    with pytest.raises(Refusal) as refused:
        Writing.begin(loop, Caller(), asked)
    assert refused.value.param == "logprobs" and refused.value.status == 400


REFUSED = [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": "x", "name": "ann"}]}, "messages[0].name"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
    (
        {"messages": [*HELLO, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
        "messages[1].tool_calls",
    ),
    ({"messages": [*HELLO, {"role": "assistant", "content": "Sure,"}]}, "messages"),
    ({"messages": [{"role": "user", "content": " \n"}]}, "messages"),
    ({"messages": HELLO * 300}, "messages"),
    ({"messages": [{"role": "user", "content": "walrus " * 4000}]}, "messages"),
    ({"tools": [{"type": "function"}], "tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"frequency_penalty": 0.5}, "frequency_penalty"),
    ({"logit_bias": {"5": -100}}, "logit_bias"),
    ({"min_p": 0.1}, "min_p"),
    ({"chat_template_kwargs": {}}, "chat_template_kwargs"),
    ({"logprobs": True, "top_logprobs": 3}, "top_logprobs"),
    ({"temperature": 2.5}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
    ({"n": 0}, "n"),
    ({"n": 10**400}, "n"),
    ({"seed": 2**63}, "seed"),
    ({"stop": [""]}, "stop"),
    ({"stop": list("abcde")}, "stop"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": 1}}, "include_usage"),
    ({"user": 7}, "user"),
    ({"model": ["kdloop"]}, "model"),
]


@pytest.mark.parametrize(("change", "param"), REFUSED, ids=[p for _, p in REFUSED])
def test_what_is_not_supported_is_refused_by_its_name_before_anything_is_stored(client, app, change, param):
    before = stored(app.db)
    with pytest.raises(BadRequestError) as refused:
        client.post("chat/completions", body={"model": "kdloop", "messages": HELLO} | change, cast_to=object)
    assert refused.value.param == param and refused.value.type == "invalid_request_error"
    assert stored(app.db) == before and app.supervisor.places.taken == 0


def test_what_changes_nothing_is_accepted(client):
    tools = [{"type": "function", "function": {"name": f"tool_{i}", "parameters": {}}} for i in range(28)]
    neutral = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "response_format": {"type": "text"}}
    harmless = {"metadata": {"a": "b"}, "service_tier": "auto", "parallel_tool_calls": False, "tool_choice": "auto"}
    parts = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]
    reply = ask(client, parts, tools=tools, logprobs=None, extra_body={"seed": None}, **neutral, **harmless)
    assert reply.choices[0].message.content and reply.choices[0].message.tool_calls is None


def test_text_that_spells_control_tokens_is_text(client):
    plain, spelled = (ask(client, [{"role": "user", "content": t}]).usage.prompt_tokens for t in ("x", "x<|im_end|>"))
    assert spelled > plain + 3


def test_a_request_that_is_closed_stops_its_generation(tmp_path, engine):
    with serving(tmp_path, engine, max_tokens=1500) as app:
        url, body = f"{app.url}/v1/chat/completions", {"messages": HELLO, "stream": True}
        with httpx.stream("POST", url, json=body, timeout=60) as lines:
            assert sum(1 for _, line in zip(range(4), lines.iter_lines(), strict=False) if line) == 2
            assert app.supervisor.streaming == app.supervisor.places.taken == 1, "a round would be paused"
        eventually(lambda: app.supervisor.places.taken == 0)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, json={"messages": HELLO}, timeout=httpx.Timeout(60, read=0.7))
        eventually(lambda: app.supervisor.places.taken == 0 and app.supervisor.streaming == 0)
        assert [status for _, _, status in stored(app.db)] == ["stopped", "stopped"]
        waiting = [app.supervisor.places.ask()]
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, json={"messages": HELLO}, timeout=httpx.Timeout(60, read=0.3))
        eventually(lambda: not app.supervisor.places.waiting)
        assert len(stored(app.db)) == 2, "who has left the queue is not answered"
        app.supervisor.places.leave(waiting[0])


def test_requests_wait_for_their_place_and_a_full_queue_refuses(client, app):
    places, users = app.supervisor.places, ("one", "two", "three")
    with ThreadPoolExecutor(3) as pool:
        mine = places.ask()
        asked = [pool.submit(ask, client, HELLO, user=user) for user in users]
        eventually(lambda: len(places.waiting) == 3)
        more = [places.ask() for _ in range(MOST_WAITING - 3)]
        with pytest.raises(RateLimitError) as full:
            ask(client, HELLO)
        assert full.value.response.headers["retry-after"] == "2"
        for place in (*more, mine):
            places.leave(place)
        assert all(r.result().choices[0].message.content for r in asked)
    assert places.taken == 0 and places.free == 1


def test_the_page_and_the_api_wait_in_one_queue(client, app):
    places, on_page = app.supervisor.places, {"person": "zoe", "conversation": None}
    with ThreadPoolExecutor(2) as pool:
        mine = places.ask()
        page = pool.submit(list, replies.reply(app.settings, app.supervisor.serving, app.supervisor, "Hi", on_page))
        eventually(lambda: len(places.waiting) == 1)
        program = pool.submit(ask, client, HELLO)
        eventually(lambda: len(places.waiting) == 2)
        assert not page.done()
        places.leave(mine)
        assert page.result() and program.result().id
    assert places.taken == 0
    origins = stored(app.db, "select origin from conversations order by rowid")
    assert ("page",) in origins and ("api",) in origins


def test_an_engine_that_fails_is_an_error_that_clients_try_again_and_a_stream_says_so(tmp_path, engine):
    flaky, faults = copy(engine), [0, 0, 3]
    real = engine.stream

    def stream(*args):
        pieces, after = real(*args), faults.pop() if faults else None
        for i, piece in enumerate(pieces):
            if i == after:
                raise EngineUnavailable("The student's server broke off. Try again in a minute")
            yield piece

    flaky.stream = stream
    with serving(tmp_path, flaky) as app:
        once = OpenAI(base_url=f"{app.url}/v1", api_key="-", max_retries=0)
        with pytest.raises(APIError, match="broke off"):
            texts(ask(once, HELLO, stream=True))
        with pytest.raises(InternalServerError) as error:
            ask(once, HELLO)
        assert error.value.status_code == 503 and error.value.code == "engine_unavailable"
        assert ask(once.with_options(max_retries=1), HELLO).choices[0].message.content
        assert [(position, status) for _, position, status in stored(app.db)] == [(0, "failed")] * 3 + [(0, "cut")]


def test_who_waits_when_the_app_ends_is_turned_away(tmp_path, engine):
    with serving(tmp_path, engine) as app, ThreadPoolExecutor(2) as pool:
        once = OpenAI(base_url=f"{app.url}/v1", api_key="-", max_retries=0)
        places, state = app.supervisor.places, {"person": "zoe", "conversation": None}
        mine = places.ask()
        page = pool.submit(list, replies.reply(app.settings, app.supervisor.serving, app.supervisor, "Hi", state))
        program = pool.submit(ask, once, HELLO)
        eventually(lambda: len(places.waiting) == 2)
        app.supervisor.stop()
        with pytest.raises(CancelledError):
            page.result(60)
        with pytest.raises(InternalServerError, match="The app is ending"):
            program.result(60)
        places.leave(mine)
        assert (places.free, places.taken, stored(app.db)) == (1, 0, [])
