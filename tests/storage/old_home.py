"""Writes old_home.sql, the small home of an older kdloop that test_old_home.py opens.

It was run once, with the code of f1f7947, the last one whose migrations were counted by `pragma user_version` alone:

    git worktree add ../older f1f7947 && cd ../older && python ../kdloop/tests/storage/old_home.py old_home.sql
"""

import sqlite3
import sys
import tempfile
from itertools import count
from pathlib import Path

sys.path.insert(0, ".")
from storage import database

numbers, seconds = count(1), count(0)
database.new_id = lambda: f"{next(numbers):024x}"
database.now = lambda: "2026-11-27T{1:02}:{0[0]:02}:{0[1]:02}.000+00:00".format(divmod(next(seconds) % 3600, 60), 9)

from storage import audit, checkpoints, choices, conversations, feedback, people, rounds, teachers  # noqa: E402

VERDICT = {"passed": True, "reason": "Promoted: 9 wins", "win_rate": 0.75, "interval": [0.5, 0.9], "n": 12}


def chat(db, person, question, *texts, kind="chat"):
    """(turn, completions by the student) of a new conversation."""
    turn = conversations.add_turn(db, conversations.start_conversation(db, person, question, kind=kind),
                                  conversations.as_prompt(question))  # fmt: skip
    by = {"checkpoint_id": checkpoints.serving(db).id, "sampling": {"temperature": 0.7}, "logprob": -0.5}
    return turn, [conversations.add_completion(db, turn.id, "student", text=text, **by) for text in texts]


def a_round(db, rows, end):
    started = rounds.start_round(
        db, requested="auto", seed=None, started_by="hand", owner="me", recipe={"method": "dpo"}
    )
    rounds.use_feedback(db, started.id, rows[:-1], rows[-1:])
    rounds.advance(db, started.id, "training", method="dpo", why="pairs", counts={"pairs": 4}, seconds={"train": 1.5})
    rounds.note_progress(db, started.id, "train", 3, 8, loss=0.69, eta_seconds=2.5, note="pairs of the student")
    about = {"parent_id": started.base_id, "method": "dpo", "seed": started.seed, "metrics": {"nll": 2.25}}
    candidate = checkpoints.publish(db, started.id, lambda d: (d / "w").write_text("w"), student="tiny", **about)
    end(
        db, candidate.id, started.id, verdict=VERDICT | {"examples": [{"prompt": "Why?", "before": "", "after": "So."}]}
    )
    rounds.release_lease(db, "me")


def write(db):
    checkpoints.ensure_base(db)
    checkpoints.know_student(db, "tiny")
    votes = []
    for i in range(12):
        person = ("ann", "bob", "Zoë")[i % 3]
        turn, (left, right) = chat(db, person, f"Wie groß ist Nummer {i}?", f"Etwa {i} Meter.", f"ПРИМЕРНО {i} m")
        if i % 4 == 0:
            pair = {"chosen_id": left, "rejected_id": right}
            votes.append(feedback.add_feedback(db, turn.id, rater=person, channel="choice", **pair, score=None))
        else:
            votes.append(feedback.add_feedback(db, turn.id, rater=person, channel="thumb", chosen_id=right))
    feedback.add_feedback(db, turn.id, rater="Zoë", channel="thumb", rejected_id=right)  # instead of the one before
    stars = {"chosen_id": left, "score": 0.75, "aspect": "honesty"}
    feedback.add_feedback(db, turn.id, rater="Zoë", channel="stars", **stars)
    better = conversations.add_completion(db, turn.id, "human", text='Elf Meter,\n"ungefähr".', name="Zoë")
    feedback.add_feedback(db, turn.id, rater="Zoë", channel="edit", chosen_id=better, rejected_id=left)
    feedback.add_feedback(
        db, turn.id, rater="Zoë", channel="critique", rejected_id=right, critique="Wrong.", reason="wrong"
    )
    conversations.add_completion(db, turn.id, "student", text="", status="failed", checkpoint_id=1)
    told = {"name": "tess", "licence": "Apache-2.0", "restricted": 1}
    conversations.add_completion(db, turn.id, "teacher", text="11 m", status="cut", **told)
    chat(db, "bob", "Which is better?", "one", "two", kind="duel")
    a_round(db, votes, checkpoints.promote)
    turn, (new,) = chat(db, "bob", "How fast is light?", "300,000 km per second.")
    old = conversations.add_completion(db, turn.id, "student", text="Fast.", checkpoint_id=1)
    feedback.add_feedback(db, turn.id, rater="bob", channel="choice", chosen_id=new, rejected_id=old)
    turn, (left, right) = chat(db, "round 2", "How do tides work?", "By the Moon.", "By the wind.")
    said = {
        "channel": "ranking",
        "source": "judge",
        "chosen_id": left,
        "rejected_id": right,
        "score": 0.8,
        "round_id": 1,
    }
    feedback.add_feedback(db, turn.id, rater="tess", **said)
    feedback.add_feedback(db, turn.id, rater="bob", channel="choice", chosen_id=right, rejected_id=left)  # disputes it
    a_round(db, votes[4:], checkpoints.reject)
    failed = rounds.start_round(db, requested="kto", seed=7, started_by="votes", owner="me")
    rounds.finish_round(db, failed.id, "failed", error="out of memory")
    rounds.release_lease(db, "me")
    people.set_weight(db, "bob", 0.5)
    choices.choose(db, {"gate_prompts": "40"}, "owner")
    audit.record(db, "owner", "promote", "v1")
    asked = {"messages": conversations.as_prompt("How do tides work?"), "max_tokens": 40}
    teachers.record_call(db, teachers.Call("f00d", "tess", asked, "By the Moon.", "finished", [-0.1], 9, 4, 0.001, 0.5))
    teachers.record_calibration(db, "tess", {"agreement": 0.75, "n": 12})


with tempfile.TemporaryDirectory() as home:
    path = database.open_database(Path(home) / "kdloop.db")
    write(path)
    c = sqlite3.connect(path)
    version = c.execute("pragma user_version").fetchone()[0]
    Path(sys.argv[1]).write_text("\n".join([*c.iterdump(), f"pragma user_version = {version};", ""]))
