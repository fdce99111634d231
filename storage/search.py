"""The sidebar's search: an FTS5 index of a person's conversations, each of them one row of folded text (words.py).

It is filled when its person searches: an index entry costs a writer 0.6 ms and more, which fifty people who vote would
wait for. Until then a conversation is only marked, by triggers, as not indexed.
"""

import hashlib
import json
import re
from collections import defaultdict
from pathlib import Path

from sqlite_utils import Database

from storage.database import connect, transaction
from storage.words import searchable

BATCH = 100  # conversations that are indexed in one transaction, so that votes come between
PAGES = 500  # of the index, 4 kB each, that are merged in one transaction, for the same reason
PATTERN = 1000  # characters: SQLite refuses a GLOB of 50,000 bytes
# Trigrams find parts of words, in scripts with and without spaces. They are asked by GLOB, since MATCH (`Table.search`)
# finds nothing for one or two characters, where GLOB "*" reads the rows of the range. GLOB chooses, instr decides.
FOUND = (
    "select x.conversation_id from texts_fts cross join texts x on x.id = texts_fts.rowid "  # cross: in this order
    "where texts_fts.folded glob :pattern and texts_fts.rowid between :first and :last and instr(x.folded, :search)"
)
GIVEN = "(select value from json_each(?1))"
SAID = (
    f"select id, title from conversations where id in {GIVEN} "
    "union all select t.conversation_id, json_extract(t.prompt, '$[#-1].content') from turns t "
    f"where t.conversation_id in {GIVEN} "
    "union all select t.conversation_id, k.text from turns t join completions k on k.turn_id = t.id "
    f"where t.conversation_id in {GIVEN} and k.status <> 'failed'"
)


def question(person: str, search: str) -> dict:
    """The values of FOUND; `search` is folded."""
    first, last = ids(person)
    return {"pattern": pattern(search), "first": first, "last": last, "search": search}


def pattern(search: str) -> str:
    """A GLOB that holds for every text with `search` in it. It leaves out what is shorter than a trigram: FTS5 counts
    three bytes, not characters, and finds nothing for "解析" or "éa"."""
    runs = re.split(r"[*?[]", search[:PATTERN])
    return "*".join(["", *(run for run in runs if len(run) >= 3), ""])


def ids(person: str) -> tuple[int, int]:
    """The first and last id of a person's rows: side by side, so that a search reads nobody else's part of the index.
    Two people whose hashes agree share a range, and nothing else."""
    first = int.from_bytes(hashlib.sha256(person.encode()).digest()[:4]) >> 1 << 32
    return first, first + 2**32 - 1


def refresh(db: Path, person: str) -> None:
    """Index what was said in a person's conversations since they searched."""
    stale = "select id, rowid from conversations where person = ? and kind = 'chat' and not indexed limit ?"
    while True:
        with connect(db) as c:
            if not c.execute(stale, [person, BATCH]).fetchone():
                return
        with transaction(db) as c:
            index(c, dict(map(tuple, c.execute(stale, [person, BATCH]))), ids(person)[0])


def index(c: Database, rowids: dict[str, int], first: int) -> None:
    """`rowids` are the conversations' own, by id."""
    given, texts = json.dumps(list(rowids)), defaultdict(list)
    for id, text in c.execute(SAID, [given]):
        texts[id].append(searchable(text))
    c["texts"].delete_where(f"conversation_id in {GIVEN}", [given])
    c["texts"].insert_all(
        {"id": first + rowid, "conversation_id": id, "folded": "\n".join(texts[id])} for id, rowid in rowids.items()
    )
    c.execute(f"update conversations set indexed = 1 where id in {GIVEN}", [given])


def merge(c: Database, pages: int) -> bool:
    """Merge as many pages of the index; less than none begins to merge all of it. True when there is more to do.

    FTS5 only marks what is deleted, and drops it when everything is merged. (Its option secure-delete would do so at
    once, from SQLite 3.42 on, and makes an index that older ones cannot read.)
    """
    before = c.conn.total_changes
    c.execute("insert into texts_fts (texts_fts, rank) values ('merge', ?)", [pages])
    return c.conn.total_changes - before >= 2  # as sqlite.org/fts5.html has it


def finish_merge(db: Path) -> None:
    more = True
    while more:
        with transaction(db) as c:
            more = merge(c, PAGES)
