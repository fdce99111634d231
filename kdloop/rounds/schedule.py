"""When a round starts by itself: at enough new votes, or once nobody has chatted for a while."""

import math
import time
from datetime import UTC, datetime
from itertools import takewhile

from kdloop.settings import Settings, current
from storage import feedback, rounds, trials

# After a refusal, the share of `round_votes` that has to be new before votes start a round again: a quarter may bring
# what was missing, and a refused round costs a minute or two.
RETRY_SHARE = 1 / 4
RETRY_MINUTES = 10  # after a failed or cancelled round, before one starts by itself; doubles with each in a row


class Schedule:
    """`last_turn` and `last_end` are times of the monotonic clock, of the last chat turn and the last round's end here;
    `votes_at_start` are the new votes that were there when the last round began."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.last_turn = self.last_end = time.monotonic()  # what ended before the app's start ended then
        self.votes_at_start = self.new_votes()

    def new_votes(self) -> int:
        return feedback.count_votes(self.settings.db)[1]

    def due(self) -> str | None:
        """Why a round should start now, "votes" or "idle"; None where none should. While a challenger is on trial,
        votes wait for the champion that people decide on."""
        new = self.new_votes()
        if not new or self.backing_off() or trials.running(self.settings.db):
            return None
        settings = current(self.settings)
        if settings.round_votes and new >= self.starts_at():
            return "votes"
        idle = time.monotonic() - self.last_turn
        more = new > self.votes_at_start or not self.was_refused()
        if settings.idle_minutes and idle > 60 * settings.idle_minutes and more:
            self.last_turn = time.monotonic()
            return "idle"
        return None

    def starts_at(self) -> int:
        """How many new votes start a round; 0 where votes start none.

        A round that was refused before it trained has used no vote up: they all stay new. The same votes would be
        refused again, so the next round starts by itself only once RETRY_SHARE of `round_votes` more are there (when
        nobody chats: once one more is). By hand it may start at any time.
        """
        at = current(self.settings).round_votes
        return max(at, self.votes_at_start + math.ceil(at * RETRY_SHARE)) if at and self.was_refused() else at

    def was_refused(self) -> bool:
        """Did the last round end before it trained anything?"""
        last = next(iter(rounds.list_rounds(self.settings.db, 1)), None)
        return bool(last) and last.status == "rejected" and last.candidate_id is None

    def backing_off(self) -> bool:
        """A round that failed or was cancelled leaves its votes new: without a wait they would start it again."""
        ended = [r for r in rounds.list_rounds(self.settings.db, 8) if r.finished_at]
        broken = list(takewhile(lambda r: r.status in ("failed", "cancelled"), ended))
        waited = max(time.monotonic() - self.last_end, seconds_since(broken[0].finished_at)) if broken else 0
        return bool(broken) and waited < 60 * RETRY_MINUTES * 2 ** (len(broken) - 1)


def seconds_since(at: str) -> float:
    """Since an ISO time in UTC, by the wall clock; below 0 where that has gone back."""
    return (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()
