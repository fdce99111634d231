"""The schema, as a list of small named migrations.

What the database can enforce, it does: authors and sources by CHECK, one serving checkpoint by a unique partial index,
one round by a lease row.
"""

import sqlite3

from storage.scale import DISPUTES, ORDER, RATERS, SCALE
from storage.split import split_columns

SCHEMA = """
create table conversations (
  id text primary key,
  person text not null,
  title text not null default '',
  created_at text not null
);
create index conversations_person on conversations(person, created_at);
create table turns (
  id text primary key,
  conversation_id text not null references conversations(id) on delete cascade,
  position integer not null,
  prompt text not null check (json_array_length(prompt) > 0),
  created_at text not null,
  unique (conversation_id, position)
);
create table checkpoints (
  id integer primary key,
  version integer unique,
  parent_id integer references checkpoints(id),
  round_id integer references rounds(id),
  status text not null check (status in ('candidate', 'serving', 'retired', 'rejected')),
  path text,
  method text,
  seed integer,
  metrics text not null default '{}',
  created_at text not null,
  promoted_at text,
  pruned_at text
);
create unique index one_serving on checkpoints(status) where status = 'serving';
create table completions (
  id text primary key,
  turn_id text not null references turns(id) on delete cascade,
  author text not null check (author in ('student', 'teacher', 'human')),
  name text not null default '',
  checkpoint_id integer references checkpoints(id),
  text text not null default '',
  status text not null check (status in ('open', 'finished', 'cut', 'stopped', 'failed')),
  sampling text not null default '{}',
  prompt_tokens integer,
  completion_tokens integer,
  first_token_seconds real,
  seconds real,
  licence text not null default '',
  created_at text not null,
  check (author <> 'student' or checkpoint_id is not null)
);
create index completions_turn on completions(turn_id, created_at);
create table feedback (
  id text primary key,
  turn_id text not null references turns(id) on delete cascade,
  chosen_id text references completions(id) on delete cascade,
  rejected_id text references completions(id) on delete cascade,
  score real check (score between 0 and 1),
  channel text not null check (channel in ('thumb', 'stars', 'choice', 'edit', 'critique', 'ranking')),
  aspect text not null default 'overall',
  reason text not null default '',
  critique text not null default '',
  source text not null check (source in ('human', 'teacher', 'judge', 'verifier', 'preference_model')),
  rater text not null,
  round_id integer references rounds(id),
  created_at text not null,
  retracted_at text,
  check (chosen_id is not null or rejected_id is not null),
  check (chosen_id is not rejected_id)
);
create index feedback_turn on feedback(turn_id);
create index feedback_live on feedback(source, created_at) where retracted_at is null;
create table rounds (
  id integer primary key,
  status text not null check (status in ('queued', 'eliciting', 'training', 'gating',
                                         'promoted', 'rejected', 'failed', 'cancelled')),
  requested text not null,
  method text,
  why text not null default '',
  base_id integer not null references checkpoints(id),
  candidate_id integer references checkpoints(id),
  seed integer not null,
  started_by text not null,
  counts text not null default '{}',
  seconds text not null default '{}',
  metrics text not null default '{}',
  verdict text,
  error text,
  created_at text not null,
  finished_at text,
  cancel_requested_at text
);
create table round_feedback (
  round_id integer not null references rounds(id) on delete cascade,
  feedback_id text not null references feedback(id) on delete cascade,
  part text not null check (part in ('train', 'held_out')),
  primary key (round_id, feedback_id)
) without rowid;
create index round_feedback_row on round_feedback(feedback_id);
create table progress (
  id integer primary key,
  round_id integer not null references rounds(id) on delete cascade,
  at text not null,
  phase text not null,
  step integer not null,
  steps integer not null,
  loss real,
  eta_seconds real,
  note text not null default ''
);
create index progress_round on progress(round_id, id);
create table lease (
  id integer primary key check (id = 1),
  owner text not null,
  round_id integer references rounds(id),
  beat real not null
)"""

KNOWLEDGE = """
alter table rounds add column recipe text not null default '{}';
alter table completions add column restricted integer not null default 0 check (restricted in (0, 1));
create table calls (
  hash text primary key,
  teacher text not null,
  request text not null,
  text text not null,
  status text not null check (status in ('finished', 'cut')),
  logprobs text,
  prompt_tokens integer not null,
  completion_tokens integer not null,
  cost real not null,
  seconds real not null,
  created_at text not null
);
create index calls_teacher on calls(teacher);
create table calibrations (
  id integer primary key,
  judge text not null,
  report text not null,
  created_at text not null
)"""


def m001_initial(c: sqlite3.Connection) -> None:
    for statement in SCHEMA.split(";\n"):
        c.execute(statement)


def m002_raters_and_audit(c: sqlite3.Connection) -> None:
    c.execute(
        "create table raters (person text primary key, weight real not null check (weight between 0 and 1), "
        "changed_at text not null) without rowid"
    )
    c.execute(
        "create table audit (id integer primary key, at text not null, who text not null, action text not null, "
        "about text not null)"
    )


def knowledge_tables(c: sqlite3.Connection) -> None:
    """Recipes of rounds, terms of authors, calls of teachers, calibrations of judges, and the student's own say."""
    for statement in KNOWLEDGE.split(";\n"):
        c.execute(statement)
    also_allow(c, "feedback", "'preference_model'", "'student'")


def also_allow(c: sqlite3.Connection, table: str, known: str, new: str) -> None:
    """Extend a CHECK's list of values. No row changes, so the schema's text may be edited in place
    (sqlite.org/lang_altertable.html, the second procedure); dropping the table would cascade to what points at it."""
    version = c.execute("pragma schema_version").fetchone()[0]
    c.execute("pragma writable_schema = on")
    edit = "update sqlite_schema set sql = replace(sql, ?, ?) where type = 'table' and name = ?"
    c.execute(edit, [f"{known})", f"{known}, {new})", table])
    c.execute(f"pragma schema_version = {version + 1}")
    c.execute("pragma writable_schema = off")


def scale_tables(c: sqlite3.Connection) -> None:
    """Indexes for every query of the page, and counts that triggers keep, so that a million votes are never scanned."""
    for statement in SCALE.split(";;\n"):
        c.execute(statement)


def confidence_column(c: sqlite3.Connection) -> None:
    """How likely the student found its own completion: nats a token."""
    c.execute("alter table completions add column logprob real")


def written_index(c: sqlite3.Connection) -> None:
    """A person's better answers, which may lie in other conversations than theirs."""
    c.execute("create index completions_written on completions(name) where author = 'human'")


def conversation_kind(c: sqlite3.Connection) -> None:
    """A duel is a conversation that nobody may read before the vote: it would show who wrote which answer."""
    c.execute("alter table conversations add column kind text not null default 'chat' check (kind in ('chat', 'duel'))")


def disputes(c: sqlite3.Connection) -> None:
    """Which AI choices people dispute, so that the queue of the Teach tab is read in its order and never sorted."""
    for statement in DISPUTES.split(";;\n"):
        c.execute(statement)


def choices_table(c: sqlite3.Connection) -> None:
    """Settings that owners have changed on the page."""
    c.execute("create table choices (name text primary key, value text not null, at text not null, who text not null)")


def rater_counts(c: sqlite3.Connection) -> None:
    """How many votes each rater has, kept by triggers."""
    for statement in RATERS.split(";;\n"):
        c.execute(statement)


def order_without_clock(c: sqlite3.Connection) -> None:
    """Which votes a round has seen, what is newest, and whose lease lives: not by a clock, which can go back."""
    for statement in ORDER.split(";;\n"):
        c.execute(statement)
    uses = c.execute("select sql from sqlite_schema where name = 'round_uses_feedback'").fetchone()[0]
    c.execute("drop trigger round_uses_feedback")
    c.execute(uses.replace("created_at <= new.created_at", "seen_by = new.id"))


def forget_gateways(c: sqlite3.Connection) -> None:
    """Calls without a text that were booked at the most they could cost: nobody had said what they did cost, and most
    were errors of a gateway that pass. They are asked again."""
    most = "(select sum(length(m.value ->> '$.content')) from json_each(request, '$.messages') m) / 2"
    c.execute(
        "delete from calls where text = '' and completion_tokens = json_extract(request, '$.max_tokens') "
        f"and prompt_tokens = {most}"
    )


def refusals_use_nothing(c: sqlite3.Connection) -> None:
    """A round that ended without a candidate has learned nothing: the votes that it read stay new."""
    c.execute("drop trigger round_uses_feedback")
    c.execute(
        "create trigger round_uses_feedback after update of status on rounds "
        "when new.status in ('promoted', 'rejected') and new.candidate_id is not null begin "
        "update feedback set used = 1 where used = 0 and created_at <= new.created_at; end"
    )
    c.execute(
        "update feedback set used = 0 where used = 1 and created_at > "
        "(select coalesce(max(created_at), '') from rounds "
        "where status in ('promoted', 'rejected') and candidate_id is not null)"
    )


MIGRATIONS = [
    m001_initial,
    m002_raters_and_audit,
    knowledge_tables,
    scale_tables,
    confidence_column,
    written_index,
    conversation_kind,
    disputes,
    choices_table,
    rater_counts,
    refusals_use_nothing,
    split_columns,
    order_without_clock,
    forget_gateways,
]  # append only; `pragma user_version` counts those that were applied
