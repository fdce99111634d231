"""A million votes: what is counted stays right, and no question of the page scans a big table."""

import random
import sqlite3
import time
from functools import partial

import pytest

from kdloop.chat import arena
from kdloop.feedback import collect
from kdloop.feedback.examples import from_feedback
from storage import ancestry, checkpoints, conversations, feedback, people, rounds
from storage.conversations import as_prompt
from storage.database import IDLE, connect, open_database, transaction
from storage.migrations import MIGRATIONS

RECOUNT = """
select count(*), count(*) filter (where created_at > coalesce(
  (select max(created_at) from rounds where status in ('promoted', 'rejected') and candidate_id is not null), ''))
from feedback where source = 'human' and retracted_at is null
and rater not in (select person from raters where weight = 0)"""
REDUEL = """
select a.checkpoint_id, b.checkpoint_id, coalesce(f.score, 1.0), count(*) from feedback f
join completions a on a.id = f.chosen_id join completions b on b.id = f.rejected_id
where f.channel = 'choice' and f.source = 'human' and f.retracted_at is null and a.checkpoint_id <> b.checkpoint_id
and f.rater not in (select person from raters where weight = 0)
group by 1, 2, 3 order by 1, 2, 3"""


def turn_of(db, person, checkpoint_ids):
    """A turn with one completion by each of the checkpoints; the completions' ids."""
    turn = conversations.add_turn(db, conversations.start_conversation(db, person, "Why?"), as_prompt("Why?"))
    return [
        conversations.add_completion(db, turn.id, "student", text=f"because {i}", checkpoint_id=id)
        for i, id in enumerate(checkpoint_ids)
    ]


def rival(db):
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    rounds.release_lease(db, "me")
    k = checkpoints.publish(
        db, round.id, lambda d: (d / "w").write_text("x"), parent_id=1, method="dpo", seed=1, metrics={}
    )
    checkpoints.promote(db, k.id, round.id)
    return k.id


def recounted(db):
    with connect(db) as c:
        return tuple(c.execute(RECOUNT).fetchone()), [tuple(r) for r in c.execute(REDUEL)]


def test_counts_follow_votes_undo_rounds_and_erasure(db):
    """Whatever happens, the counts are those that a scan would find."""
    draw, ids = random.Random(3), [1, rival(db)]
    voters = [f"person {i % 5}" for i in range(40)]
    asked = [(person, *turn_of(db, person, draw.choices(ids, k=2))) for person in voters]
    for step in range(200):
        person, left, right = draw.choice(asked)
        kind = draw.random()
        if step in (60, 120, 150, 180):
            a_round_ends(db, "rejected" if step in (120, 150) else "promoted", None if step == 150 else ids[1])
        elif step in (80, 140):
            people.set_weight(db, "person 3", 0 if step == 80 else 1)
        elif step == 155:
            people.erase(db, "person 2")
            asked = [a for a in asked if a[0] != "person 2"]
        elif kind < 0.6:
            collect.choose(db, person, left, right, draw.choice(["left", "right", "tie"]))
        elif kind < 0.8:
            collect.thumb(db, person, left, draw.choice([True, False]))
        else:
            feedback.retract(db, person, "choice", left)
        counted, met = recounted(db)
        assert (feedback.count_votes(db), feedback.duels(db)) == (counted, met), f"after step {step}"
        assert {r.person: r.votes for r in people.raters(db)} == by_rater(db), f"after step {step}"
    assert counted[0] > counted[1] > 0 and met and sum(n for _, n in feedback.votes_by_hour(db)) == counted[0]


def by_rater(db):
    with connect(db) as c:
        live = "select rater, count(*) from feedback where source = 'human' and retracted_at is null group by rater"
        return dict(map(tuple, c.execute(live)))


def a_round_ends(db, end, candidate):
    """The scan tells a vote from before by its time: none is of the round's own millisecond."""
    time.sleep(0.005)
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    rounds.advance(db, round.id, end, candidate_id=candidate)
    rounds.release_lease(db, "me")
    time.sleep(0.005)


def test_an_older_database_gets_its_counts(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.database.MIGRATIONS", MIGRATIONS[:1])
    db = open_database(tmp_path / "kdloop.db")
    checkpoints.ensure_base(db)
    with transaction(db) as c:
        for i in range(6):
            add_old_vote(c, i, retracted=i == 5)
        for id, end, candidate, minute in ((1, "promoted", 1, 0), (2, "rejected", None, 3)):
            c.execute(
                "insert into rounds (id, status, requested, base_id, candidate_id, seed, started_by, created_at) "
                "values (?, ?, 'auto', 1, ?, 1, 'test', ?)",
                [id, end, candidate, f"2026-01-31T15:0{minute}"],
            )
    monkeypatch.undo()
    open_database(db)
    assert feedback.count_votes(db) == (5, 4) == recounted(db)[0]
    assert feedback.votes_by_hour(db) == [("2026-01-31T15", 5)]
    assert [(r.person, r.votes, r.last) for r in people.raters(db)] == [("ann", 5, "2026-01-31T15:04")]


def add_old_vote(c, i, retracted):
    c.execute("insert into conversations (id, person, created_at) values (?, 'ann', '')", [f"v{i}"])
    c.execute("insert into turns values (?, ?, 0, '[{}]', '')", [f"t{i}", f"v{i}"])
    c.execute("insert into completions (id, turn_id, author, checkpoint_id, status, created_at) "
              "values (?, ?, 'student', 1, 'finished', '')", [f"k{i}", f"t{i}"])  # fmt: skip
    c.execute("insert into feedback (id, turn_id, chosen_id, channel, source, rater, created_at, retracted_at) "
              "values (?, ?, ?, 'thumb', 'human', 'ann', ?, ?)",
              [f"f{i}", f"t{i}", f"k{i}", f"2026-01-31T15:0{i}", "2026" if retracted else None])  # fmt: skip


PAGE = {
    "the header's votes": lambda db, k: feedback.count_votes(db),
    "a conversation": lambda db, k: conversations.history(db, k["conversation"], "person 0"),
    "its thumbs": lambda db, k: feedback.thumbs(db, "person 0", k["conversation"]),
    "a search": lambda db, k: conversations.find_conversations(db, "person 0", "Ärger"),
    "past conversations": lambda db, k: conversations.find_conversations(db, "person 0"),
    "a completion": lambda db, k: conversations.completion(db, k["completion"], "person 0"),
    "a vote": lambda db, k: collect.thumb(db, "person 0", k["completion"], True),
    "its undo": lambda db, k: feedback.retract(db, "person 0", "thumb", k["completion"]),
    "a person's edits": lambda db, k: feedback.edits(db, "person 0", k["completion"]),
    "what to teach": lambda db, k: feedback.ai_choices(db, "person 0"),
    "votes by hour": lambda db, k: feedback.votes_by_hour(db),
    "who rates": lambda db, k: people.raters(db),
    "what a confidence is fitted on": lambda db, k: feedback.rated_logprobs(db),
    "standings": lambda db, k: arena.standings(db),
    "the running round": lambda db, k: rounds.running_round(db),
    "the supervisor's tick": lambda db, k: rounds.abandoned_rounds(db),
    "a start": lambda db, k: conversations.close_open_completions(db),
    "what a model learned": lambda db, k: ancestry.trained_on(db, checkpoints.serving(db)),
    "a person's copy": lambda db, k: people.everything(db, "person 0"),
    "an erasure": lambda db, k: people.erase(db, "person 0"),
    "a round's reading": lambda db, k: from_feedback(db, 1),
}
NEWEST = ("what a confidence is fitted on", "a round's reading")  # read votes in their order, up to a limit
BIG = ("feedback", "completions", "turns", "conversations", "round_feedback", "progress")


class Watched(sqlite3.Connection):
    """Tells every statement that it runs, with its values."""

    heard: list[str] = []  # noqa: RUF012 - one list for all connections is the point

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.set_trace_callback(self.heard.append)


@pytest.fixture
def queries(monkeypatch):
    IDLE.clear()  # connections from before, which nobody watches
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Watched))
    Watched.heard.clear()
    return Watched.heard


@pytest.mark.parametrize("name", PAGE)
def test_no_question_of_the_page_scans_a_big_table(db, name, queries):
    completion = turn_of(db, "person 0", [1, 1])[0]
    conversation = conversations.find_conversations(db, "person 0")[0][0]
    queries.clear()
    PAGE[name](db, {"completion": completion, "conversation": conversation})
    asked = [q for q in list(queries) if q.lstrip().split()[0].lower() in ("select", "update", "delete", "with")]
    assert asked
    with connect(db) as c:
        for query in asked:
            for step in plan(c, query):
                assert not scans(step) and not (reads_all_votes(step) and name not in NEWEST), f"{step}: {query}"


def plan(c, query: str) -> list[str]:
    try:
        return [r["detail"] for r in c.execute(f"explain query plan {query}")]
    except sqlite3.OperationalError:  # of a temporary table that is gone with its connection
        return []


def scans(step: str) -> bool:
    """An index that is read in order until the limit is no scan."""
    words = step.split()
    alias = {"f": "feedback", "k": "completions", "t": "turns", "v": "conversations"}
    return words[0] == "SCAN" and alias.get(words[1], words[1]) in BIG and "feedback_unsure" not in step


def reads_all_votes(step: str) -> bool:
    """All that people ever said, where nothing but its source is searched for."""
    return step.endswith("feedback_live (source=?)")
