"""What a checkpoint has in it: its ancestors, and the feedback that their rounds trained on."""

from dataclasses import dataclass
from pathlib import Path

from storage.checkpoints import Checkpoint, find
from storage.database import connect

# the ids of a checkpoint and its ancestors, and of the rounds that made them
LINE = (
    "with recursive line(id) as (select ? union all "
    "select k.parent_id from checkpoints k join line on k.id = line.id where k.parent_id is not null) "
    "select id from line"
)
ROUNDS = f"select round_id from checkpoints where id in ({LINE})"


def trained_on(db: Path, checkpoint: Checkpoint) -> list[str]:
    """Feedback row ids that its own round trained on; follow `parent_id` for what came before."""
    with connect(db) as c:
        rows = c.execute(
            "select feedback_id from round_feedback where round_id = ? and part = 'train' order by feedback_id",
            [checkpoint.round_id],
        ).fetchall()
    return [r[0] for r in rows]


def votes_behind(db: Path, checkpoint: Checkpoint) -> int:
    """People's votes that the checkpoint and its ancestors were trained on."""
    with connect(db) as c:
        return c.execute(
            "select count(distinct f.id) from round_feedback u join feedback f on f.id = u.feedback_id "
            f"where u.part = 'train' and f.source = 'human' and u.round_id in ({ROUNDS})",
            [checkpoint.id],
        ).fetchone()[0]


def votes_read(db: Path, round_id: int, person: str) -> dict[str, int]:
    """How many of a person's votes a round has read, by part: those that it trained on are `train`."""
    with connect(db) as c:
        rows = c.execute(
            "select u.part, count(*) from round_feedback u join feedback f on f.id = u.feedback_id "
            "where u.round_id = ? and f.rater = ? and f.source = 'human' group by u.part",
            [round_id, person],
        ).fetchall()
    return dict(map(tuple, rows))


@dataclass(frozen=True)
class Source:
    """Completions that a version and its ancestors were trained on: of one writer, judged by one kind of rater."""

    writer: str
    licence: str
    restricted: int
    judged_by: str
    completions: int


# a human completion's name is its author's id, which no card may tell
WRITER = "case when k.author = 'human' then 'people' when k.name <> '' then k.name else k.author end"


def sources(db: Path, checkpoint: Checkpoint) -> list[Source]:
    """Whose completions are in a version, its ancestors' rounds included."""
    with connect(db) as c:
        rows = c.execute(
            f"select {WRITER} as writer, k.licence, k.restricted, f.source, "
            "count(distinct k.id) from round_feedback u join feedback f on f.id = u.feedback_id "
            "join completions k on k.id in (f.chosen_id, f.rejected_id) "
            f"where u.part = 'train' and u.round_id in ({ROUNDS}) "
            "group by writer, k.licence, k.restricted, f.source order by writer, f.source",
            [checkpoint.id],
        ).fetchall()
    return [Source(*row) for row in rows]


def ancestors(db: Path, checkpoint: Checkpoint) -> list[Checkpoint]:
    """From the base student to the checkpoint itself."""
    return find(db, f"where id in ({LINE}) order by id", checkpoint.id)


def packs_learned(db: Path, checkpoint: Checkpoint) -> dict[str, str]:
    """Pack -> a disclaimer that it had when a round of the checkpoint's line learned from it; "" where it never had
    one. A round without a recipe of its own is on the pack `general`."""
    with connect(db) as c:
        rows = c.execute(
            "select coalesce(json_extract(r.recipe, '$.pack'), 'general') as pack, "
            "max(coalesce(json_extract(k.metrics, '$.disclaimer'), '')) "
            f"from checkpoints k join rounds r on r.id = k.round_id where k.id in ({LINE}) group by pack",
            [checkpoint.id],
        ).fetchall()
    return dict(map(tuple, rows))
