"""People's scores as the clients of other tools send them, taken as /v1/feedback takes them: who has them already gives
another address and a key.

Langfuse        POST /api/public/scores, one score or a list, and before its client 5 POST /api/public/ingestion, events
                score-create; traceId, or observationId, is the receipt
MLflow          POST /api/3.0/mlflow/traces/RECEIPT/assessments, and DELETE of one: feedback, or an expectation
OpenTelemetry   POST /v1/logs as JSON: events gen_ai.evaluation.result whose gen_ai.response.id is the receipt

A truth value is a thumb, a number from 0 to 1 a score, MLflow's expectation a better text. These tools also store what
judges and checks find: only what is said to be a person's is taken, by MLflow's source, else by the score's name.
"""

import re

from starlette.requests import Request
from starlette.responses import JSONResponse

from kdloop.api import ratings
from kdloop.api.access import Caller
from kdloop.api.completions import REFUSED
from kdloop.api.refusals import Refusal, of_domain
from kdloop.api.writing import Loop

PEOPLES = re.compile("user|human|people|person|feedback|thumb|star|rating|vote", re.IGNORECASE)  # in a score's name
MOST = 200  # scores in a request
EVENT = "gen_ai.evaluation.result"  # OpenTelemetry's semantic conventions for generative AI
WORDS = {"up": True, "yes": True, "pass": True, "down": False, "no": False, "fail": False}
KINDS = ("thumb", "score", "better")  # of what one score says; also the id of MLflow's assessment


def langfuse(loop: Loop, caller: Caller, request: Request, body: dict | list) -> JSONResponse:
    """As Langfuse 5's client reads it: {"id"} of one score; of a list, if not all were taken, how many, and why
    the others were not."""
    if isinstance(body, dict):
        give_one(loop, caller, body)
        return JSONResponse({"id": id_of(body)})
    if not (errors := given(loop, caller, body, give_one)):
        return JSONResponse({"message": "Accepted"}, 202)
    told = [{"index": i, "id": id_of(body[i]), "message": why} for i, why in errors.items()]
    return JSONResponse({"accepted": len(body) - len(errors), "rejected": len(errors), "errors": told}, 207)


def ingestion(loop: Loop, caller: Caller, request: Request, body: dict) -> JSONResponse:
    """As the clients before it read it. Events of other kinds, as of traces, are accepted and left aside."""
    batch = a_list(body.get("batch"), "batch")

    def take(loop: Loop, caller: Caller, event) -> None:
        if an_object(event, "batch").get("type") == "score-create":
            give_one(loop, caller, event.get("body"))

    errors = given(loop, caller, batch, take)
    taken = [{"id": id_of(event), "status": 201} for i, event in enumerate(batch) if i not in errors]
    told = [{"id": id_of(batch[i]), "status": 400, "message": why} for i, why in errors.items()]
    return JSONResponse({"successes": taken, "errors": told}, 207)


def give_one(loop: Loop, caller: Caller, score) -> None:
    score = an_object(score, "score")
    value = score.get("value")
    if score.get("dataType") == "BOOLEAN" and value in (0, 1):
        value = bool(value)
    require_persons(score.get("name"), "name")
    give(loop, caller, score.get("observationId") or score.get("traceId"), value, score.get("comment"))


def id_of(score) -> str | None:
    return str(score["id"])[:200] if isinstance(score, dict) and "id" in score else None


def mlflow(loop: Loop, caller: Caller, request: Request, body: dict) -> JSONResponse:
    """The assessment as MLflow's client reads it, with its id."""
    assessment = an_object(body.get("assessment"), "assessment")
    source = an_object(assessment.get("source", {}), "source").get("source_type")
    if source != "HUMAN":
        raise Refusal(f"Only a person's assessments teach: source_type HUMAN, not {str(source)[:80]!r}", "source")
    receipt, rationale = request.path_params["completion"], assessment.get("rationale")
    if "expectation" in assessment:
        better = an_object(assessment["expectation"], "expectation").get("value")
        kind = tell(loop, caller, receipt, {"better": better}, rationale)
    else:
        value = an_object(assessment.get("feedback"), "feedback").get("value")
        kind = give(loop, caller, receipt, value, rationale)
    return JSONResponse({"assessment": assessment | {"assessment_id": kind}})


def mlflow_undo(loop: Loop, caller: Caller, request: Request, body: dict) -> JSONResponse:
    taken_back = {"completion": request.path_params["completion"], "undo": request.path_params["kind"]}
    ratings.give(loop.settings, caller, taken_back)
    return JSONResponse({})


def opentelemetry(loop: Loop, caller: Caller, request: Request, body: dict) -> JSONResponse:
    """OTLP's reply. Log records of other kinds are left aside, as a collector that nobody asked for them would."""
    records = [
        record
        for resource in a_list(body.get("resourceLogs"), "resourceLogs")
        for scope in a_list(an_object(resource, "resourceLogs").get("scopeLogs"), "scopeLogs")
        for record in a_list(an_object(scope, "scopeLogs").get("logRecords"), "logRecords")
        if an_object(record, "logRecords").get("eventName") == EVENT
    ]
    errors = given(loop, caller, records, give_event)
    about = {"rejectedLogRecords": str(len(errors)), "errorMessage": "; ".join(errors.values())[:1000]}
    return JSONResponse({"partialSuccess": about} if errors else {})


def give_event(loop: Loop, caller: Caller, record: dict) -> None:
    found = {}
    for attribute in a_list(record.get("attributes"), "attributes"):
        value = an_object(an_object(attribute, "attributes").get("value", {}), "value")
        found[str(attribute.get("key"))] = next(iter(value.values()), None)  # stringValue, doubleValue, boolValue ...
    require_persons(found.get("gen_ai.evaluation.name"), "gen_ai.evaluation.name")
    value = found.get("gen_ai.evaluation.score.value", found.get("gen_ai.evaluation.score.label"))
    give(loop, caller, found.get("gen_ai.response.id"), value, found.get("gen_ai.evaluation.explanation"))


def given(loop: Loop, caller: Caller, scores: list, take) -> dict[int, str]:
    """Each is taken by itself; why some were not, by their index."""
    if len(scores) > MOST:
        raise Refusal(f"A request has at most {MOST} scores", status=413)
    errors = {}
    for i, score in enumerate(scores):
        try:
            take(loop, caller, score)
        except Refusal as refusal:
            if refusal.status == 429:  # what is left may come again
                raise
            errors[i] = str(refusal)
        except REFUSED as error:
            errors[i] = str(of_domain(error))
    return errors


def give(loop: Loop, caller: Caller, receipt, value, comment) -> str:
    value = WORDS.get(value.casefold(), value) if isinstance(value, str) else value
    if isinstance(value, str) or value is None:
        raise Refusal("A score is true or false, a number from 0 to 1, or one of " + ", ".join(WORDS), "value")
    return tell(loop, caller, receipt, {"thumb": value} if isinstance(value, bool) else {"score": value}, comment)


def tell(loop: Loop, caller: Caller, receipt, said: dict, comment) -> str:
    """To /v1/feedback; the kind of what was said."""
    comment = {"comment": comment} if isinstance(comment, str) and comment.strip() else {}
    ratings.give(loop.settings, caller, {"completion": receipt} | said | comment)
    return next(kind for kind in KINDS if kind in said)


def require_persons(name, param: str) -> None:
    if not isinstance(name, str) or not PEOPLES.search(name):
        text = f"{str(name)[:80]!r} does not say that a person gave it, and only people's teach: call it user_feedback"
        raise Refusal(text, param)


def an_object(value, param: str) -> dict:
    if not isinstance(value, dict):
        raise Refusal(f"{param} is not a JSON object", param)
    return value


def a_list(value, param: str) -> list:
    if not isinstance(value, list):
        raise Refusal(f"{param} is not a list", param)
    return value
