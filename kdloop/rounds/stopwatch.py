"""How long a round's process has run, and how long it stood still for people's chats."""

import time

STILL_SHARE = 0.75  # of a round's time, at most: however much people chat, a quarter of it is the round's
STILL_SECONDS = 60  # that it may stand still before this share counts


class Stopwatch:
    def __init__(self):
        self.begun, self.stood, self.since = time.monotonic(), 0.0, None

    @property
    def still(self) -> float:
        return self.stood + (time.monotonic() - self.since if self.since else 0)

    @property
    def ran(self) -> float:
        return time.monotonic() - self.begun - self.still

    @property
    def may_stand(self) -> bool:
        return self.still < STILL_SECONDS + STILL_SHARE * (time.monotonic() - self.begun)

    def turn(self, still: bool) -> None:
        self.stood, self.since = self.still, time.monotonic() if still else None
