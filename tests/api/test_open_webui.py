"""Ratings of Open WebUI: its export, in the shape that 0.12.4 has, at an address of its own."""

import json
from http.server import BaseHTTPRequestHandler

import pytest
from parts import listening

from kdloop import __main__ as cli
from kdloop.api import open_webui
from storage import feedback

QUESTION = "What is a walrus?"


def record(answer, rating, user="u-1", question=QUESTION, **data):
    messages = {
        "q": {"id": "q", "role": "user", "content": question, "parentId": None},
        "a": {"id": "a", "role": "assistant", "content": answer, "parentId": "q"},
    }
    chat = {"id": "c", "title": "Walrus", "chat": {"history": {"messages": messages, "currentId": "a"}}}
    about = {"data": {"rating": rating, "model_id": "kdloop", **data}, "meta": {"message_id": "a", "chat_id": "c"}}
    return {"id": "f", "user_id": user, "type": "rating", "snapshot": {"chat": chat}, **about}


def ask(app, user):
    body, headers = {"messages": [{"role": "user", "content": QUESTION}]}, {"X-OpenWebUI-User-Id": user} if user else {}
    return app.http.post("/v1/chat/completions", json=body, headers=headers).json()["choices"][0]


def thumbs(app, choice):
    id = choice["completion"].removeprefix("chatcmpl-")
    return [
        (f.chosen_id is not None, f.critique)
        for f in feedback.live_feedback(app.db)
        if id in (f.chosen_id, f.rejected_id)
    ]


def test_a_rating_finds_the_completion_of_whoever_got_it(app):
    one, other, unnamed = (ask(app, user) for user in ("u-1", "u-2", ""))
    records = [
        record(one["message"]["content"] + "\n", 1, comment="Well said"),
        record(other["message"]["content"], -1, user="u-2", reason="too_short"),
        record(unnamed["message"]["content"], "1", user="u-3"),
        record(one["message"]["content"], -1, user="u-9"),
        record(one["message"]["content"], -1, question="Another?"),
        record("Never said", 1),
    ]
    junk = [None, [], {}, {"data": {"rating": 1}}, record("x", None), record(None, 1), record(["x"], 1), record("", {})]
    for _ in range(2):
        taken = open_webui.take(app.settings, records + junk)
        assert taken == {"recorded": 3, "not served here": 3, "without a thumb or a text": len(junk)}
        assert thumbs(app, one) == [(True, "Well said")] and thumbs(app, other) == [(False, "too_short")]
        assert thumbs(app, unnamed) == [(True, "")]
    open_webui.take(app.settings, [record(one["message"]["content"], -1)])
    assert [liked for liked, _ in thumbs(app, one)] == [False], "changed there, changed here"


def test_the_command_takes_the_export_with_an_admins_key(app, tmp_path, monkeypatch, capsys):
    choice, asked = ask(app, "u-5"), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"]))
            allowed = self.headers["Authorization"] == "Bearer sk-admin"
            self.send_response(200 if allowed else 401)
            self.end_headers()
            self.wfile.write(json.dumps([record(choice["message"]["content"], 1, user="u-5")]).encode())

        def log_message(self, *_):
            pass

    monkeypatch.setenv("KDLOOP_HOME", str(app.settings.home))
    key = tmp_path / "key"
    with listening(Handler) as url:
        key.write_text("sk-admin\n")
        assert cli.main(["open_webui", f"{url}/", "--key-file", str(key)]) == 0
        assert capsys.readouterr().out == "recorded: 1\n" and thumbs(app, choice) == [(True, "")]
        assert asked == [("/api/v1/evaluations/feedbacks/all/export", "Bearer sk-admin")]
        key.write_text("wrong")
        for wrong in (url, "file:///etc/passwd", "nonsense"):
            with pytest.raises(SystemExit):
                cli.main(["open_webui", wrong, "--key-file", str(key)])
