"""The migration after which what a page asks stays quick at a million votes.

An index for every question that a page asks, and small tables of counts instead of scans: votes by hour and by rater,
and duels by who met whom. Triggers keep the counts, so that whatever adds, retracts or erases feedback cannot forget
them.
`used`: the row was there when a round that trained a candidate began (whether or not that round trained on it: what
it left out would else start rounds for ever); `seen_by`: the last round that began when the row was there; `chosen_by`,
`rejected_by`: the checkpoints that wrote the two completions, kept in the row because an erasure deletes the
completions first. `disputed`: how many people have chosen what an AI rater rejected; the queue of the Teach tab is read
in the order of an index on it.
"""

from sqlite_utils import Database

SCALE = """
alter table feedback add column used integer not null default 0;;
alter table feedback add column chosen_by integer;;
alter table feedback add column rejected_by integer;;
create index feedback_rater on feedback(rater);;
create index feedback_chosen on feedback(chosen_id);;
create index feedback_rejected on feedback(rejected_id);;
create index feedback_unsure on feedback(abs(coalesce(score, 1) - 0.5), id)
  where source <> 'human' and retracted_at is null;;
create index feedback_round on feedback(round_id, created_at) where round_id is not null and retracted_at is null;;
create index completions_open on completions(status) where status = 'open';;
create index rounds_status on rounds(status);;
create table vote_counts (
  hour text primary key,
  live integer not null,
  fresh integer not null
) without rowid;;
create table duel_counts (
  chosen_by integer not null,
  rejected_by integer not null,
  score real not null,
  n integer not null,
  primary key (chosen_by, rejected_by, score)
) without rowid;;
update feedback set
  chosen_by = (select checkpoint_id from completions where id = chosen_id),
  rejected_by = (select checkpoint_id from completions where id = rejected_id);;
create index feedback_fresh on feedback(created_at) where used = 0;;
update feedback set used = 1
  where created_at <= (select max(created_at) from rounds where status in ('promoted', 'rejected'));;
insert into vote_counts select substr(created_at, 1, 13), count(*), count(*) filter (where not used)
  from feedback where source = 'human' and retracted_at is null group by 1;;
insert into duel_counts select chosen_by, rejected_by, coalesce(score, 1), count(*) from feedback
  where channel = 'choice' and source = 'human' and retracted_at is null and chosen_by <> rejected_by group by 1, 2, 3;;
create trigger round_uses_feedback after update of status on rounds when new.status in ('promoted', 'rejected') begin
  update feedback set used = 1 where used = 0 and created_at <= new.created_at;
end;;
create trigger feedback_authors after insert on feedback begin
  update feedback set
    chosen_by = (select checkpoint_id from completions where id = new.chosen_id),
    rejected_by = (select checkpoint_id from completions where id = new.rejected_id)
  where id = new.id;
end;;
create trigger vote_added after insert on feedback when new.source = 'human' and new.retracted_at is null begin
  insert into vote_counts values (substr(new.created_at, 1, 13), 1, 1)
    on conflict (hour) do update set live = live + 1, fresh = fresh + 1;
end;;
create trigger vote_changed after update of used, retracted_at on feedback when new.source = 'human' begin
  update vote_counts set
    live = live + (new.retracted_at is null) - (old.retracted_at is null),
    fresh = fresh + (new.retracted_at is null and not new.used) - (old.retracted_at is null and not old.used)
  where hour = substr(new.created_at, 1, 13);
end;;
create trigger vote_erased after delete on feedback when old.source = 'human' and old.retracted_at is null begin
  update vote_counts set live = live - 1, fresh = fresh - (not old.used) where hour = substr(old.created_at, 1, 13);
end;;
create trigger duel_added after update of rejected_by on feedback
  when new.channel = 'choice' and new.source = 'human' and new.retracted_at is null and old.rejected_by is null
    and new.chosen_by <> new.rejected_by begin
  insert into duel_counts values (new.chosen_by, new.rejected_by, coalesce(new.score, 1), 1)
    on conflict (chosen_by, rejected_by, score) do update set n = n + 1;
end;;
create trigger duel_retracted after update of retracted_at on feedback
  when new.channel = 'choice' and new.source = 'human' and new.chosen_by <> new.rejected_by
    and old.retracted_at is null and new.retracted_at is not null begin
  update duel_counts set n = n - 1 where chosen_by = new.chosen_by and rejected_by = new.rejected_by
    and score = coalesce(new.score, 1);
end;;
create trigger duel_erased after delete on feedback
  when old.channel = 'choice' and old.source = 'human' and old.chosen_by <> old.rejected_by
    and old.retracted_at is null begin
  update duel_counts set n = n - 1 where chosen_by = old.chosen_by and rejected_by = old.rejected_by
    and score = coalesce(old.score, 1);
end"""

RATERS = """
create table rater_counts (
  person text primary key,
  live integer not null,
  last text not null
) without rowid;;
create index rater_counts_live on rater_counts(live);;
insert into rater_counts select rater, count(*), max(created_at) from feedback
  where source = 'human' and retracted_at is null group by rater;;
create trigger rater_voted after insert on feedback when new.source = 'human' and new.retracted_at is null begin
  insert into rater_counts values (new.rater, 1, new.created_at)
    on conflict (person) do update set live = live + 1, last = max(last, new.created_at);
end;;
create trigger rater_retracted after update of retracted_at on feedback
  when new.source = 'human' and old.retracted_at is null and new.retracted_at is not null begin
  update rater_counts set live = live - 1 where person = new.rater;
  delete from rater_counts where person = new.rater and live = 0;
end;;
create trigger rater_erased after delete on feedback when old.source = 'human' and old.retracted_at is null begin
  update rater_counts set live = live - 1 where person = old.rater;
  delete from rater_counts where person = old.rater and live = 0;
end"""

DISPUTES = """
alter table feedback add column disputed integer not null default 0;;
update feedback set disputed = (select count(*) from feedback d where d.chosen_id = feedback.rejected_id
    and d.source = 'human' and d.score is null and d.retracted_at is null)
  where source <> 'human' and rejected_id is not null;;
drop index feedback_unsure;;
create index feedback_unsure on feedback(disputed desc, abs(coalesce(score, 1) - 0.5), id)
  where source <> 'human' and retracted_at is null;;
create trigger dispute_added after insert on feedback
  when new.source = 'human' and new.score is null and new.retracted_at is null and new.chosen_id is not null begin
  update feedback set disputed = disputed + 1 where rejected_id = new.chosen_id and source <> 'human';
end;;
create trigger dispute_retracted after update of retracted_at on feedback
  when new.source = 'human' and new.score is null and old.retracted_at is null and new.retracted_at is not null begin
  update feedback set disputed = disputed - 1 where rejected_id = new.chosen_id and source <> 'human';
end;;
create trigger dispute_erased after delete on feedback
  when old.source = 'human' and old.score is null and old.retracted_at is null and old.chosen_id is not null begin
  update feedback set disputed = disputed - 1 where rejected_id = old.chosen_id and source <> 'human';
end"""

# Triggers and indexes of SCALE that went by the time of a row's writing: what came last is what has the highest rowid.
ORDER = """
alter table lease add column boot text not null default '';;
alter table lease add column tick real not null default 0;;
alter table feedback add column seen_by integer;;
drop index feedback_fresh;;
create index feedback_fresh on feedback(used) where used = 0;;
create trigger round_begins after insert on rounds begin
  update feedback set seen_by = new.id where used = 0;
end;;
drop index feedback_live;;
create index feedback_live on feedback(source) where retracted_at is null;;
drop index feedback_round;;
create index feedback_round on feedback(round_id) where round_id is not null and retracted_at is null;;
drop index conversations_person;;
create index conversations_person on conversations(person)"""

SEARCH = """
alter table conversations add column indexed integer not null default 0;;
create trigger turn_unindexed after insert on turns begin
  update conversations set indexed = 0 where id = new.conversation_id and indexed;
end;;
create trigger completion_unindexed after insert on completions begin
  update conversations set indexed = 0
    where id = (select conversation_id from turns where id = new.turn_id) and indexed;
end;;
create trigger completion_reindexed after update of text, status on completions begin
  update conversations set indexed = 0
    where id = (select conversation_id from turns where id = new.turn_id) and indexed;
end;;
create trigger completion_erased after delete on completions begin
  delete from texts where conversation_id = (select conversation_id from turns where id = old.turn_id);
  update conversations set indexed = 0
    where id = (select conversation_id from turns where id = old.turn_id) and indexed;
end"""


def run(c: Database, script: str) -> None:
    """Statements that end in ";;" (a trigger's own end in ";"). `Database.executescript` looks for their ends letter by
    letter: 30 ms per script."""
    for statement in script.split(";;\n"):
        c.execute(statement)


def refusals_use_nothing(c: Database) -> None:
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


def order_without_clock(c: Database) -> None:
    """Which votes a round has seen, what is newest, and whose lease lives: not by a clock, which can go back."""
    run(c, ORDER)
    uses = c.execute("select sql from sqlite_schema where name = 'round_uses_feedback'").fetchone()[0]
    c.execute("drop trigger round_uses_feedback")
    c.execute(uses.replace("created_at <= new.created_at", "seen_by = new.id"))
