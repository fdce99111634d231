"""Who is answered now, and who waits: one queue for the page and the API, so that neither overtakes the other."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Lock


class Places:
    """As many replies at a time as the engine decodes together (Engine.at_once); the others in the order of their
    coming. A place is a Future that is done once its holder may begin, and cancelled where the app ends before."""

    def __init__(self, free: int):
        self.free, self.taken, self.waiting, self.guard = free, 0, deque(), Lock()
        self.closed = False

    def ask(self) -> Future:
        place: Future = Future()
        with self.guard:
            self.waiting.append(place)
            self.hand_out()
            if self.closed and not place.done():
                self.turn_away()
        return place

    def leave(self, place: Future) -> None:
        """Whether it had begun or still waited. The caller calls it once."""
        with self.guard:
            if place in self.waiting:
                self.waiting.remove(place)
            elif not place.cancelled():
                self.free, self.taken = self.free + 1, self.taken - 1
            self.hand_out()

    def close(self) -> None:
        """The app ends: whoever waits is turned away, as no process ends while a thread of it waits."""
        with self.guard:
            self.closed = True
            self.turn_away()

    def turn_away(self) -> None:
        while self.waiting:
            self.waiting.popleft().cancel()

    def hand_out(self) -> None:
        while self.free > 0 and self.waiting:
            self.free, self.taken = self.free - 1, self.taken + 1
            self.waiting.popleft().set_result(None)

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """For a thread: within the block it has a place."""
        place = self.ask()
        try:
            place.result()
            yield
        finally:
            self.leave(place)
