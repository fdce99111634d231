"""Every route with junk, with and without keys: nothing breaks, nothing private is told, nothing is changed."""

import json

import pytest
from test_chat_completions import HELLO

from storage import conversations, keys
from storage.conversations import as_prompt
from storage.database import connect

PRIVATE = "plinth-of-eve"
JUNK = [
    *(b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"n": NaN}', b"[" * 100_000, b'{"a": ' * 50_000),
    *(b'{"messages": [{"role": "user", "content": "\\ud800"}]}', b'{"seed": ' + b"9" * 5000 + b"}", b" " * 600_000),
]
VALUES = ["", "x", 0, -1, 1e308, True, [], {}, [[]], {"a": [1]}, ["x"] * 1000, "\0", "𐍈" * 300, "' or 1=1 --"]
ASSESSMENTS = "/api/3.0/mlflow/traces/x/assessments"
FIELDS = {
    "/v1/chat/completions": [
        *("model", "messages", "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "stop", "seed"),
        *("n", "user", "stream", "stream_options", "logprobs", "top_logprobs", "tools", "tool_choice", "store"),
    ],
    "/v1/feedback": ["completion", "user", "thumb", "score", "over", "choice", "better", "comment", "undo"],
    "/api/public/scores": ["traceId", "observationId", "name", "value", "dataType", "comment"],
    "/api/public/ingestion": ["batch"],
    ASSESSMENTS: ["assessment"],
    "/v1/logs": ["resourceLogs"],
}
PATHS = [
    *("/v1", "/v1/", "/v1/models", "/v1/models/v9", "/v1/models/..%2f..%2fsecret", "/v1/chat/completions"),
    *("/v1/completions", "/v1/feedback", "/v1/feedback/x", "/v1/feedback/chatcmpl-", "/v1/person", "/metrics"),
    *("/v1/embeddings", "/v1//models", "/v1/person?user=eve", "/v1/person?user=" + "e" * 5000),
    *("/api/public/scores", "/api/public/ingestion", ASSESSMENTS, f"{ASSESSMENTS}/thumb", "/v1/logs"),
]


def contents(db):
    """Every row, but when a key was used last."""
    with connect(db) as c:
        tables = [r[0] for r in c.execute("select name from sqlite_master where type = 'table'")]
        c.execute("update keys set used_at = null")
        return {t: [tuple(r) for r in c.execute(f"select * from {t}")] for t in tables}


@pytest.fixture(scope="module")
def there(shared):
    """The app that others reach, with a chat of eve's on its page."""
    turn = conversations.add_turn(shared.db, conversations.start_conversation(shared.db, "eve"), as_prompt(PRIVATE))
    shared.eves = conversations.add_completion(shared.db, turn.id, "student", text=PRIVATE, checkpoint_id=1)
    shared.key = keys.new_key(shared.db, "fuzz", 100_000)
    return shared


def answers(app, headers):
    """Of every route, method and junk body; of every field, wrong values beside what is right."""
    for path in PATHS:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            yield app.http.request(method, path, headers=headers)
    for path, fields in FIELDS.items():
        for body in JUNK:
            yield app.http.post(path, content=body, headers=headers)
        right = {"messages": HELLO, "n": 99} if "chat" in path else {"completion": app.eves}  # both are refused
        right |= {"traceId": app.eves, "name": "user", "value": 1} if "scores" in path else {}
        for field in fields:
            for value in VALUES:
                yield app.http.post(path, json=right | {field: value, "unknown": 1}, headers=headers)
                if "chat" in path and field != "n":
                    yield app.http.post(path, json=right | {field: value}, headers=headers)
                if path == "/v1/feedback":
                    yield app.http.post(path, json=right | {field: value}, headers=headers)


@pytest.mark.parametrize("kind", ["no key", "a key", "a wrong key", "junk"])
def test_no_route_breaks_tells_or_changes_anything(there, kind):
    headers = {
        "no key": {},
        "a key": {"Authorization": f"Bearer {there.key}"},
        "a wrong key": {"Authorization": "Bearer kd-guess"},
        "junk": {"Authorization": "Bearer \xff' or 1=1 --", "Idempotency-Key": "x" * 5000, "Origin": "null"},
    }[kind]
    headers = {k: v.encode("latin-1") for k, v in headers.items()}
    before, seen = contents(there.db), set()
    for answer in answers(there, headers):
        seen.add(answer.status_code)
        assert answer.status_code < 500, answer.text
        assert PRIVATE not in answer.text and there.key not in answer.text
        if answer.status_code >= 400 and answer.request.method not in ("HEAD", "OPTIONS") and "/v1/" in str(answer.url):
            assert set(json.loads(answer.text)["error"]) == {"message", "type", "param", "code"}
        if kind != "a key" and "/v1/" in str(answer.url) and answer.request.method != "OPTIONS":
            assert answer.status_code in (401, 403, 404), "before anything of it is read"
    assert contents(there.db) == before
    assert seen >= ({200, 400, 404, 413} if kind == "a key" else {404})
    assert there.supervisor.places.taken == 0 and there.supervisor.streaming == 0
