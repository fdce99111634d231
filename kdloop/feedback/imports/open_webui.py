"""Open WebUI's exports: feedbacks (Admin, Evaluations), each with a snapshot of its chat; and chats with the thumbs in
them.

A chat is a tree of messages. A rated message's prompt is the line of messages that leads to it. What the rating is
about stands in the snapshot alone, at history.messages[meta.message_id].
"""

from collections.abc import Iterator
from typing import Any

from kdloop.feedback.imports import fields
from kdloop.feedback.imports.fields import NOBODY, Dropped, Format, Wrong, choice, mapping, message, rated, text, time
from storage.conversations import Message
from storage.imports import Rated, Rating, Said

THUMBS = {1: True, -1: False, "1": True, "-1": False}
LONGEST = 10_000  # messages of a line: more is a ring


def feedback(row: dict) -> Iterator[Rated]:
    """A thumb, with its reason and comment; in the arena, a choice against the one sibling that was shown beside it."""
    data, meta = mapping(row["data"], "data"), mapping(row["meta"], "meta")
    snapshot = row.get("snapshot")
    if not snapshot:
        raise Dropped("without a snapshot of the chat")
    tree, where = history(mapping(mapping(snapshot, "snapshot").get("chat"), "snapshot.chat"), "snapshot.chat")
    id = meta.get("message_id")
    if not isinstance(id, str) or id not in tree:
        raise Dropped("the rated message is not in the snapshot")
    if data.get("rating") in (None, 0, ""):
        raise Dropped(NOBODY)
    like = choice(data["rating"], "data.rating", THUMBS)
    about = {
        "rater": text(row.get("user_id") or "", "user_id"),
        "reason": text(data.get("reason") or "", "data.reason"),
        "critique": text(data.get("comment") or "", "data.comment"),
        "at": time(row.get("created_at"), "created_at"),
    }
    yield of_message(tree, id, where, like, bool(data.get("sibling_model_ids")), about)


def chat(row: dict) -> Iterator[Rated]:
    """The rated messages of a chat; without any the chat is left out: nobody said that it is worth learning."""
    tree, where = history(mapping(row["chat"], "chat"), "chat")
    ratings = {id: m.get("annotation") for id, m in tree.items() if isinstance(m, dict) and m.get("annotation")}
    found = 0
    for id, value in ratings.items():
        given = mapping(value, f"{where}.{id}.annotation")
        if given.get("rating") in (None, 0, ""):
            continue
        about = {
            "rater": text(row.get("user_id") or "", "user_id"),
            "reason": text(given.get("reason") or "", f"{where}.{id}.annotation.reason"),
            "critique": text(given.get("comment") or "", f"{where}.{id}.annotation.comment"),
            "at": time(tree[id].get("timestamp"), f"{where}.{id}.timestamp"),
        }
        found += 1
        yield of_message(
            tree, id, where, choice(given["rating"], f"{where}.{id}.annotation.rating", THUMBS), False, about
        )
    if not found:
        raise Dropped(NOBODY)


def history(outer: dict, where: str) -> tuple[dict[str, Any], str]:
    """(id -> message, where that stands): a chat as it is, or a record of one, which holds it as `chat`."""
    while isinstance(outer.get("chat"), dict):
        outer, where = outer["chat"], f"{where}.chat"
    where = f"{where}.history.messages"
    return mapping(mapping(outer.get("history"), where[:-9]).get("messages"), where), where


def of_message(tree: dict, id: str, where: str, like: bool, arena: bool, about: dict) -> Rated:
    node, line = mapping(tree[id], f"{where}.{id}"), []
    parent = node.get("parentId")
    while parent is not None:
        if not isinstance(parent, str) or parent not in tree or len(line) > LONGEST:
            raise Wrong(f"{where}.{id}: no line of messages leads to it from the first one")
        line.append(message(tree[parent], f"{where}.{parent}"))
        parent = tree[parent].get("parentId")
    one = completion(node, f"{where}.{id}")
    beside = siblings(tree, id, node, where) if arena else []
    if len(beside) == 1:
        sides = (0, 1) if like else (1, 0)
        return rated(line[::-1], [one, beside[0]], [Rating(*sides, **about)])
    side = {"chosen" if like else "rejected": 0}
    return rated(line[::-1], [one], [Rating(**side, channel="thumb", **about)])


def completion(node: dict, field: str) -> Said:
    m: Message = message(node, field)
    if m["role"] != "assistant":
        raise Wrong(f"{field}.role is {m['role']}: a rating is of what the assistant said")
    return fields.said(m, text(node.get("model") or node.get("modelName") or "", f"{field}.model"))


def siblings(tree: dict, id: str, node: dict, where: str) -> list[Said]:
    """The other answers to the same message that have a text."""
    parent = mapping(tree.get(node.get("parentId")), f"{where}.{node.get('parentId')}")
    others = [k for k in fields.listed(parent.get("childrenIds") or [], f"{where}.childrenIds") if k != id]
    found = [
        completion(mapping(tree[k], f"{where}.{k}"), f"{where}.{k}") for k in others if isinstance(k, str) and k in tree
    ]
    return [k for k in found if k.text.strip()]


def is_chat(row: dict) -> bool:
    return isinstance(row.get("chat"), dict) and isinstance(row["chat"].get("history"), dict)


FORMATS = {
    "open_webui_feedback": Format(
        "Open WebUI, feedbacks", lambda r: {"data", "meta", "snapshot"} <= r.keys(), feedback
    ),
    "open_webui_chat": Format("Open WebUI, chats", is_chat, chat),
}
