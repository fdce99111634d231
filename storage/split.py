"""Which conversations are held out: votes there measure a candidate, and are never trained on.

Of the first conversations that get feedback every second one is, later every fifth, counted by their first feedback:
the gate's judge is fitted on held-out votes alone, and of few votes it needs half (docs/trust.md). What was decided
stays: a trigger writes it once. An id that its maker has chosen decides by its hash instead, at once: rounds write into
the training part alone. So do the conversations of older databases.
"""

import hashlib

from sqlite_utils import Database

from storage.scale import run

EVERY = 5
EARLY, EARLY_EVERY = 96, 2  # 48 held-out votes of one vote each: what a judge gains by more is little
SHARE = 0.2  # of the hash

SPLIT = f"""
alter table conversations add column held_out integer check (held_out in (0, 1));;
alter table conversations add column place integer;;
create unique index conversations_place on conversations(place) where place is not null;;
update conversations set held_out = is_held_out(id);;
create trigger conversation_placed after insert on feedback
  when exists (select 1 from turns t join conversations v on v.id = t.conversation_id
    where t.id = new.turn_id and v.held_out is null)
begin
  update conversations set place = 1 + coalesce((select max(place) from conversations where place is not null), 0)
    where id = (select conversation_id from turns where id = new.turn_id);
  update conversations set held_out = place % {EVERY} = 0
    where id = (select conversation_id from turns where id = new.turn_id);
end"""


def is_held_out(conversation: str) -> bool:
    """Of an id that its maker has chosen, and of a database's that knew no other rule."""
    digest = hashlib.sha256(f"kdloop held-out {conversation}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < SHARE


def split_columns(c: Database) -> None:
    """What an older database held out, by the hash alone, it goes on to hold out."""
    c.register_function(is_held_out, deterministic=True)
    run(c, SPLIT)


HALF_AT_FIRST = f"""
drop trigger conversation_placed;;
create trigger conversation_placed after insert on feedback
  when exists (select 1 from turns t join conversations v on v.id = t.conversation_id
    where t.id = new.turn_id and v.held_out is null)
begin
  update conversations set place = 1 + coalesce((select max(place) from conversations where place is not null), 0)
    where id = (select conversation_id from turns where id = new.turn_id);
  update conversations set held_out = place % (case when place <= {EARLY} then {EARLY_EVERY} else {EVERY} end) = 0
    where id = (select conversation_id from turns where id = new.turn_id);
end"""


def half_at_first(c: Database) -> None:
    """Conversations from now on; what was decided stays."""
    run(c, HALF_AT_FIRST)
