"""The routes of /v1 and /metrics, on the app's own server, before Gradio's.

Each handler is a function of (the caller, the request, its JSON body); what it refuses becomes an error in OpenAI's
shape, and nothing else is answered below /v1.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from kdloop.api import bodies, completions, metrics, ratings, scores
from kdloop.api.access import Caller, admit
from kdloop.api.completions import REFUSED
from kdloop.api.refusals import Refusal, of_domain
from kdloop.api.writing import CHAMPION, Loop, versions
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings, current
from kdloop.student.serving import Serving
from storage import checkpoints, follow_ups, log, people
from storage.database import DatabaseError

THREADS = 8  # beside one for each reply that is written

Handler = Callable[[Caller, Request, dict], Awaitable[Response]]


def build(settings: Settings, serving: Serving, supervisor: Supervisor) -> list[Route]:
    loop, threads = Loop(settings, serving, supervisor), CapacityLimiter(serving.base.at_once + THREADS)

    def plain(function: Callable[[Loop, Caller, Request, dict], Response]) -> Handler:
        """A handler that computes in a thread."""

        async def handle(caller: Caller, request: Request, body: dict) -> Response:
            return await to_thread.run_sync(function, loop, caller, request, body, limiter=threads)

        return handle

    def route(path: str, method: str | None, handler: Handler, kinds: tuple[type, ...] = (dict,)) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                caller = await to_thread.run_sync(admit, settings, request.headers, limiter=threads)
                body = await bodies.read(request, kinds) if request.method == "POST" else {}
                return await handler(caller, request, body)
            except Refusal as refusal:
                return refused(path, request, refusal)
            except REFUSED as error:
                return refused(path, request, of_domain(error))
            except DatabaseError as error:
                return refused(path, request, Refusal(f"The database is busy: {error}", None, 503, "busy", wait=5))

        return Route(path, endpoint, methods=method and [method], include_in_schema=False)

    create = partial(completions.create, loop, threads)
    return [
        route("/v1/models", "GET", plain(models)),
        route("/v1/models/{model}", "GET", plain(models)),
        route("/v1/chat/completions", "POST", lambda caller, request, body: create(request, caller, body)),
        route("/v1/feedback", "POST", plain(give_feedback)),
        route("/v1/feedback/{completion}", "GET", plain(read_feedback)),
        route("/v1/feedback/{completion}", "DELETE", plain(undo_feedback)),
        route("/api/public/scores", "POST", plain(scores.langfuse), (dict, list)),
        route("/api/public/ingestion", "POST", plain(scores.ingestion)),
        route("/api/3.0/mlflow/traces/{completion}/assessments", "POST", plain(scores.mlflow)),
        route("/api/3.0/mlflow/traces/{completion}/assessments/{kind}", "DELETE", plain(scores.mlflow_undo)),
        route("/v1/logs", "POST", plain(scores.opentelemetry)),
        route("/v1/person", "GET", plain(person)),
        route("/v1/person", "POST", plain(consent)),
        route("/v1/person", "DELETE", plain(erase)),
        route("/metrics", "GET", plain(measured)),
        Route("/v1/{path:path}", nowhere, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
    ]


def refused(path: str, request: Request, refusal: Refusal) -> Response:
    about = {"method": request.method, "path": path, "status": refusal.status, "code": refusal.code}
    log.event("refused", level="warning", **about, param=refusal.param)
    return refusal.response()


def models(loop: Loop, caller: Caller, request: Request, body: dict) -> Response:
    champion = checkpoints.serving(loop.settings.db)
    names = {CHAMPION: champion.created_at} | {k.name: k.created_at for k in versions(loop)}
    about = {"object": "model", "owned_by": "kdloop"}
    listed = [{"id": n, "created": int(datetime.fromisoformat(at).timestamp())} | about for n, at in names.items()]
    if wanted := request.path_params.get("model"):
        if wanted not in names:
            raise Refusal(f"There is no model {wanted[:80]!r}", "model", 404, "model_not_found")
        return JSONResponse(listed[list(names).index(wanted)])
    return JSONResponse({"object": "list", "data": listed})


def give_feedback(loop: Loop, caller: Caller, request: Request, body: dict) -> Response:
    key = request.headers.get("idempotency-key", "")
    return JSONResponse(ratings.give(loop.settings, caller, body, key))


def read_feedback(loop: Loop, caller: Caller, request: Request, body: dict) -> Response:
    caller.limit("votes")
    found = ratings.find(loop.settings, caller, request.path_params["completion"], None)
    return JSONResponse(ratings.standing(loop.settings, *found))


def undo_feedback(loop: Loop, caller: Caller, request: Request, body: dict) -> Response:
    return JSONResponse(
        ratings.give(loop.settings, caller, {"completion": request.path_params["completion"], "undo": True})
    )


def person(loop: Loop, caller: Caller, request: Request, body: dict) -> Response:
    """All that is stored of a `user` of this caller's."""
    caller.limit("downloads")
    return JSONResponse(people.everything(loop.settings.db, whose(loop, caller, request)))


def consent(loop: Loop, caller: Caller, request: Request, body: dict) -> Response:
    """Whether rounds may learn from what a `user` writes next: {"hindsight": true or false}."""
    caller.limit("votes")
    if set(body) != {"hindsight"} or not isinstance(body["hindsight"], bool):
        raise Refusal('Say {"hindsight": true} or false', "hindsight")
    who = whose(loop, caller, request)
    follow_ups.allow(loop.settings.db, who, body["hindsight"])
    return JSONResponse({"hindsight": body["hindsight"], "owner_allows": current(loop.settings).hindsight == "on"})


def erase(loop: Loop, caller: Caller, request: Request, body: dict) -> Response:
    """It is deleted for good, as on the page."""
    caller.limit("erasures")
    affected = people.erase(loop.settings.db, whose(loop, caller, request))
    names = [k.name for k in checkpoints.lineage(loop.settings.db) if k.id in affected]
    return JSONResponse({"deleted": True, "learned_from_it": names})


def whose(loop: Loop, caller: Caller, request: Request) -> str:
    return caller.person(loop.settings, request.query_params.get("user", "")[: bodies.MAX_USER])


def measured(loop: Loop, caller: Caller, request: Request, body: dict) -> Response:
    if not caller.is_owner:
        raise Refusal("The metrics are for the owner's key: `python -m kdloop key new NAME --owner`", status=403)
    return PlainTextResponse(metrics.text(loop), media_type="text/plain; version=0.0.4")


async def nowhere(request: Request) -> Response:
    return Refusal(
        f"There is no {request.method} {request.url.path[:200]} here", status=404, code="not_found"
    ).response()
