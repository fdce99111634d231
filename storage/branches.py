"""Branches of a conversation: turns that follow the same one, after a person has asked a message anew in other words.

Nothing is deleted. Each branch goes on for itself, with its own completions and votes. The open one is that of the turn
that was opened last: by adding it, or by coming back to its branch.
"""

from collections import defaultdict
from pathlib import Path

from storage.conversations import ALIVE, BELOW, UnknownRow
from storage.database import connect, transaction


def siblings(db: Path, conversation_id: str) -> dict[str, list[str]]:
    """Turn id -> the turns that follow the same one, itself among them, oldest first; only where there are several."""
    branches = defaultdict(list)
    with connect(db) as c:
        query = f"select t.parent_id, t.id from turns t where t.conversation_id = ? and {ALIVE} order by t.position"
        for parent, id in c.execute(query, [conversation_id]):
            branches[parent].append(id)
    return {id: ids for ids in branches.values() if len(ids) > 1 for id in ids}


def open_branch(db: Path, person: str, turn_id: str) -> tuple[str, str]:
    """A person's conversation is open from now on at the branch of this turn, where it was last left: (conversation,
    the branch's last turn). Raises UnknownRow if the turn is not theirs."""
    with transaction(db) as c:
        mine = (
            "select v.id from conversations v join turns t on t.conversation_id = v.id "
            "where t.id = ? and v.person = ? and v.kind = 'chat'"
        )
        row = c.execute(mine, [turn_id, person]).fetchone()
        if not (row and (found := c.execute(BELOW, {"turn": turn_id, "conversation": row[0]}).fetchone())):
            raise UnknownRow(f"No message {turn_id!r} of yours: reload the page")
        newest = "(select max(opened) + 1 from turns where conversation_id = ?)"
        c.execute(f"update turns set opened = {newest} where id = ?", [row[0], found[0]])
    return row[0], found[0]
