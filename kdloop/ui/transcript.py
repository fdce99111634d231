"""A conversation as the page shows it. Each completion's id travels with its message, so that a vote, a correction or a
retry is about the text that was on the screen, whatever became of the conversation since.

The page posts that id back; whoever is given it checks whose it is (kdloop.feedback.collect, kdloop.chat.turn).
"""

from itertools import groupby
from operator import itemgetter

import gradio as gr

from kdloop.settings import Settings
from kdloop.ui import prose
from kdloop.ui.session import person, refused
from kdloop.ui.words import tell
from storage import checkpoints, conversations, feedback

WRITING = "kd-writing"  # the CSS class of a chat whose last message grows: no buttons there yet
CUT_IN_THOUGHT = "cut at its length before it answered"
THUMBS = {True: "Like", False: "Dislike"}  # liked -> Gradio's name of that thumb


def transcript(settings: Settings, me: str, conversation: str | None) -> list[dict]:
    """The conversation's messages, as `gr.Chatbot` takes them."""
    if not conversation:
        return []
    turns = conversations.history(settings.db, conversation, me)
    better = feedback.corrections(settings.db, me, conversation)
    return [
        m for turn, k in turns
        for m in exchange(turn.prompt[-1]["content"], k.text, k.id, k.thought, better=better.get(k.id, ""))
    ]  # fmt: skip


def authors(settings: Settings, state: dict) -> str:
    """Who wrote which completions of the open conversation, and which were cut:
    "answer 1–3: student v0 · answer 4: student v1 (cut at its length: ask it to go on)" """
    if not state.get("conversation"):
        return ""
    versions = {k.id: k.name for k in checkpoints.lineage(settings.db)}
    turns = conversations.history(settings.db, state["conversation"], person(state))
    roles = {"student": tell("student"), "teacher": tell("teacher, as the student was not sure:")}
    cut = {True: f" ({tell('cut at its length: ask it to go on')})", False: f" ({tell(CUT_IN_THOUGHT)})"}
    ends = [cut[bool(k.text)] if k.status == "cut" else "" for _, k in turns]
    names = [
        f"{roles[k.author]} {versions.get(k.checkpoint_id, k.name)}{e}" for (_, k), e in zip(turns, ends, strict=True)
    ]
    runs = [(name, [i for i, _ in run]) for name, run in groupby(enumerate(names, start=1), key=itemgetter(1))]
    spans = [(f"{at[0]}–{at[-1]}" if len(at) > 1 else str(at[0]), name) for name, at in runs]
    return " · ".join(f"{tell('answer')} {at}: {name}" for at, name in spans)


def open_chat(settings: Settings, state: dict) -> gr.Chatbot:
    """The open conversation with the thumbs that this person gave in it."""
    me, conversation = person(state), state.get("conversation")
    return chatbot(transcript(settings, me, conversation), thumbs(settings, me, conversation))


def thumbs(settings: Settings, me: str, conversation: str | None) -> dict[str, bool]:
    """Completion id -> liked."""
    return feedback.thumbs(settings.db, me, conversation) if conversation else {}


def chatbot(messages: list[dict], liked: dict[str, bool], writing: bool = False) -> gr.Chatbot:
    """`liked` as of `thumbs`. Gradio keeps thumbs by position: what takes a message's place would inherit its thumb."""
    pressed = [THUMBS.get(liked.get(completion_id(m))) for m in messages if m["role"] == "assistant"]
    return gr.Chatbot(value=messages, feedback_value=pressed, elem_classes=[WRITING] if writing else [])


def exchange(
    text: str, completion: str, id: str, thought: str = "", writing: bool = False, better: str = ""
) -> list[dict]:
    return [user_message(text), assistant_message(completion, id, thought, writing, better)]


def user_message(text: str) -> dict:
    return {"role": "user", "content": prose.literal(text)}


def assistant_message(text: str, id: str | None, thought: str = "", writing: bool = False, better: str = "") -> dict:
    """Without an id: a message of the page's own. A thought is folded, and unfolded while it is written; `better` is
    the person's correction, folded below."""
    metadata, thinks = {"metadata": {"id": id}} if id else {}, writing and not text
    fold = prose.folded(thought, tell("Thinking…") if thinks else tell("Thought"), thinks) if thought else ""
    below = prose.corrected(better, tell("Corrected by you"), str(id), tell("Undo the correction")) if better else ""
    return {"role": "assistant", "content": prose.styled(text or "…", fold, below)} | metadata


def completion_id(message: dict) -> str | None:
    return (message.get("metadata") or {}).get("id")


def position(index) -> int | None:
    """Of a message that the browser names; None for what is no position."""
    at = index[0] if isinstance(index, (list, tuple)) else index
    return at if isinstance(at, int) else None


def completion_shown(messages: list[dict], at: int | None = -1) -> str:
    """The id of the completion that the page shows there, by default at the chat's end."""
    if not messages:
        raise refused("No answer yet: type a message first")
    if at == -1 and messages[at]["role"] == "user":
        raise refused("Choose between the two answers first")
    if at is None or not -1 <= at < len(messages) or messages[at]["role"] != "assistant":
        raise refused("Only the student's completions can be rated or corrected")
    if not (id := completion_id(messages[at])):
        raise refused("Choose between the two answers first")
    return str(id)
