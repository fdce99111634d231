"""How long a round's process has run, and for how long it was paused for people's chats. All times are in seconds."""

import time

MAX_PAUSED_SHARE = 0.75  # of a round's time: however much people chat, a quarter of it is the round's
FREE_PAUSE_SECONDS = 60  # that a round may be paused before this share counts: some replies in a row


class Stopwatch:
    def __init__(self):
        self.began, self.paused_before, self.paused_at = time.monotonic(), 0.0, None

    @property
    def paused(self) -> float:
        return self.paused_before + (time.monotonic() - self.paused_at if self.paused_at else 0)

    @property
    def ran(self) -> float:
        return time.monotonic() - self.began - self.paused

    @property
    def may_pause(self) -> bool:
        return self.paused < FREE_PAUSE_SECONDS + MAX_PAUSED_SHARE * (time.monotonic() - self.began)

    def set_paused(self, paused: bool) -> None:
        self.paused_before, self.paused_at = self.paused, time.monotonic() if paused else None
