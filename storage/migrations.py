"""The schema, as a list of small named migrations, which `sqlite_utils.Migrations` applies and records.

What the database can enforce, it does: authors and sources by CHECK, one serving checkpoint by a unique partial index,
one round by a lease row. That is why tables are written in SQL: `Table.create` knows no CHECK, no partial index and no
trigger.
"""

from sqlite_utils import Database
from sqlite_utils.db import ForeignKey

from storage.scale import DISPUTES, RATERS, SCALE, SEARCH, order_without_clock, refusals_use_nothing, run
from storage.split import half_at_first, split_columns

SCHEMA = """
create table conversations (
  id text primary key,
  person text not null,
  title text not null default '',
  created_at text not null
);;
create index conversations_person on conversations(person, created_at);;
create table turns (
  id text primary key,
  conversation_id text not null references conversations(id) on delete cascade,
  position integer not null,
  prompt text not null check (json_array_length(prompt) > 0),
  created_at text not null,
  unique (conversation_id, position)
);;
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
);;
create unique index one_serving on checkpoints(status) where status = 'serving';;
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
);;
create index completions_turn on completions(turn_id, created_at);;
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
);;
create index feedback_turn on feedback(turn_id);;
create index feedback_live on feedback(source, created_at) where retracted_at is null;;
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
);;
create table round_feedback (
  round_id integer not null references rounds(id) on delete cascade,
  feedback_id text not null references feedback(id) on delete cascade,
  part text not null check (part in ('train', 'held_out')),
  primary key (round_id, feedback_id)
) without rowid;;
create index round_feedback_row on round_feedback(feedback_id);;
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
);;
create index progress_round on progress(round_id, id);;
create table lease (
  id integer primary key check (id = 1),
  owner text not null,
  round_id integer references rounds(id),
  beat real not null
)"""

KNOWLEDGE = """
alter table rounds add column recipe text not null default '{}';;
alter table completions add column restricted integer not null default 0 check (restricted in (0, 1));;
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
);;
create index calls_teacher on calls(teacher);;
create table calibrations (
  id integer primary key,
  judge text not null,
  report text not null,
  created_at text not null
)"""


def m001_initial(c: Database) -> None:
    run(c, SCHEMA)


def m002_raters_and_audit(c: Database) -> None:
    c.execute(
        "create table raters (person text primary key, weight real not null check (weight between 0 and 1), "
        "changed_at text not null) without rowid"
    )
    c.execute(
        "create table audit (id integer primary key, at text not null, who text not null, action text not null, "
        "about text not null)"
    )


def knowledge_tables(c: Database) -> None:
    """Recipes of rounds, terms of authors, calls of teachers, calibrations of judges, and the student's own say."""
    run(c, KNOWLEDGE)
    also_allow(c, "feedback", "'preference_model'", "'student'")


def also_allow(c: Database, table: str, known: str, new: str) -> None:
    """Extend a CHECK's list of values. No row changes, so the schema's text may be edited in place
    (sqlite.org/lang_altertable.html, the second procedure); dropping the table would cascade to what points at it."""
    version = c.execute("pragma schema_version").fetchone()[0]
    c.execute("pragma writable_schema = on")
    edit = "update sqlite_schema set sql = replace(sql, ?, ?) where type = 'table' and name = ?"
    c.execute(edit, [f"{known})", f"{known}, {new})", table])
    c.execute(f"pragma schema_version = {version + 1}")
    c.execute("pragma writable_schema = off")


def scale_tables(c: Database) -> None:
    """Indexes for every query of the page, and counts that triggers keep, so that a million votes are never scanned."""
    run(c, SCALE)


def confidence_column(c: Database) -> None:
    """The mean log-probability that the student gave its own completion, in nats per token."""
    c.execute("alter table completions add column logprob real")


def written_index(c: Database) -> None:
    """A person's better answers, which may lie in other conversations than theirs."""
    c.execute("create index completions_written on completions(name) where author = 'human'")


def conversation_kind(c: Database) -> None:
    """A duel is a conversation that nobody may read before the vote: it would show who wrote which answer."""
    c.execute("alter table conversations add column kind text not null default 'chat' check (kind in ('chat', 'duel'))")


def disputes(c: Database) -> None:
    """Which AI choices people dispute, so that the queue of the Teach tab is read in its order and never sorted."""
    run(c, DISPUTES)


def choices_table(c: Database) -> None:
    """Settings that owners have changed on the page."""
    c.execute("create table choices (name text primary key, value text not null, at text not null, who text not null)")


def rater_counts(c: Database) -> None:
    """How many votes each rater has, kept by triggers."""
    run(c, RATERS)


def forget_gateways(c: Database) -> None:
    """Calls without a text that were booked at the most they could cost: nobody had said what they did cost, and most
    were errors of a gateway that pass. They are asked again."""
    most = "(select sum(length(m.value ->> '$.content')) from json_each(request, '$.messages') m) / 2"
    c.execute(
        "delete from calls where text = '' and completion_tokens = json_extract(request, '$.max_tokens') "
        f"and prompt_tokens = {most}"
    )


def search_index(c: Database) -> None:
    """The texts that the sidebar searches (search.py), and which conversations have changed since they were indexed."""
    c["texts"].create(
        {"id": int, "conversation_id": str, "folded": str},
        pk="id",
        not_null=["conversation_id", "folded"],
        foreign_keys=[ForeignKey("texts", "conversation_id", "conversations", "id", on_delete="CASCADE")],
    )
    c["texts"].create_index(["conversation_id"], unique=True)
    c["texts"].enable_fts(["folded"], tokenize="trigram case_sensitive 1", create_triggers=True)
    run(c, SEARCH)


def thought_column(c: Database) -> None:
    """The student's own thought before a completion: shown folded, trained as its template has it, never judged."""
    c.execute("alter table completions add column thought text not null default ''")


TRIALS = """
create table trials (
  id integer primary key,
  round_id integer not null references rounds(id),
  challenger integer not null references checkpoints(id),
  champion integer not null references checkpoints(id),
  mode text not null check (mode in ('trial', 'confirm')),
  started text not null,
  ended text,
  outcome text not null default 'running' check (outcome in ('running', 'confirmed', 'rolled back', 'ended by owner')),
  evidence text not null default '{}',
  check (challenger <> champion)
);;
create unique index one_trial on trials(outcome) where outcome = 'running';;
create table trial_pairs (
  trial_id integer not null references trials(id) on delete cascade,
  challenger_id text not null references completions(id) on delete cascade,
  champion_id text not null references completions(id) on delete cascade,
  unique (challenger_id, champion_id)
);;
create index trial_pairs_trial on trial_pairs(trial_id);;
create index trial_pairs_champion on trial_pairs(champion_id);;
create index feedback_liked on feedback(chosen_by) where channel = 'thumb' and retracted_at is null;;
create index feedback_disliked on feedback(rejected_by) where channel = 'thumb' and retracted_at is null"""


def trials(c: Database) -> None:
    """Challengers that people compare with the champion (trials.py); a round whose candidate is one is on trial."""
    run(c, TRIALS)
    also_allow(c, "rounds", "'cancelled'", "'on trial'")
    uses = c.execute("select sql from sqlite_schema where name = 'round_uses_feedback'").fetchone()[0]
    c.execute("drop trigger round_uses_feedback")
    c.execute(uses.replace("('promoted', 'rejected')", "('promoted', 'rejected', 'on trial')"))


REPLAYS = """
alter table rounds add column replays integer references rounds(id);;
alter table rounds add column origin_id integer references checkpoints(id);;
create table erasures (
  checkpoint_id integer primary key references checkpoints(id),
  at text not null
)"""


def replays(c: Database) -> None:
    """Rounds that repeat another one without what was erased since, from the checkpoint `origin_id` on; which rows a
    round has read, beside those that it trained on; and which checkpoints come of rows that are gone. What repeats old
    votes uses up no new ones."""
    run(c, REPLAYS)
    also_allow(c, "round_feedback", "'held_out'", "'read'")
    uses = c.execute("select sql from sqlite_schema where name = 'round_uses_feedback'").fetchone()[0]
    c.execute("drop trigger round_uses_feedback")
    c.execute(uses.replace("new.candidate_id is not null", "new.candidate_id is not null and new.replays is null"))


API = """
create table keys (
  id integer primary key,
  name text not null,
  hash text not null unique,
  a_minute integer not null check (a_minute > 0),
  owner integer not null default 0 check (owner in (0, 1)),
  created_at text not null,
  used_at text,
  revoked_at text
);;
create unique index keys_name on keys(name) where revoked_at is null;;
alter table conversations add column origin text not null default 'page';;
create table threads (
  person text not null,
  digest text not null,
  turn_id text not null references turns(id) on delete cascade,
  primary key (person, digest, turn_id)
) without rowid;;
create index threads_turn on threads(turn_id);;
create table requests (
  person text not null,
  key text not null,
  digest text not null,
  reply text not null,
  at text not null,
  primary key (person, key)
) without rowid;;
create index requests_at on requests(at)"""


def api_tables(c: Database) -> None:
    """Where a conversation came from, keys of the API, and what its clients hold of their conversations."""
    run(c, API)


IMPORTS = """
create table imports (
  id integer primary key,
  file text not null,
  sha256 text not null,
  format text not null,
  rater text not null default '',
  licence text not null default '',
  restricted integer not null default 0 check (restricted in (0, 1)),
  train integer not null check (train in (0, 1)),
  who text not null,
  rows integer not null default 0,
  pid integer,
  created_at text not null,
  finished_at text
);;
alter table conversations add column import_id integer references imports(id);;
create index conversations_import on conversations(import_id, id) where import_id is not null;;
drop index feedback_unsure;;
create index feedback_unsure on feedback(disputed desc, abs(coalesce(score, 1) - 0.5), id)
  where source <> 'human' and source <> 'import' and retracted_at is null"""


def imported(c: Database) -> None:
    """Ratings that were made elsewhere (imports.py)."""
    run(c, IMPORTS)
    also_allow(c, "feedback", "'student'", "'import'")


BRANCHES = """
alter table turns add column parent_id text;;
alter table turns add column opened integer not null default 0;;
update turns set opened = position, parent_id = (select p.id from turns p
  where p.conversation_id = turns.conversation_id and p.position = turns.position - 1)"""


def branches(c: Database) -> None:
    """Which turn a turn follows, and in which order a conversation's turns were last opened (branches.py)."""
    run(c, BRANCHES)


MEASUREMENTS = """
create table measurements (
  pack text not null,
  checkpoint_id integer not null references checkpoints(id),
  student text not null,
  digest text not null,
  n integer not null check (n > 0),
  solved integer not null check (solved between 0 and n),
  measured_at text not null,
  primary key (pack, checkpoint_id)
)"""


def measured(c: Database) -> None:
    """What versions have got right of packs (measurements.py)."""
    run(c, MEASUREMENTS)


def follow_up_consent(c: Database) -> None:
    """Who allows that rounds learn from what they write next (follow_ups.py)."""
    c.execute("create table follow_ups (person text primary key, at text not null) without rowid")


OFFERS = """
create table offers (
  checkpoint_id integer primary key references checkpoints(id),
  name text not null unique,
  at text not null
);;
create table chosen_offers (
  person text primary key,
  checkpoint_id integer not null references checkpoints(id),
  at text not null
) without rowid"""


def offers(c: Database) -> None:
    """Versions that people may choose, and who has chosen which (offers.py)."""
    run(c, OFFERS)


def set_aside(c: Database) -> None:
    """What somebody weighed before an owner chose another camp than theirs (people.py)."""
    c.execute("alter table raters add column former real check (former between 0 and 1)")


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
    search_index,
    thought_column,
    trials,
    half_at_first,
    replays,
    api_tables,
    imported,
    branches,
    measured,
    follow_up_consent,
    offers,
    set_aside,
]  # append only: by their names, a database knows which ones it has had (database.migrate)
