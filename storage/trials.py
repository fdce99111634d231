"""Trials: a challenger, which a judge has passed, and people's blind comparisons of it with the champion.

A trial's votes are not copied: they are the choices on its pairs, so what is erased or blocked does not count. What is
taken back does: after a vote the page tells who wrote which, or what the AI rater had chosen, so whoever could take it
out of the evidence then would choose by its outcome what counts. (It teaches nothing any more.) A pair is two
completions of one turn, one by each, that the app has shown without saying who wrote which. Where several people judge
one pair, or one does so twice, the first vote counts: the others are about the same two texts, and tell little more.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database

from storage.database import connect, encode, now, transaction

MODES = ("trial", "confirm")  # the challenger serves at once, or only once it is confirmed
FIELDS = "id, round_id, challenger, champion, mode, started, ended, outcome, evidence"


@dataclass(frozen=True)
class Trial:
    """`challenger` and `champion` are ids of checkpoints; `outcome` is running | confirmed | rolled back | ended by
    owner; `evidence` is what it was ended on."""

    id: int
    round_id: int
    challenger: int
    champion: int
    mode: str
    started: str
    ended: str | None
    outcome: str
    evidence: dict


@dataclass(frozen=True)
class Vote:
    """One person's judgement of one pair: 1 the challenger, 0 the champion, 0.5 a tie or both bad."""

    person: str
    outcome: float
    weight: float = 1.0


# The votes on pairs p of the trial ?1, by row: a choice of one, or a dislike of both. + : by the indexes of completions
VOTES = """
with given as (
  select p.rowid as pair, f.rowid as at, f.rater,
    coalesce(f.score, case when f.chosen_id = p.challenger_id then 1.0 else 0.0 end) as outcome
  from trial_pairs p join feedback f on f.chosen_id in (p.challenger_id, p.champion_id)
    and f.rejected_id in (p.challenger_id, p.champion_id)
  where p.trial_id = ?1 and +f.channel = 'choice' and +f.source = 'human'
  union all
  select p.rowid, f.rowid, f.rater, 0.5
  from trial_pairs p join feedback f on f.rejected_id = p.challenger_id and f.chosen_id is null
    join feedback g on g.rejected_id = p.champion_id and g.chosen_id is null and g.rater = f.rater
  where p.trial_id = ?1 and +f.channel = 'choice' and +f.source = 'human'
    and +g.channel = 'choice'
)
select given.rater, outcome, coalesce(r.weight, 1.0), min(at) from given left join raters r on r.person = given.rater
where coalesce(r.weight, 1.0) > 0 group by pair order by min(at)
"""
WAITING = """
select p.challenger_id, p.champion_id from trial_pairs p join trials t on t.id = p.trial_id
where t.outcome = 'running' and not exists (select 1 from feedback f where +f.channel = 'choice' and +f.source = 'human'
  and f.rejected_id in (p.challenger_id, p.champion_id))
"""


def begin(c: Database, round_id: int, challenger: int, mode: str) -> None:
    """Against the checkpoint that serves; the pairs that the round has written for the Teach tab are the first ones."""
    champion = c.execute("select id from checkpoints where status = 'serving'").fetchone()[0]
    row = {"round_id": round_id, "challenger": challenger, "champion": champion, "mode": mode, "started": now()}
    id = c["trials"].insert(encode(row)).last_pk
    c.execute(
        "insert or ignore into trial_pairs select ?1, iif(chosen_by = ?2, chosen_id, rejected_id), "
        "iif(chosen_by = ?2, rejected_id, chosen_id) from feedback where round_id = ?3 and channel = 'ranking' and "
        "chosen_by in (?2, ?4) and rejected_by in (?2, ?4) and chosen_by <> rejected_by",
        [id, challenger, round_id, champion],
    )


def end_row(c: Database, id: int, outcome: str, evidence: dict) -> bool:
    """False where it had ended before."""
    end = "update trials set outcome = ?, ended = ?, evidence = ? where id = ? and outcome = 'running'"
    return c.execute(end, [outcome, now(), json.dumps(evidence), id]).rowcount == 1


def offer(db: Path, trial_id: int, challenger_id: str, champion_id: str) -> None:
    """Record two completions, one by each, that a person is shown blind. Of an ended trial: nothing."""
    with transaction(db) as c:
        c.execute(
            "insert or ignore into trial_pairs select id, ?2, ?3 from trials where id = ?1 and outcome = 'running'",
            [trial_id, challenger_id, champion_id],
        )


def votes(db: Path, trial_id: int) -> list[Vote]:
    """In the order in which they were given."""
    with connect(db) as c:
        return [Vote(*tuple(r)[:3]) for r in c.execute(VOTES, [trial_id])]


def waiting_pairs(db: Path) -> set[frozenset[str]]:
    """The pairs of the running trial that nobody has judged, by the ids of their completions."""
    with connect(db) as c:
        return {frozenset(tuple(r)) for r in c.execute(WAITING)}


def running(db: Path) -> Trial | None:
    return next(iter(find(db, "where outcome = 'running'")), None)


def standings(db: Path) -> dict[int, str]:
    """Checkpoint id -> who made it a version: the outcome of its last trial, or "judge" where it never had one."""
    alone = "select candidate_id, 'judge' from rounds where status = 'promoted' and candidate_id is not null"
    with connect(db) as c:
        known = [*c.execute(alone), *c.execute("select challenger, outcome from trials order by id")]
    return dict(map(tuple, known))


def all_trials(db: Path) -> list[Trial]:
    """Oldest first."""
    return find(db, "order by id")


def find(db: Path, where: str) -> list[Trial]:
    with connect(db) as c:
        return [read(r) for r in c.execute(f"select {FIELDS} from trials {where}")]


def running_in(c: Database) -> Trial | None:
    row = c.execute(f"select {FIELDS} from trials where outcome = 'running'").fetchone()
    return row and read(row)


def read(row) -> Trial:
    *columns, evidence = tuple(row)
    return Trial(*columns, evidence=json.loads(evidence))
