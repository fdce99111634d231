"""/v1/feedback: what a client says of a completion, by its receipt. The same functions as the page's votes take it, so
consent, weights, blocks, the split and erasure are the same.

Whoever has the receipt speaks for the person whose conversation it is in, through the key that asked for it.
"""

from dataclasses import dataclass

from kdloop.api.access import Caller
from kdloop.api.bodies import MAX_USER, number, text
from kdloop.api.completions import PREFIX
from kdloop.api.refusals import Refusal
from kdloop.feedback import collect
from kdloop.settings import Settings
from storage import feedback, receipts

CHANNELS = {"thumb": "thumb", "score": "stars", "choice": "choice", "better": "edit", "comment": "critique"}
THUMBS = {"up": True, "down": False, True: True, False: False}
CHOICES = {"this": "left", "tie": "tie", "both bad": "both bad"}
FIELDS = {"completion", "user", "thumb", "score", "over", "choice", "better", "comment", "undo"}
MAX_KEY = 200  # characters of an Idempotency-Key


@dataclass(frozen=True)
class Said:
    """What one request says of the completion `id` of `person`."""

    person: str
    id: str
    thumb: bool | None
    score: float | None
    over: str | None
    choice: str
    better: str | None
    comment: str | None


def give(settings: Settings, caller: Caller, body: dict, key: str = "") -> dict:
    """All that the body says, or nothing. Once only for an Idempotency-Key. Raises Refusal, and ValueError as the
    functions of collect."""
    caller.limit("votes")
    for name in body:
        if name not in FIELDS:
            raise Refusal(f"{name[:80]!r} is not supported; there are: {', '.join(sorted(FIELDS))}", name[:80])
    person, id = find(settings, caller, body.get("completion"), text(body, "user", None, MAX_USER))
    if len(key) > MAX_KEY:
        raise Refusal(f"An Idempotency-Key has at most {MAX_KEY} characters", "Idempotency-Key")
    content = receipts.digest(body)
    if key and (before := receipts.replied(settings.db, person, key)):
        if before[0] != content:
            raise Refusal("This Idempotency-Key came with another body before", "Idempotency-Key", 409)
        return before[1]
    if body.get("undo"):
        undo(settings, person, id, body["undo"])
    else:
        write(settings, checked(settings, caller, person, id, body))
    reply = standing(settings, person, id)
    if key:
        receipts.note_reply(settings.db, person, key, content, reply)
    return reply


def find(settings: Settings, caller: Caller, receipt, user: str | None, param: str = "completion") -> tuple[str, str]:
    """(person, id of the completion). Raises Refusal for a receipt that this caller was not given."""
    if not isinstance(receipt, str) or not receipt:
        raise Refusal(f"{param} is the id of a completion, as its response had it", param)
    id = receipt.removeprefix(PREFIX)
    person = receipts.person_of(settings.db, id, caller.origin)
    if person is None or (user is not None and caller.person(settings, user) != person):
        text = "No stored completion of yours has this id (with store: false, and of a client's tasks, none is stored)"
        raise Refusal(text, param, 404, "not_found")
    return person, id


def checked(settings: Settings, caller: Caller, person: str, id: str, body: dict) -> Said:
    """Before anything is written."""
    if not body.keys() & {"thumb", "score", "over", "better", "comment"}:
        raise Refusal("Give a thumb, a score, over (another receipt), better or comment, or undo", "thumb")
    thumb, choice = body.get("thumb"), body.get("choice", "this")
    if "thumb" in body and (not isinstance(thumb, str | bool) or thumb not in THUMBS):
        raise Refusal("thumb is up or down", "thumb")
    if not isinstance(choice, str) or choice not in CHOICES or ("choice" in body and "over" not in body):
        raise Refusal(f"choice is {', '.join(CHOICES)}, beside over", "choice")
    most = collect.MAX_CHARACTERS
    better, comment = (text(body, name, None, most) for name in ("better", "comment"))
    over = find(settings, caller, body["over"], None, "over") if "over" in body else (person, None)
    completion = collect.rateable(settings.db, person, id, empty=set(body) <= {"completion", "user", "over", "choice"})
    if better is not None and collect.correction_text(better) == completion.text:
        raise Refusal("better is the same as what the student wrote", "better")
    if comment is not None:
        collect.require_text(comment, "A comment")
    if over[0] != person:
        raise Refusal("A choice is between two completions of the same prompt", "over")
    if over[1]:
        collect.comparable(settings.db, person, id, over[1], CHOICES[choice])
    score = number(body, "score", None, 0, 1)
    thumb = THUMBS[thumb] if "thumb" in body else None
    return Said(person, id, thumb, score, over[1], CHOICES[choice], better, comment)


def write(settings: Settings, said: Said) -> None:
    """A comment is the reason for the thumb or the score that it comes with, or for the thumb that stands; else it is
    kept by itself, as no vote."""
    db, person, id, why = settings.db, said.person, said.id, said.comment or ""
    stands = feedback.thumb_row(db, person, id)
    thumb = said.thumb
    if thumb is None and said.score is None and why and stands:
        thumb = stands["chosen_id"] is not None
    if said.better is not None:
        collect.edit(db, person, id, said.better)
    if said.over:
        collect.choose(db, person, id, said.over, said.choice)
    if said.score is not None:
        collect.score(db, person, id, said.score, "" if thumb is not None else why)
    if thumb is not None:
        same = stands and (stands["chosen_id"] is not None) == thumb
        collect.thumb(db, person, id, thumb, why or (stands["critique"] if same else ""))
    elif why and said.score is None:
        collect.comment(db, person, id, why)


def undo(settings: Settings, person: str, id: str, what) -> None:
    """`what` is True for all that was said of the completion, or one of CHANNELS."""
    if what is not True and (not isinstance(what, str) or what not in CHANNELS):
        raise Refusal(f"undo is true, or one of {', '.join(CHANNELS)}", "undo")
    for channel in CHANNELS.values() if what is True else [CHANNELS[what]]:
        collect.undo(settings.db, person, channel, id)


def standing(settings: Settings, person: str, id: str) -> dict:
    """What this person has said of the completion and not taken back."""
    names = {channel: name for name, channel in CHANNELS.items()}
    rows = [
        {"id": r["id"], "kind": names[r["channel"]], "at": r["created_at"]} | value(r, id)
        for r in feedback.standing(settings.db, person, id)
    ]
    return {"object": "feedback", "completion": PREFIX + id, "feedback": rows}


def value(row: dict, id: str) -> dict:
    chosen, why = row["chosen_id"] == id, {"comment": row["critique"]} if row["critique"] else {}
    if row["channel"] == "thumb":
        return {"thumb": "up" if chosen else "down"} | why
    if row["channel"] == "stars":
        return {"score": row["score"]} | why
    if row["channel"] == "choice" and row["rejected_id"] and row["chosen_id"]:
        other = row["rejected_id"] if chosen else row["chosen_id"]
        return {"than": PREFIX + other, "choice": "tie" if row["score"] == 0.5 else "this" if chosen else "that"}
    return {"choice": "both bad"} if row["channel"] == "choice" else why
