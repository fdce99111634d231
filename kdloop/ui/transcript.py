"""A conversation as the page shows it, out of the database: positions that a browser names are looked up here."""

from itertools import groupby
from operator import itemgetter

import gradio as gr

from kdloop.settings import Settings
from kdloop.ui.session import person, refused
from kdloop.ui.words import tell
from storage import checkpoints, conversations, feedback
from storage.conversations import as_prompt


def transcript(settings: Settings, me: str, conversation: str) -> list[dict]:
    pairs = conversations.history(settings.db, conversation, me)
    return [m for turn, k in pairs for m in exchange(turn.prompt[-1]["content"], k.text, k.id)]


def written_by(settings: Settings, state: dict) -> str:
    """Who wrote which answers of the open conversation, and which were cut:
    "answer 1–3: student v0 · answer 4: student v1 (cut at its length: ask it to go on)" """
    if not state.get("conversation"):
        return ""
    names = {k.id: k.name for k in checkpoints.lineage(settings.db)}
    pairs = conversations.history(settings.db, state["conversation"], person(state))
    told = {"student": tell("student"), "teacher": tell("teacher, as the student was not sure:")}
    cut = {"cut": f" ({tell('cut at its length: ask it to go on')})"}
    authors = (f"{told[k.author]} {names.get(k.checkpoint_id, k.name)}{cut.get(k.status, '')}" for _, k in pairs)
    answers = enumerate(authors, start=1)
    runs = [(name, [i for i, _ in run]) for name, run in groupby(answers, key=itemgetter(1))]
    spans = [(f"{at[0]}–{at[-1]}" if len(at) > 1 else str(at[0]), name) for name, at in runs]
    return " · ".join(f"{tell('answer')} {at}: {who}" for at, who in spans)


def restored(settings: Settings, me: str, conversation: str) -> gr.Chatbot:
    """A past conversation with its thumbs."""
    messages, given = transcript(settings, me, conversation), feedback.thumbs(settings.db, me, conversation)
    ids = [m["metadata"]["id"] for m in messages if m["role"] == "assistant"]
    return gr.Chatbot(value=messages, feedback_value=[{True: "Like", False: "Dislike"}.get(given.get(i)) for i in ids])


def exchange(asked: str, text: str, completion_id: str) -> list[dict]:
    return [*as_prompt(asked), assistant(text, completion_id)]


def assistant(text: str, completion_id: str) -> dict:
    return {"role": "assistant", "content": text or "…", "metadata": {"id": completion_id}}


def position(index) -> int | None:
    """Of a message that the browser names; None for what is no position."""
    at = index[0] if isinstance(index, (list, tuple)) else index
    return at if isinstance(at, int) else None


def completion_at(settings: Settings, state: dict, index) -> str:
    """The completion's id by the position that the browser names, looked up in the database, not in what it posts."""
    if not state.get("conversation"):
        raise refused("This conversation is over: start a new one")
    shown = transcript(settings, person(state), state["conversation"])
    at = position(index)
    if at is None or not 0 <= at < len(shown) or shown[at]["role"] != "assistant":
        raise refused("Only the student's completions can be rated or corrected")
    if state.get("choosing") and at == len(shown) - 1:
        raise refused("Choose between the two answers first")
    return shown[at]["metadata"]["id"]
