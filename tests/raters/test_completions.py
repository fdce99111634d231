"""What servers send in place of a completion, and beside one: nothing of it raises, is learned, or is kept for ever."""

import gzip
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from parts import completion, context, endpoint, listening, teacher

from kdloop import packs
from kdloop.feedback.examples import from_feedback
from kdloop.knowledge import labeling
from kdloop.raters import completions, thoughts
from kdloop.raters import teacher as teaching
from kdloop.raters.teacher import Teacher, Teachers
from kdloop.student import Sampling
from kdloop.student.template import Template
from kdloop.student.transformers import TransformersEngine
from storage import teachers as store
from storage.conversations import as_prompt
from storage.database import connect, open_database
from storage.migrations import MIGRATIONS

ASKED = [as_prompt("How do I store apples?")]
SAID = "In a cool cellar."


def body(text=SAID, finish="stop", usage=True, **message):
    """A completion of a server, with other fields in its message."""
    whole = completion(text)
    whole["choices"][0]["message"] |= message
    whole["choices"][0]["finish_reason"] = finish
    return whole if usage is True else whole | {"usage": usage}


def read(told) -> completions.Completion:
    return completions.read(told if isinstance(told, bytes) else json.dumps(told).encode())


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"<!doctype html><title>Sign in</title>",
        b"rate limited, try later",
        b"null",
        b"[]",
        b"17",
        b'"busy"',
        b"\xff\xfe\x00broken",
        b'{"choices": [{"message": {"content": "In a co',
        b"[" * 100_000,
        {},
        {"choices": None},
        {"choices": []},
        {"choices": {}},
        {"choices": [None]},
        {"choices": ["text"]},
        {"choices": [{"finish_reason": "stop"}]},
        {"choices": [{"delta": {}, "text": None, "finish_reason": "stop"}]},
        {"choices": [{"message": "In a cool cellar.", "finish_reason": "stop"}]},
        {"error": {"message": "overloaded", "code": 529}},
        {"error": "overloaded"},
        {"object": "error", "message": "no slot", "code": 503},
        {"detail": "Not ready"},
        completion(SAID) | {"error": {"message": "upstream closed", "code": 502}},
        body(finish="error"),
        body(finish="abort"),
        body("", usage=None),
        body("", usage={"prompt_tokens": 9, "completion_tokens": 0}),
        body(17),
        body(None, finish=None),
    ],
    ids=repr,
)
def test_what_a_gateway_says_is_no_completion_and_may_pass(told):
    found = read(told)
    assert found.status == "failed" and found.transient and found.error and not found.text


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (body("", finish="content_filter"), "content_filter"),
        (body("In a", finish="content_filter"), "content_filter"),
        (body("", finish="tool_calls", tool_calls=[{"id": "1"}]), "tool_calls"),
        (body(None, refusal="I will not say that."), "I will not say that."),
        (body([{"type": "refusal", "refusal": "No."}]), "No."),
        (body(""), "empty"),
        (body("  \n\ufeff"), "empty"),
        (body([{"type": "image_url", "image_url": {"url": "x"}}]), "empty"),
        (body("<think>\nApples, cellars", finish="length"), "a thought alone"),
        (body(None, finish="length", reasoning_content="Apples, cellars"), "a thought alone"),
        (body("", reasoning="Apples, cellars"), "a thought alone"),
        (body("A cellar \ud83c is cool."), "half a character"),
    ],
)
def test_what_the_model_would_say_again_is_final(told, why):
    found = read(told)
    assert (
        found.status == "failed" and not found.transient and not found.retry and why in found.error and not found.text
    )
    assert found.error.encode() is not None


@pytest.mark.parametrize(
    ("told", "status"),
    [
        (body(), "finished"),
        (b"\xef\xbb\xbf" + json.dumps(body()).encode(), "finished"),
        (body([{"type": "text", "text": "In a "}, {"type": "text", "text": "cool cellar."}]), "finished"),
        (body(["In a ", {"type": "output_text", "text": "cool cellar."}, {"type": "image_url"}, None, 3]), "finished"),
        (body({"type": "text", "text": {"value": SAID}}), "finished"),
        (body(f"\ufeff {SAID}\n\u200b"), "finished"),
        (body(finish="end_turn"), "finished"),
        (body(finish="EOS"), "finished"),
        (body(finish=None), "cut"),
        (body(finish="max_tokens"), "cut"),
        (body(f"{SAID} \ud83e", finish="length"), "cut"),
        (body(f"{SAID} \ud83e"), "cut"),
        (body(f"{SAID} \ufffd", finish="length"), "cut"),
        (body(usage=None), "finished"),
        (body(usage="17"), "finished"),
        (body(refusal="", tool_calls=[], reasoning_content=None), "finished"),
        (body(reasoning_content="Apples…"), "finished"),
        (body(reasoning=[{"type": "reasoning.text", "text": "Apples…"}]), "finished"),
        (
            body([{"type": "thinking", "thinking": [{"type": "text", "text": "A"}]}, {"type": "text", "text": SAID}]),
            "finished",
        ),
        (completion(SAID) | {"error": None}, "finished"),
        (body(finish="COMPLETE"), "finished"),
        ({"choices": [{"index": 0, "delta": {"content": SAID}, "finish_reason": "stop"}]}, "finished"),
        ({"choices": [{"index": 0, "message": None, "text": f"{SAID}\n", "finish_reason": "length"}]}, "cut"),
    ],
)
def test_a_completion_in_any_wrapping_is_that_completion(told, status):
    found = read(told)
    assert (found.text, found.status, found.error) == (SAID, status, "") and not found.transient


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 7}, (5, 7)),
        ({"prompt_tokens": "5", "completion_tokens": 7.0}, (5, 7)),
        ({"prompt_tokens": 5, "total_tokens": 12}, (5, 7)),
        ({"prompt_tokens": None, "completion_tokens": None}, (None, None)),
        ({"prompt_tokens": -5, "completion_tokens": "seven"}, (None, None)),
        ({"prompt_tokens": True, "completion_tokens": 1e300}, (None, None)),
        ({"prompt_tokens": 10**400, "completion_tokens": float("nan")}, (None, None)),
        ([5, 7], (None, None)),
        (None, (None, None)),
    ],
)
def test_counts_that_make_no_sense_are_not_told(usage, counted):
    found = read(body(usage=usage))
    assert (found.prompt_tokens, found.completion_tokens) == counted and found.text == SAID


@pytest.mark.parametrize(
    ("logprobs", "kept"),
    [
        ({"content": [{"token": "In", "logprob": -0.1}]}, [{"token": "In", "logprob": -0.1}]),
        ({"content": None}, None),
        ({"tokens": ["In"], "token_logprobs": [-0.1]}, None),
        ({"content": [{"token": "\ud83c", "logprob": -0.1}]}, None),
        ({"content": [-0.1]}, None),
        ([], None),
    ],
)
def test_log_probabilities_of_another_kind_cost_no_completion(db, logprobs, kept):
    told = body()
    told["choices"][0]["logprobs"] = logprobs
    with endpoint(lambda request: (200, told)) as (url, _):
        first, again = (Teachers(db, [teacher(url)]).ask(ASKED, Sampling(9), [1])[0] for _ in range(2))
    assert first.text == again.text == SAID and first.logprobs == again.logprobs == kept and again.cached


THOUGHTS = [
    ("<think>\nApples {keep}.\n</think>\n\nIn a cool cellar.", "Apples {keep}."),
    ("<THINK >Apples.</Think>In a cool cellar.", "Apples."),
    ("Apples.\n</think>\n\nIn a cool cellar.", "Apples."),
    ("<reasoning>Apples.</reasoning>\nIn a cool cellar.", "Apples."),
    ("[THINK]Apples.[/THINK]In a cool cellar.", "Apples."),
    ("<think>One.</think>\n<think>Two.</think>\nIn a cool cellar.", "One.\n\nTwo."),
    ("<thinking>One <reflection>two</reflection> three</thinking>\nIn a cool cellar.", "One two\n\nthree"),
    ("<think>It ends with `</think>`, I think.</think>\nIn a cool cellar.", "It ends with ``, I think."),
    ("Draft:\n```\ncellar\n</think>\nIn a cool cellar.", "Draft:\n```\ncellar"),
    ("<think></think>\n\nIn a cool cellar.", ""),
    ("In a cool cellar.\n<think>\nIs that all", "Is that all"),
    ("<think>Apples.</think>\n<answer>In a cool cellar.</answer>", "Apples."),
    (
        "<|channel|>analysis<|message|>Apples.<|end|><|start|>assistant<|channel|>final<|message|>In a cool cellar."
        "<|return|>",
        "Apples.",
    ),
    ("analysisApples.assistantfinalIn a cool cellar.", "Apples."),
]


@pytest.mark.parametrize(("text", "thought"), THOUGHTS)
def test_a_thought_is_kept_apart_and_taken_apart_again(text, thought):
    assert thoughts.split(text) == (thought, SAID)
    assert thoughts.split(thoughts.join(thought, SAID)) == (thought, SAID)


@pytest.mark.parametrize(
    "text",
    [
        "The tags <think> and </think> mark a thought.",
        "Qwen ends it with `</think>`, others do not.",
        "Like so:\n```xml\n<think>\nhm\n</think>\n```\nThat is all.",
        "Reason: it is cool.",
        "analysis of apples",
    ],
)
def test_what_only_names_a_tag_is_no_thought(text):
    assert thoughts.split(text) == ("", text)


def test_a_text_of_nothing_but_tags_says_nothing_and_ends():
    assert thoughts.split("a</think>" * 20_000)[1] == ""


def test_the_student_learns_the_text_and_the_row_keeps_the_thought(db):
    tasks = packs.tasks("general", "train")[:3]
    told = [body("<think>A</think>\nOne."), body("Two.", reasoning_content="B"), body("<think>C", finish="length")]
    with endpoint(lambda r: (200, told[[t.prompt for t in tasks].index(r["messages"][-1]["content"])])) as (url, seen):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        assert labeling.labels(m, tasks) == 2
        again = m.teachers.ask([as_prompt(t.prompt) for t in tasks], m.sampling, [10_007 + i for i in range(3)])
    assert [(a.text, a.thought, a.ok) for a in again] == [("One.", "A", True), ("Two.", "B", True), ("", "C", False)]
    assert len(seen) == 3 and all(a.cached for a in again[:2]), "nor is the thought paid for twice"
    assert [e.chosen.text for e in from_feedback(db, m.round.id).train] == ["One.", "Two."]
    with connect(db) as c:
        kept = [r[0] for r in c.execute("select json_extract(sampling, '$.thought') from completions order by text")]
    assert kept == ["A", "B"]


def test_a_model_that_begins_within_its_thought_and_is_cut_there_has_said_nothing(db, tiny_student):
    """Behind an endpoint the owner says so; of a local model its template does."""
    with endpoint(lambda r: (200, body("Let me see. Apples", finish="length"))) as (url, _):
        plain, thinks = teacher(url), teacher(url, name="thinker", thinks=True)
        assert Teachers(db, [plain]).ask(ASKED, Sampling(5), [1])[0].text
        (answer,) = Teachers(db, [thinks]).ask(ASKED, Sampling(6), [1])
    assert not answer.ok and "a thought alone" in answer.error
    engine = TransformersEngine(tiny_student)
    assert completions.local(engine.complete(ASKED, Sampling(8), [1])[0]).text
    engine.tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    engine.template = Template.of(engine.tokenizer)
    found = completions.local(engine.complete(ASKED, Sampling(8), [1])[0])
    assert found.text == "" and found.thought


@contextmanager
def raw(*told):
    """A server that sends, one after the other, the bytes after its request's end; the last again and again."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(self.path)
            self.wfile.write(told[min(len(seen), len(told)) - 1])
            self.close_connection = True

        do_GET = do_POST

        def log_message(self, *_):
            pass

    with listening(Handler) as url:
        yield f"{url}/v1", seen


def http(content, *headers, status="200 OK", length=None):
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(content) if length is None else length}", "Connection: close"]
    return "\r\n".join([*head, *headers, "", ""]).encode() + content


FINE = json.dumps(body()).encode()


@pytest.mark.parametrize(
    "told",
    [
        http(FINE, "Content-Type: text/html"),
        http(FINE, "Content-Type: text/event-stream; charset=nonsense"),
        http(FINE),
        http(gzip.compress(FINE), "Content-Type: application/json", "Content-Encoding: gzip"),
    ],
    ids=["as a page", "as a stream", "of no type", "zipped"],
)
def test_a_completion_is_read_whatever_its_headers_say(db, told):
    with raw(told) as (url, _):
        assert Teachers(db, [teacher(url)]).ask(ASKED, Sampling(9), [1])[0].text == SAID


@pytest.mark.parametrize(
    "told",
    [
        http(FINE, "Content-Encoding: gzip"),
        http(FINE[:40], "Content-Type: application/json", length=len(FINE)),
        http(b"", "Location: /v1/again", status="307 Temporary Redirect"),
        http(b"", "Location: http://[nowhere", status="302 Found"),
        http(b"", status="304 Not Modified"),
        http(b"", status="204 No Content"),
        http(b"<html>\xff\xfe\xed\xa0\xbc</html>", status="502 Bad Gateway"),
        http(b'{"error": "later \\ud83c"}', status="429 Too Many Requests"),
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ],
    ids=["not zipped", "cut", "in circles", "to nowhere", "304", "204", "502", "429", "another protocol", "nothing"],
)
def test_a_broken_exchange_is_a_failed_call_that_costs_nothing_and_is_forgotten(db, told):
    with raw(told) as (url, _):
        (answer,) = Teachers(db, [teacher(url, price_out=1e6)]).ask(ASKED, Sampling(9), [1])
    assert not answer.ok and answer.error.encode() and not answer.text
    assert store.usage(db) == {}


def test_a_passing_error_is_asked_again_within_the_bound_and_what_then_comes_is_kept(db, monkeypatch):
    monkeypatch.setattr(teaching, "MIN_BACKOFF", 0.01)
    busy = http(b'{"error": {"message": "overloaded", "code": 503}}')
    gone = http(b'{"error": {"message": "no such model", "code": 404}}')
    with raw(busy, http(b"<html>"), http(FINE)) as (url, seen):
        teachers = Teachers(db, [teacher(url, retries=2, price_in=1e6, price_out=1e6)])
        assert [teachers.ask(ASKED, Sampling(9), [1])[0].text for _ in range(2)] == [SAID, SAID] and len(seen) == 3
    assert (store.usage(db)["tess"].calls, store.usage(db)["tess"].cost) == (1, 150)
    with raw(busy) as (url, seen):
        assert not Teachers(db, [teacher(url, retries=2)]).ask(ASKED, Sampling(9), [1])[0].ok and len(seen) == 3
    unavailable = http(b"", "Retry-After-Ms: 1", status="503 Service Unavailable")
    with raw(busy, unavailable, busy) as (url, seen):
        assert not Teachers(db, [teacher(url, retries=3)]).ask(ASKED, Sampling(9), [1])[0].ok
        assert len(seen) == 4, "statuses and bodies share one bound"
    with raw(gone) as (url, seen):
        assert not Teachers(db, [teacher(url, retries=2)]).ask(ASKED, Sampling(9), [1])[0].ok and len(seen) == 1
    assert store.usage(db)["tess"].calls == 1


@pytest.mark.parametrize(
    ("told", "cost"),
    [
        (body(usage=None), 11 + 2 * 9),  # of the texts' length
        (body("<think>A thought.</think>" + SAID, usage=None), 11 + 2 * 14),
        (body(finish="length", usage=None), 11 + 2 * 40),
        (body(usage={"prompt_tokens": 8, "completion_tokens": None}), 8 + 2 * 9),
        ({"choices": None}, 0),
        ({"error": {"message": "aborted"}, "usage": {"prompt_tokens": 8, "completion_tokens": 2}}, 8 + 2 * 2),
    ],
)
def test_what_is_not_counted_is_estimated_and_an_error_is_not_booked_at_the_most(db, told, cost):
    with endpoint(lambda request: (200, told)) as (url, _):
        Teachers(db, [teacher(url, price_in=1e6, price_out=2e6)]).ask(ASKED, Sampling(40), [1])
    spent = store.usage(db)
    assert (spent["tess"].cost if spent else 0) == cost


def test_the_same_request_is_made_once_though_it_is_asked_twice_at_once(db):
    with endpoint(lambda request: SAID) as (url, seen):
        answers = Teachers(db, [teacher(url)]).ask(ASKED * 5, Sampling(9), [1] * 5)
    assert [a.text for a in answers] == [SAID] * 5 and len(seen) == 1


def test_what_an_older_kdloop_kept_of_gateways_is_asked_again_and_its_thoughts_are_taken_out(tmp_path, monkeypatch):
    """It booked a body without usage at the most that it could cost, and threw its text away."""
    from storage import database

    with monkeypatch.context() as older:
        older.setattr(database, "MIGRATIONS", MIGRATIONS[: MIGRATIONS.index(forget())])
        path = open_database(tmp_path / "kdloop.db")
    with endpoint(lambda request: SAID) as (url, seen):
        teachers = Teachers(path, [teacher(url)])
        asked = [as_prompt(f"Apples {i}?") for i in range(3)]
        teachers.ask(asked, Sampling(40), [1] * 3)
        with connect(path) as c:
            rows = [r[0] for r in c.execute("select rowid from calls order by request")]
            kept = "update calls set text = ?, status = 'cut', prompt_tokens = ?, completion_tokens = ? where rowid = ?"
            c.execute(kept, ["", 9 // 2, 40, rows[0]])
            c.execute(kept, ["", 9, 40, rows[1]])
            c.execute(kept, ["<think>\nOld.\n</think>\n\nOld apples.", 9, 40, rows[2]])
        open_database(path)
        answers = teachers.ask(asked, Sampling(40), [1] * 3)
    assert [a.text for a in answers] == [SAID, "", "Old apples."] and answers[2].thought == "Old." and len(seen) == 4


def forget():
    from storage import migrations

    return migrations.forget_gateways


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("name = 3", "name = 3, but it has to be a str"),
        ("budget = nan", "budget = nan, but it has to be a number of 0 and above"),
        ("retries = -1", "retries = -1"),
        ('retries = "many"', "retries = 'many'"),
        ('url = "localhost:8080/v1"', "like http://HOST:PORT/v1"),
        ('url = "http://[nowhere/v1"', "like http://HOST:PORT/v1"),
        ('url = "http://a/v1"\nkey_file = "KEY"', "holds no key"),
        ('url = "http://a/v1"\nkey_file = "nowhere"', "no key can be read from nowhere"),
        ("name = ", "teachers.toml: "),
    ],
)
def test_a_teachers_file_with_a_mistake_says_which(db, tmp_path, line, says):
    (tmp_path / "KEY").write_text("kéy", encoding="utf-8")
    name = "" if line.startswith("name") else 'name = "a"\nterms = "allowed"\n'
    (tmp_path / "teachers.toml").write_text(
        f"[[teacher]]\n{name}{line}\n".replace('"KEY"', repr(str(tmp_path / "KEY")))
    )
    with pytest.raises(ValueError, match=says):
        teaching.load(str(tmp_path / "teachers.toml"), db)


def test_byte_order_marks_in_the_teachers_file_and_the_key_are_no_part_of_them(db, tmp_path):
    (tmp_path / "key").write_text("secret\n", encoding="utf-8-sig")
    table = f'[[teacher]]\nname = "a"\nurl = "http://a/v1"\nterms = "allowed"\nkey_file = {str(tmp_path / "key")!r}\n'
    (tmp_path / "teachers.toml").write_text(table, encoding="utf-8-sig")
    (only,) = teaching.load(str(tmp_path / "teachers.toml"), db).all
    assert isinstance(only, Teacher) and teaching.key(only) == "secret"
