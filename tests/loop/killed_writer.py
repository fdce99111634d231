"""Votes, publishes, promotes and ends trials without a pause, and prints what is acknowledged: to be killed amid it.

python tests/loop/killed_writer.py DATABASE
"""

import sys
from pathlib import Path

from kdloop.feedback import collect
from kdloop.gate import trial
from storage import checkpoints, conversations, leftovers, rounds, trials
from storage.conversations import as_prompt
from storage.database import open_database
from storage.lease import new_owner


def asked(db, texts, by):
    turn = conversations.add_turn(db, conversations.start_conversation(db, "ann"), as_prompt("Why?"))
    return [
        conversations.add_completion(db, turn.id, "student", text=x, checkpoint_id=k)
        for x, k in zip(texts, by, strict=True)
    ]


def vote(db):
    (completion,) = asked(db, ["So."], [checkpoints.serving(db).id])
    print("vote", collect.thumb(db, "ann", completion, True), flush=True)


def trained(db, owner):
    """A candidate, on trial from the same moment on that it serves."""
    base = checkpoints.serving(db).id
    started = rounds.start_round(db, requested="auto", seed=None, started_by="test", owner=owner)

    def save(directory):
        for part in range(3):
            (directory / f"part{part}").write_bytes(started.id.to_bytes(4, "big") * 20_000)

    about = {"parent_id": base, "method": "dpo", "seed": started.seed, "metrics": {}}
    candidate = checkpoints.publish(db, started.id, save, **about)
    checkpoints.promote(db, candidate.id, started.id, "trial", verdict={"reason": "Promoted"})
    rounds.release_lease(db, owner)


def compare(db, running):
    """Odd trials are voted up, even ones down."""
    up, both = running.id % 2, (running.challenger, running.champion)
    challenger, champion = asked(db, ["So.", "Thus."], both)
    trials.offer(db, running.id, challenger, champion)
    for row in collect.choose(db, "ann", challenger, champion, "left" if up else "right"):
        print("vote", row, flush=True)
    if ended := trial.settle(db, shared=False):
        print("trial", ended.id, ended.outcome.replace(" ", "-"), flush=True)


def main(db):
    checkpoints.ensure_base(open_database(db))
    leftovers.clear(db)
    owner = new_owner()
    while True:
        vote(db)
        running = trials.running(db)
        compare(db, running) if running else trained(db, owner)
        checkpoints.prune(db)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
