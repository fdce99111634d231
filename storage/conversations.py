"""Conversations, turns and completions.

A turn's prompt is all that the model saw, ending in the user's message; each completion names who wrote it and, for
the student, the checkpoint that answered. It follows another turn of its conversation; several that follow the same
one are branches (branches.py).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sqlite_utils import Database

from storage.database import connect, encode, insert, new_id, now, transaction
from storage.search import FOUND, question, refresh
from storage.split import is_held_out
from storage.words import searchable

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}, as TRL takes it; an assistant's
# may have its thought as "reasoning_content", as templates read it


def as_prompt(question: str) -> list[Message]:
    return [{"role": "user", "content": question}]


SPEAKERS = {"user": "Person", "assistant": "Assistant", "system": "System"}


def transcript(prompt: list[Message]) -> str:
    """All that was said, as one text, for whoever reads texts: a judge, a preference model. A lone message as it is."""
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{SPEAKERS.get(m['role'], m['role'])}: {m['content']}" for m in prompt)


CURRENT = (  # of a turn t: its newest completion, or the one that a person chose over that. + : not by the index of all
    # that people ever said, which SQLite thinks to be short
    "with newest as (select id from completions where turn_id = t.id and author <> 'human' and status <> 'failed' "
    "order by rowid desc limit 1) select coalesce((select f.chosen_id from feedback f where f.rejected_id = newest.id "
    "and f.turn_id = t.id and f.channel = 'choice' and +f.source = 'human' and f.score is null "
    "and f.retracted_at is null and f.chosen_id is not null order by f.rowid desc limit 1), newest.id) from newest"
)
ALIVE = (  # a turn t that a page shows: one whose reply failed is as if it were not there
    "exists (select 1 from completions where turn_id = t.id and author <> 'human' and status <> 'failed')"
)
OPEN = f"select t.id from turns t where t.conversation_id = :conversation and {ALIVE} order by t.opened desc limit 1"
BELOW = (  # of the turn :turn and all that follows it the one that was opened last
    "with recursive below(id) as (select id from turns where id = :turn and conversation_id = :conversation union all "
    "select t.id from turns t join below on t.parent_id = below.id where t.conversation_id = :conversation) "
    f"select t.id from below join turns t on t.id = below.id where {ALIVE} order by t.opened desc limit 1"
)
LEAF = f"select coalesce(({BELOW}), ({OPEN}))"
LINE = (  # from that one, or else the open one, back to the conversation's beginning
    f"with recursive line(id, parent_id) as (select id, parent_id from turns where id = ({LEAF}) "
    "union all select p.id, p.parent_id from turns p join line on p.id = line.parent_id)"
)
COMPLETION = "k.id, k.turn_id, k.author, k.checkpoint_id, k.text, k.status, k.name, k.licence, k.restricted, k.thought"


class NotKept(ValueError):
    "A message has more than a text and a thought: tools, images. It would be lost between storage and training"


class UnknownRow(LookupError):
    "No such conversation, turn or completion, or it belongs to someone else"


@dataclass(frozen=True)
class Turn:
    id: str
    conversation_id: str
    prompt: list[Message]


@dataclass(frozen=True)
class Completion:
    """`status`: open while it streams; finished; cut at the token limit; stopped by the person; failed.

    `licence` and `restricted` are the author's: restricted where its terms forbid to train other models on it.
    """

    id: str
    turn_id: str
    author: str
    checkpoint_id: int | None
    text: str
    status: str = "finished"
    name: str = ""
    licence: str = ""
    restricted: int = 0
    thought: str = ""

    @property
    def said(self) -> tuple[str, bool]:
        """(text, did its author end the turn): what raters judge."""
        return self.text, self.status == "finished"

    @property
    def written(self) -> tuple[str, bool, str]:
        """The same with its thought: what engines score and methods learn (Template.completion_ids)."""
        return *self.said, self.thought

    @property
    def message(self) -> Message:
        """As a message of a later prompt. A thought that no answer came of is no part of it."""
        thought = {"reasoning_content": self.thought} if self.thought and self.text else {}
        return {"role": "assistant", "content": self.text} | thought


@dataclass(frozen=True)
class Draft:
    """A completion on its way into the database: what was said, how it ended, and by whom (columns of completions)."""

    text: str
    status: str
    author: str
    columns: dict = field(default_factory=dict, repr=False)

    @property
    def said(self) -> tuple[str, bool]:
        return self.text, self.status == "finished"


def start_conversation(
    db: Path, person: str, title: str = "", id: str | None = None, kind: str = "chat", origin: str = "page"
) -> str:
    """`kind` is chat, or duel: one that is neither listed nor read back, as that would tell who wrote which answer.
    `origin` is page, or api and a key's id.

    Who gives an `id` decides with it whether the conversation is held out (split.py); else its first vote does.
    """
    part, id = ({}, new_id()) if id is None else ({"held_out": is_held_out(id)}, id)
    with transaction(db) as c:
        part |= {"origin": origin} if origin != "page" else {}
        insert(c, "conversations", id=id, person=person, title=title[:80], kind=kind, created_at=now(), **part)
    return id


def add_turn(
    db: Path,
    conversation_id: str,
    prompt: list[Message],
    after: str | None = None,
    instead_of: str | None = None,
    next_to: str | None = None,
) -> Turn:
    """Append a turn, which is the open one from now on. `prompt` is what the model will see; raises NotKept for one of
    more than texts and thoughts.

    It follows the last turn of the branch through `after`, or else the open one; or the turn `next_to` itself; or it
    takes the place of the turn `instead_of`. Where another turn was there it begins another branch of the conversation.
    Raises UnknownRow where `instead_of` is no turn of it.
    """
    for message in prompt:
        check_kept(message)
    turn = Turn(new_id(), conversation_id, prompt)
    with transaction(db) as c:
        if not c.execute("select 1 from conversations where id = ?", [conversation_id]).fetchone():
            raise UnknownRow(f"No conversation {conversation_id!r}")
        place = {"parent_id": next_to or parent(c, conversation_id, after, instead_of)}
        numbers = "select count(*), coalesce(max(opened), -1) + 1 from turns where conversation_id = ?"
        place["position"], place["opened"] = c.execute(numbers, [conversation_id]).fetchone()
        insert(c, "turns", id=turn.id, conversation_id=conversation_id, prompt=prompt, created_at=now(), **place)
    return turn


def parent(c: Database, conversation_id: str, after: str | None, instead_of: str | None) -> str | None:
    """The id of the turn that a new one follows."""
    if not instead_of:
        return c.execute(LEAF, {"turn": after, "conversation": conversation_id}).fetchone()[0]
    known = "select parent_id from turns where id = ? and conversation_id = ?"
    if not (found := c.execute(known, [instead_of, conversation_id]).fetchone()):
        raise UnknownRow(f"No turn {instead_of!r} in this conversation: reload the page")
    return found[0]


def check_kept(message: Message) -> None:
    """Raises NotKept for what would not come back out of training and exports: tool calls and their results, images."""
    role, fields = message.get("role"), {k for k, v in message.items() if v}
    if role not in SPEAKERS:
        raise NotKept(f"A message of the role {role!r} cannot be kept: only system, user and assistant are")
    if more := sorted(fields - {"role", "content", *(["reasoning_content"] if role == "assistant" else [])}):
        raise NotKept(f"A message with {', '.join(more)} cannot be kept: only its text is, and an assistant's thought")
    if not isinstance(message.get("content"), str) or not isinstance(message.get("reasoning_content", ""), str):
        raise NotKept(f"A message of the role {role!r} has no plain text as its content: only texts can be kept")


def add_completion(db: Path, turn_id: str, author: str, **values) -> str:
    """Record a completion; `values` are columns (text, status, checkpoint_id, sampling, licence, restricted...)."""
    id = new_id()
    values = {"status": "finished", **values}
    with transaction(db) as c:
        insert(c, "completions", id=id, turn_id=turn_id, author=author, created_at=now(), **values)
    return id


def add_draft(db: Path, turn_id: str, draft: Draft) -> str:
    """The id of its completion."""
    return add_completion(db, turn_id, draft.author, text=draft.text, status=draft.status, **draft.columns)


def finish_completion(db: Path, id: str, **values) -> None:
    """By hand: `Table.update` raises where an erasure has come first."""
    sets = ", ".join(f"{name} = ?" for name in values)
    with transaction(db) as c:
        c.execute(f"update completions set {sets} where id = ?", [*encode(values).values(), id])


def completion(db: Path, id: str, person: str | None = None) -> Completion:
    """The completion; raises UnknownRow when there is none, or when `person` is given and is not its reader."""
    with connect(db) as c:
        row = c.execute(
            f"select {COMPLETION} from completions k join turns t on t.id = k.turn_id "
            "join conversations v on v.id = t.conversation_id where k.id = ? and (? is null or v.person = ?)",
            [id, person, person],
        ).fetchone()
    if row is None:
        raise UnknownRow(f"No completion {id!r} of yours: reload the page")
    return Completion(*row)


def turn(db: Path, id: str) -> Turn:
    with connect(db) as c:
        row = c.execute("select id, conversation_id, prompt from turns where id = ?", [id]).fetchone()
    if row is None:
        raise UnknownRow(f"No turn {id!r}")
    return Turn(row[0], row[1], json.loads(row[2]))


def history(db: Path, conversation_id: str, person: str, turn: str | None = None) -> list[tuple[Turn, Completion]]:
    """The turns of a conversation's branch in order, each with its current completion: the newest (the last retry, or a
    teacher's that came instead of the student's), unless a person chose another one over it. Failed ones are left
    out. The branch is the one that goes through `turn`, as it was last left, or else the open one."""
    with connect(db) as c:
        mine = "select 1 from conversations where id = ? and person = ? and kind = 'chat'"
        if not c.execute(mine, [conversation_id, person]).fetchone():
            raise UnknownRow(f"No conversation {conversation_id!r} of yours: start a new one")
        rows = c.execute(
            f"{LINE} select t.id, t.conversation_id, t.prompt, {COMPLETION} from line join turns t on t.id = line.id "
            f"join completions k on k.id = ({CURRENT}) order by t.position",
            {"conversation": conversation_id, "turn": turn},
        ).fetchall()
    return [(Turn(r[0], r[1], json.loads(r[2])), Completion(*tuple(r)[3:])) for r in rows]


def find_conversations(db: Path, person: str, search: str = "", limit: int = 40) -> list[tuple[str, str]]:
    """(id, title) of a person's chats that hold a turn, newest first; `search` looks in titles and in what was said,
    whatever its case and however its letters are encoded (see storage.words)."""
    folded = searchable(search)
    matching = f"and v.id in ({FOUND})" if folded else ""
    if folded:
        refresh(db, person)
    with connect(db) as c:
        rows = c.execute(
            "select v.id, v.title from conversations v where v.person = :person and v.kind = 'chat' "
            "and exists (select 1 from turns where conversation_id = v.id) "
            f"{matching} order by v.rowid desc limit :limit",
            {"person": person, "limit": limit, **question(person, folded)},
        ).fetchall()
    return [tuple(r) for r in rows]


def started(db: Path, ids: Iterable[str]) -> dict[str, str]:
    """Conversation id -> when it began, in ISO 8601."""
    with connect(db) as c:
        query = "select id, created_at from conversations where id in (select value from json_each(?))"
        return dict(c.execute(query, [json.dumps(list(ids))]).fetchall())


def rename(db: Path, id: str, person: str, title: str) -> None:
    """Give a person's chat another title, by which it is found from now on. Raises UnknownRow if it is not theirs."""
    with transaction(db) as c:
        mine = "update conversations set title = ?, indexed = 0 where id = ? and person = ? and kind = 'chat'"
        if not c.execute(mine, [title[:80], id, person]).rowcount:
            raise UnknownRow(f"No conversation {id!r} of yours: start a new one")


def count_turns(db: Path, person: str) -> int:
    with connect(db) as c:
        query = "select count(*) from turns t join conversations v on v.id = t.conversation_id where v.person = ?"
        return c.execute(query, [person]).fetchone()[0]


def is_last(db: Path, turn: Turn) -> bool:
    """Does no other turn follow it?"""
    with connect(db) as c:
        query = f"select 1 from turns t where t.conversation_id = ? and t.parent_id = ? and {ALIVE}"
        return c.execute(query, [turn.conversation_id, turn.id]).fetchone() is None


def statuses(db: Path, completion_ids: Iterable[str]) -> list[str]:
    with connect(db) as c:
        query = "select status from completions where id in (select value from json_each(?))"
        return [r[0] for r in c.execute(query, [json.dumps(list(completion_ids))])]


def close_open_completions(db: Path) -> int:
    """At start: what still streams in the database lost its process. Returns how many there were."""
    with transaction(db) as c:
        return c.execute("update completions set status = 'stopped' where status = 'open'").rowcount


def completions_and_turns(db: Path, turn_ids: list[str]) -> tuple[dict[str, Completion], dict[str, list[Message]]]:
    """(completion id -> completion, turn id -> prompt) of the given turns."""
    with connect(db) as c:
        wanted, ids = "(select value from json_each(?))", [json.dumps(turn_ids)]
        rows = c.execute(f"select {COMPLETION} from completions k where k.turn_id in {wanted}", ids).fetchall()
        prompts = c.execute(f"select t.id, t.prompt from turns t where t.id in {wanted}", ids).fetchall()
    return {r[0]: Completion(*r) for r in rows}, {r[0]: json.loads(r[1]) for r in prompts}
