"""After an erasure: the champion's line once more, without the rows that are gone.

Each of its rounds is repeated as a round of its own: the rows that it had read and that are there still, its seed and
its recipe, from the counterpart of the checkpoint that it had trained further. What it elicited it elicits anew, as the
models that had labelled it knew what is gone. The last one is gated beside the champion, by the votes of today.
"""

from dataclasses import dataclass
from pathlib import Path

from storage import ancestry, checkpoints, rounds
from storage.rounds import Round

NOT_GATED = "Not gated: a step on the way to the champion without what was erased"
AGAIN = "Round {id} again, without what was erased: {reason}"
BY_HAND = "The champion has learned from what was erased: to serve this candidate all the same, use the Models tab"
NOTHING = "There is nothing to train again: no version that the champion comes from has read anything that was erased"


@dataclass(frozen=True)
class Step:
    """A round to repeat, and the checkpoint that is trained further, by their ids."""

    replays: int
    origin_id: int


def first_step(db: Path, anyway: bool = False) -> Step | None:
    """None where the champion's line has read nothing that was erased since, or, `anyway`, where it has no rounds. It
    begins earlier where the files of the version before are deleted."""
    line, erased = ancestry.ancestors(db, checkpoints.serving(db)), checkpoints.erased(db)
    at = next((i for i, k in enumerate(line) if i and (k.id in erased or anyway)), None)
    if at is None:
        return None
    while line[at - 1].pruned_at:
        at -= 1
    return Step(line[at].round_id, line[at - 1].id)


def next_step(db: Path) -> Step | None:
    """After the newest round, where that was a step with a candidate, and not the last one."""
    newest = next(iter(rounds.list_rounds(db, 1)), None)
    if not newest or not newest.replays or not newest.candidate_id or newest.status != "rejected":
        return None
    line = [k.round_id for k in ancestry.ancestors(db, checkpoints.serving(db))]
    if newest.replays not in line[:-1]:
        return None
    return Step(line[line.index(newest.replays) + 1], newest.candidate_id)


def is_last(db: Path, round: Round) -> bool:
    return checkpoints.get_checkpoint(db, round.base_id).round_id == round.replays


def told(round: Round, reason: str, passed: bool) -> str:
    """The reason of a verdict, for people, where the round is a repetition."""
    if not round.replays:
        return reason
    again = AGAIN.format(id=round.replays, reason=reason)
    return again if passed else f"{again}. {BY_HAND}"
