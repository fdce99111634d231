"""A conversation as the page shows it. Each completion's id travels with its message, so that a vote, a correction or a
retry is about the text that was on the screen, whatever became of the conversation since.

The page posts that id back; whoever is given it checks whose it is (kdloop.feedback.collect, kdloop.chat.turn).
"""

from itertools import groupby
from operator import itemgetter

import gradio as gr

from kdloop import packs
from kdloop.chat.turn import Reply
from kdloop.settings import Settings
from kdloop.ui import prose, verdicts
from kdloop.ui.session import person, refused
from kdloop.ui.words import tell
from storage import checkpoints, conversations, feedback
from storage.branches import siblings
from storage.checkpoints import Checkpoint

WRITING = "kd-writing"  # the CSS class of a chat whose last message grows: no buttons there yet
CUT_IN_THOUGHT = "cut at its length before it answered"
THUMBS = {True: "Like", False: "Dislike"}  # liked -> Gradio's name of that thumb


def transcript(
    settings: Settings, me: str, conversation: str | None, through: str | None = None, until: str | None = None
) -> list[dict]:
    """The messages of the conversation's branch through this turn (None: the open one), as `gr.Chatbot` takes them;
    those before the turn `until`, where it is given."""
    if not conversation:
        return []
    turns = conversations.history(settings.db, conversation, me, until or through)
    better, branches = feedback.corrections(settings.db, me, conversation), siblings(settings.db, conversation)
    messages = []
    for turn, k in turns:
        if turn.id == until:
            break
        asked = user_message(turn.prompt[-1]["content"], arrows(turn.id, branches))
        messages += [asked, assistant_message(k.text, k.id, k.thought, better=better.get(k.id, ""))]
    return messages


def last_turn(settings: Settings, me: str, conversation: str) -> str | None:
    """Of the branch that is open; None where nothing was said. Raises UnknownRow for somebody else's conversation."""
    turns = conversations.history(settings.db, conversation, me)
    return turns[-1][0].id if turns else None


def message_asked(settings: Settings, text: str, reply: Reply) -> dict:
    """The person's message that this is the reply to."""
    return user_message(text, arrows(reply.turn_id, siblings(settings.db, reply.conversation_id)))


def arrows(turn: str, siblings: dict[str, list[str]]) -> str:
    """HTML: which of the message's versions this is, and links to those beside it. "" where it has no other.
    `siblings` as of storage.branches."""
    if not (branches := siblings.get(turn)):
        return ""
    at = branches.index(turn)
    before, after = (branches[at - 1] if at else None), (branches[at + 1] if at + 1 < len(branches) else None)
    return prose.arrows(
        (before, tell("Show the version before")), f"{at + 1}/{len(branches)}", (after, tell("Show the version after"))
    )


def authors(settings: Settings, state: dict) -> str:
    """Who wrote which completions of the open conversation, and which were cut:
    "answer 1–3: student v0 · answer 4: student v1 (cut at its length: ask it to go on)"; and on a line of its own what
    belongs beside the answers of these versions, and of the one that answers next."""
    id, versions = state.get("conversation"), {k.id: k for k in checkpoints.lineage(settings.db)}
    turns = conversations.history(settings.db, id, person(state), state.get("turn")) if id else []
    wrote = {k.checkpoint_id for _, k in turns}
    beside = disclaimers(settings, *(k for k in versions.values() if k.id in wrote or k.status == "serving"))
    roles = {"student": tell("student"), "teacher": tell("teacher, as the student was not sure:")}
    cut = {True: f" ({tell('cut at its length: ask it to go on')})", False: f" ({tell(CUT_IN_THOUGHT)})"}
    ends = [cut[bool(k.text)] if k.status == "cut" else "" for _, k in turns]
    by = [verdicts.in_words(versions[k.checkpoint_id].name) if k.checkpoint_id else k.name for _, k in turns]
    names = [f"{roles[k.author]} {name}{end}" for (_, k), name, end in zip(turns, by, ends, strict=True)]
    runs = [(name, [i for i, _ in run]) for name, run in groupby(enumerate(names, start=1), key=itemgetter(1))]
    spans = [(f"{at[0]}–{at[-1]}" if len(at) > 1 else str(at[0]), name) for name, at in runs]
    line = " · ".join(f"{tell('answer')} {at}: {name}" for at, name in spans)
    return "\n\n".join(filter(None, [line, beside]))


def disclaimers(settings: Settings, *versions: Checkpoint) -> str:
    """HTML for Markdown: one line, "" for none."""
    said = " · ".join(map(prose.escaped, packs.disclaimers(settings.db, *versions).values()))
    return f'<div class="kd-disclaimer">{said}</div>' if said else ""


def open_chat(settings: Settings, state: dict, **properties) -> gr.Chatbot:
    """The open conversation with the thumbs that this person gave in it; `properties` as of `chatbot`."""
    me, conversation = person(state), state.get("conversation")
    messages = transcript(settings, me, conversation, state.get("turn"))
    return chatbot(messages, thumbs(settings, me, conversation), **properties)


def thumbs(settings: Settings, me: str, conversation: str | None) -> dict[str, bool]:
    """Completion id -> liked."""
    return feedback.thumbs(settings.db, me, conversation) if conversation else {}


def chatbot(messages: list[dict], liked: dict[str, bool], writing: bool | None = False, **properties) -> gr.Chatbot:
    """`liked` as of `thumbs`. Gradio keeps thumbs by position: what takes a message's place would inherit its thumb.
    `writing` None: the chat may be written at this moment, and stays as it is in that."""
    pressed = [THUMBS.get(liked.get(completion_id(m))) for m in messages if m["role"] == "assistant"]
    if writing is not None:
        properties["elem_classes"] = [WRITING] if writing else []
    return gr.Chatbot(value=messages, feedback_value=pressed, **properties)


def user_message(text: str, below: str = "") -> dict:
    return {"role": "user", "content": prose.literal(text, below)}


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
