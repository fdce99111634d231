"""Who answers a person that has chosen one of the versions which the owner offers (storage/offers.py)."""

from kdloop.student import Engine
from kdloop.student.serving import UNFIT, Serving
from storage import checkpoints, offers
from storage.checkpoints import Checkpoint


class Chosen:
    """As `Serving` to who asks for the next reply. What serves answers where the version cannot be loaded."""

    def __init__(self, serving: Serving, version: Checkpoint):
        self.serving, self.version = serving, version

    def current(self) -> tuple[Engine, Checkpoint]:
        try:
            return self.serving.beside(self.version) if self.version.path else self.serving.load(self.version)
        except UNFIT:
            return self.serving.current()

    def beside(self, checkpoint: Checkpoint) -> tuple[Engine, Checkpoint]:
        return self.serving.beside(checkpoint)


def by(serving: Serving, person: str) -> Serving | Chosen:
    """What serves, or what the person has chosen in its place. Of a trial they are shown no pair (contest.py)."""
    version = offers.chosen(serving.db, person)
    return Chosen(serving, version) if version and version.id != checkpoints.serving(serving.db).id else serving
