"""Scores as Langfuse's, MLflow's and OpenTelemetry's clients send them (docs/api.md names those that were run)."""

import pytest
from test_chat_completions import HELLO

from storage import keys

EVENT = "gen_ai.evaluation.result"


@pytest.fixture
def receipt(app, request):
    body = {"messages": HELLO, "user": request.node.name}
    return app.http.post("/v1/chat/completions", json=body).raise_for_status().json()["id"]


def standing(app, receipt):
    rows = app.http.get(f"/v1/feedback/{receipt}").raise_for_status().json()["feedback"]
    return {r["kind"]: r for r in rows}


def test_langfuses_list_is_taken_one_by_one_and_says_what_was_not(app, receipt):
    scores = [
        {
            "id": "a",
            "traceId": receipt,
            "name": "user-feedback",
            "value": 1.0,
            "dataType": "BOOLEAN",
            "comment": "Kind",
        },
        {"id": "b", "traceId": "of another tool", "observationId": receipt, "name": "stars", "value": 0.5},
        {"id": "c", "traceId": receipt, "name": "hallucination", "value": 0.1},
        {"id": "d", "traceId": "0" * 32, "name": "user-feedback", "value": 0.1},
        {"id": "e", "traceId": receipt, "name": "user-feedback", "value": 7},
        {"id": "f", "traceId": receipt, "name": "user-feedback", "value": "lovely", "dataType": "CATEGORICAL"},
        "no score",
    ]
    told = app.http.post("/api/public/scores", json=scores)
    assert told.status_code == 207
    told = told.json()
    assert (told["accepted"], told["rejected"]) == (2, 5)
    assert [(e["index"], e["id"]) for e in told["errors"]] == [(2, "c"), (3, "d"), (4, "e"), (5, "f"), (6, None)]
    assert "hallucination" in told["errors"][0]["message"]
    rows = standing(app, receipt)
    assert (rows["thumb"]["thumb"], rows["thumb"]["comment"], rows["score"]["score"]) == ("up", "Kind", 0.5)
    assert app.http.post("/api/public/scores", json=scores[:2]).status_code == 202
    one = {"id": "a", "traceId": receipt, "name": "user-feedback", "value": "down"}
    assert app.http.post("/api/public/scores", json=one).json() == {"id": "a"}
    assert standing(app, receipt)["thumb"]["thumb"] == "down"


def test_events_of_langfuses_earlier_clients_are_taken_and_those_of_traces_left_aside(app, receipt):
    score = {"id": "s", "traceId": receipt, "name": "user-feedback", "value": 0, "dataType": "BOOLEAN"}
    events = [
        {"id": "a", "type": "trace-create", "body": {"id": "t", "input": "Hello?"}},
        {"id": "b", "type": "score-create", "body": score},
        {"id": "c", "type": "score-create", "body": score | {"name": "toxicity"}},
        {"id": "d", "type": "score-create"},
    ]
    told = app.http.post("/api/public/ingestion", json={"batch": events, "metadata": {"sdk_name": "python"}})
    assert told.status_code == 207 and [s["id"] for s in told.json()["successes"]] == ["a", "b"]
    assert [(e["id"], e["status"]) for e in told.json()["errors"]] == [("c", 400), ("d", 400)]
    assert standing(app, receipt)["thumb"]["thumb"] == "down"


def test_mlflows_assessments_of_people_are_taken_and_taken_back(app, receipt):
    where, person = f"/api/3.0/mlflow/traces/{receipt}/assessments", {"source_type": "HUMAN", "source_id": "ann"}
    about = {"assessment_name": "helpful", "source": person}
    liked = {"assessment": about | {"feedback": {"value": True}, "rationale": "Short"}}
    assert app.http.post(where, json=liked).json()["assessment"] == liked["assessment"] | {"assessment_id": "thumb"}
    better = {"assessment": about | {"expectation": {"value": "Good morning!"}}}
    assert app.http.post(where, json=better).raise_for_status().json()["assessment"]["assessment_id"] == "better"
    assert standing(app, receipt)["thumb"]["comment"] == "Short" and "better" in standing(app, receipt)
    judged = {"assessment": liked["assessment"] | {"source": {"source_type": "LLM_JUDGE"}}}
    refused = app.http.post(where, json=judged)
    assert refused.status_code == 400 and "LLM_JUDGE" in refused.json()["error"]["message"]
    app.http.delete(f"{where}/thumb").raise_for_status()
    assert set(standing(app, receipt)) == {"better"}


def event(receipt, name, **values):
    attributes = {"name": name, **values}
    told = [{"key": f"gen_ai.evaluation.{k.replace('_', '.')}", "value": v} for k, v in attributes.items()]
    return {"eventName": EVENT, "attributes": [*told, {"key": "gen_ai.response.id", "value": {"stringValue": receipt}}]}


def test_opentelemetrys_events_of_people_are_taken_among_other_logs(app, receipt):
    word = lambda text: {"stringValue": text}  # noqa: E731
    records = [
        {"eventName": "session.start"},
        event(receipt, word("user_rating"), score_value={"doubleValue": 0.25}, explanation=word("Too long")),
        event(receipt, word("Relevance"), score_value={"doubleValue": 1.0}),
        event(receipt, word("thumb"), score_label=word("pass")),
    ]
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    told = app.http.post("/v1/logs", json=body).raise_for_status().json()["partialSuccess"]
    assert told["rejectedLogRecords"] == "1" and "Relevance" in told["errorMessage"]
    rows = standing(app, receipt)
    assert (rows["score"]["score"], rows["score"]["comment"], rows["thumb"]["thumb"]) == (0.25, "Too long", "up")
    binary = app.http.post("/v1/logs", content=b"\x0a\x00", headers={"Content-Type": "application/x-protobuf"})
    assert binary.status_code == 415 and "http/json" in binary.json()["error"]["message"]


def test_a_key_may_come_as_the_password_that_langfuses_clients_send(shared):
    key = keys.new_key(shared.db, "tool", 100_000)
    score = {"id": "a", "traceId": "x", "name": "user-feedback", "value": 1}
    for auth, status in (("", 401), (("pk", "kd-wrong"), 401), (("pk", key), 404)):
        assert shared.http.post("/api/public/scores", json=score, auth=auth or None).status_code == status
