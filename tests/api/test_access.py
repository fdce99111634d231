"""Who may ask: keys, this computer, and no page of another origin."""

import re
from dataclasses import replace

import gradio as gr
import pytest
from openai import AuthenticationError, NotFoundError, OpenAI, RateLimitError
from starlette.datastructures import Headers
from test_chat_completions import HELLO, ask

from kdloop import __main__ as cli
from kdloop.api.access import admit
from kdloop.api.refusals import Refusal
from kdloop.settings import Settings
from kdloop.ui import keys as panel
from storage import audit, keys
from storage.database import connect

HERE = {"host": "127.0.0.1:7860"}


def status(settings, **headers):
    """200, or that of the refusal."""
    try:
        admit(settings, Headers({k.replace("_", "-"): v for k, v in headers.items()}))
    except Refusal as refusal:
        return refusal.status
    return 200


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"host": "127.0.0.1:7860"}, 200),
        ({"host": "localhost"}, 200),
        ({"host": "[::1]:7860", "origin": "http://localhost:3000"}, 200),
        ({"host": "127.0.0.1:7860", "authorization": "Bearer sk-none"}, 200),
        ({"host": "127.0.0.1:7860", "sec_fetch_site": "same-origin"}, 200),
        ({"host": "127.0.0.1:7860", "authorization": "Bearer kd-unknown"}, 401),
        ({"host": "evil.example:7860"}, 401),
        ({"host": "evil.example:7860", "origin": "http://evil.example:7860"}, 401),
        ({"host": "127.0.0.1.evil.example"}, 401),
        ({"host": "[::1"}, 401),
        ({}, 401),
        ({"host": "127.0.0.1:7860", "x_forwarded_for": "203.0.113.9"}, 401),
        ({"host": "127.0.0.1:7860", "origin": "https://evil.example"}, 403),
        ({"host": "127.0.0.1:7860", "origin": "null"}, 403),
        ({"host": "127.0.0.1:7860", "origin": ""}, 403),
        ({"host": "127.0.0.1:7860", "origin": "http://127.0.0.1.evil.example"}, 403),
        ({"host": "127.0.0.1:7860", "sec_fetch_site": "cross-site"}, 403),
    ],
    ids=str,
)
def test_this_computer_needs_no_key_and_what_only_looks_like_it_does(db, headers, expected):
    settings = Settings(home=db.parent)
    assert status(settings, **headers) == expected
    elsewhere = replace(settings, host="0.0.0.0"), replace(settings, admin_token="x")
    assert {status(s, **headers) for s in elsewhere} == {401 if expected == 200 else expected}
    key = {"authorization": f"Bearer {keys.new_key(db, 'bob')}"}
    assert {status(s, **headers | key) for s in elsewhere} == {403 if expected == 403 else 200}


def test_elsewhere_none_is_no_entry_and_a_key_is_one_until_it_is_revoked(shared):
    client = OpenAI(base_url=f"{shared.url}/v1", api_key="guess", max_retries=0)
    for call in (client.models.list, lambda: ask(client, HELLO)):
        with pytest.raises(AuthenticationError) as refused:
            call()
        assert refused.value.code == "invalid_api_key" and refused.value.type == "authentication_error"
    assert shared.http.get("/v1/models").json()["error"]["message"].startswith("This server wants a key")
    client.api_key = keys.new_key(shared.db, "ann's laptop", 3)
    reply = ask(client, HELLO)
    known = [k for k in keys.all_keys(shared.db) if k.name == "ann's laptop"]
    assert known[0].used_at and client.api_key.encode() not in (shared.db).read_bytes()
    theirs = OpenAI(base_url=f"{shared.url}/v1", api_key=keys.new_key(shared.db, "eve"), max_retries=0)
    with pytest.raises(NotFoundError):
        theirs.post("feedback", body={"completion": reply.id, "thumb": "down"}, cast_to=object)
    for _ in range(2):
        ask(client, HELLO, max_tokens=1)
    with pytest.raises(RateLimitError) as hasty:
        ask(client, HELLO)
    assert 0 < int(hasty.value.response.headers["retry-after"]) <= 60
    longest = Refusal("Wait", status=429, wait=61).response().headers["retry-after"]
    assert longest == "60", "openai for Python does not try again where it is told to wait for longer"
    assert ask(theirs, HELLO, max_tokens=1).id, "a limit is one key's"
    keys.revoke(shared.db, "ann's laptop")
    with pytest.raises(AuthenticationError, match="revoked"):
        client.models.list()


def test_metrics_are_for_owners_and_count(shared, app):
    def metrics(key=None):
        return shared.http.get("/metrics", headers={"Authorization": f"Bearer {key}"} if key else {})

    key, owner = keys.new_key(shared.db, "program"), keys.new_key(shared.db, "prometheus", owner=True)
    assert metrics().status_code == 401 and metrics(key).status_code == 403
    before = read(metrics(owner).text)
    client = OpenAI(base_url=f"{shared.url}/v1", api_key=key)
    reply = ask(client, HELLO, max_tokens=2, seed=8)  # of two drawn tokens none may be a letter: then no vote is taken
    client.post("feedback", body={"completion": reply.id, "thumb": "up"}, cast_to=object)
    after = read(metrics(owner).text)
    grown = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    assert grown['kdloop_messages_total{status="cut"}'] == grown["kdloop_votes"] == grown["kdloop_votes_new"] == 1
    assert grown['kdloop_tokens_total{kind="completion"}'] == 2 and grown["kdloop_reply_seconds_count"] == 1
    assert after['kdloop_phase{phase="idle"}'] == 1 and after["kdloop_replies_waiting"] == 0
    assert after['kdloop_engine_info{engine="transformers",version="v0"}'] == 1
    assert app.http.get("/metrics").status_code == 200, "on this computer"


def read(text):
    """Sample -> value; every line as the format has it."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r'[a-z_]+(\{(\w+="[^"\n]*",?)+\})? [-+.\de]+', line) for line in lines), text
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_keys_are_made_listed_and_revoked_by_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDLOOP_HOME", str(tmp_path))
    assert cli.main(["key", "new", "ann", "--a-minute", "5", "--owner"]) == 0
    key, db = capsys.readouterr().out.strip(), tmp_path / "kdloop.db"
    assert keys.find_key(db, key).a_minute == 5 and keys.find_key(db, key).owner == 1
    assert cli.main(["key", "list"]) == 0 and "ann: 5 a minute, metrics; made" in capsys.readouterr().out
    assert cli.main(["key", "revoke", "ann"]) == 0 and keys.find_key(db, key) is None
    for wrong in (["new", ""], ["new", "x", "--a-minute", "0"], ["revoke", "nobody"]):
        with pytest.raises(SystemExit):
            cli.main(["key", *wrong])
    assert [row[2] for row in audit.entries(db)] == ["revoked an API key", "made an API key"]


def test_the_owner_makes_and_revokes_keys_on_the_page_and_others_do_not(db):
    settings, owner = Settings(home=db.parent, host="0.0.0.0"), {"person": "ann", "owner": "admin token"}
    shown, _, table, known = panel.make_key(settings, "A <b>bold</b> program", 30, False, owner)
    assert (
        keys.find_key(db, shown.value).name == "A <b>bold</b> program"
        and known.choices[0][1] == "A <b>bold</b> program"
    )
    assert list(table.iloc[0])[:3] == ["A <b>bold</b> program", "30", ""]
    for act in (lambda s: panel.make_key(settings, "x", 30, True, s), lambda s: panel.revoke(settings, "x", s)):
        with pytest.raises(gr.Error, match="Sign in as the owner"):
            act({"person": "eve"})
        act(owner)
    with pytest.raises(gr.Error, match="No key of the name"):
        panel.revoke(settings, "x", owner)
    with connect(db) as c:
        assert shown.value not in str([tuple(r) for r in c.execute("select * from keys")])
