"""The public endpoints: chat, feedback, status, metrics, leaderboard. Everything else on the page is private.

`chat` returns a token that names the completion and proves that this installation made it: `feedback` takes nothing
else, so nobody votes on another person's messages.
"""

import hmac
import secrets
from threading import Event

import gradio as gr

from kdloop import packs
from kdloop.chat import arena
from kdloop.chat.turn import Place, say
from kdloop.feedback import collect
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.ui.session import address, limit_address, refusal, refused, secret, sign
from storage import checkpoints, conversations, feedback, rounds


def build(settings: Settings, serving: Serving, supervisor: Supervisor) -> None:
    """Gradio reads an endpoint's types off its signature, so each is a plain function."""

    def chat(message: str, request: gr.Request) -> dict:
        limit_address(settings, address(settings, request), "messages")
        with supervisor.places.waited_for(), supervisor.yielding():
            return ask(settings, serving, message)

    def feedback(token: str, liked: bool | None = None, better: str = "", request: gr.Request = None) -> dict:
        limit_address(settings, address(settings, request), "votes")
        return rate(settings, token, liked, better)

    def status() -> dict:
        return status_of(settings)

    def metrics() -> list[dict]:
        return ended_rounds(settings)

    def leaderboard() -> list[dict]:
        return [s.__dict__ for s in arena.standings(settings.db)]

    gr.api(chat, concurrency_id="gen", concurrency_limit=serving.base.at_once)
    for function in (feedback, status, metrics, leaderboard):
        gr.api(function)


def ask(settings: Settings, serving: Serving, message: str) -> dict:
    """One message, one completion: {"text", "thought", "version", "disclaimers", "status", "token"}; the token goes to
    /feedback. Raises gr.Error where the message is refused."""
    person = f"api {secrets.token_hex(12)}"
    try:
        *_, reply = say(settings, serving, Place(), person, message, Event())
    except ValueError as error:
        raise refusal(error) from error
    token = f"{person.removeprefix('api ')}.{reply.completion_id}"
    return {
        "text": reply.text,
        "thought": reply.thought,
        "version": reply.checkpoint.name,
        "disclaimers": [*packs.disclaimers(settings.db, reply.checkpoint).values()],
        "status": reply.status,
        "token": sign(secret(settings), token),
    }


def rate(settings: Settings, token: str, liked: bool | None = None, better: str = "") -> dict:
    """Rate a completion of /chat by its token: liked true, false, or null to retract; and a better completion. Ids of
    the feedback rows: {"feedback": [...]}. Raises gr.Error for a token that is none of ours."""
    text, _, _ = str(token).rpartition(".")
    if not hmac.compare_digest(sign(secret(settings), text).encode(), str(token).encode()):
        raise refused("Not a token of /chat")
    person, _, completion = text.partition(".")
    try:
        row = collect.thumb(settings.db, f"api {person}", completion, liked)
        edited = collect.edit(settings.db, f"api {person}", completion, better) if better else None
    except (ValueError, conversations.UnknownRow) as error:
        raise refusal(error) from error
    return {"feedback": [id for id in (row, edited) if id]}


def status_of(settings: Settings) -> dict:
    """{"version", "votes", "new_votes", "round"}: the champion's name, people's votes, those that no round has used,
    and the running round's {"id", "status"} or null."""
    total, new = feedback.count_votes(settings.db)
    running = rounds.running_round(settings.db)
    return {
        "version": checkpoints.serving(settings.db).name,
        "votes": total,
        "new_votes": new,
        "round": running and {"id": running.id, "status": running.status},
    }


def ended_rounds(settings: Settings) -> list[dict]:
    """Every round that has ended, oldest first: method, verdict with its 95 % interval, seconds of each phase."""
    return [
        {
            "round": r.id,
            "status": r.status,
            "method": r.method,
            "seconds": r.seconds,
            "verdict": r.verdict and {k: v for k, v in r.verdict.items() if k != "examples"},
        }
        for r in reversed(rounds.list_rounds(settings.db, 1000))
        if r.finished_at
    ]
