"""A round that ends anywhere and goes on elsewhere: nothing is lost, doubled, or decided otherwise."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from parts import vote
from test_selection import taught

from kdloop import recipes
from kdloop.feedback import collect
from kdloop.methods.lora import trainable_student
from kdloop.rounds.run import run
from kdloop.settings import Settings
from kdloop.student.journal import ROWS, Journal, OutOfTime
from storage import checkpoints, conversations, rounds
from storage.conversations import as_prompt


class Cut(Journal):
    "Its time is up at the `looks`-th look at the clock"

    def __init__(self, folder, looks):
        super().__init__(folder)
        self.looks = looks

    @property
    def is_over(self):
        self.looks -= 1
        return self.looks < 0


@pytest.fixture(scope="module")
def voted(byte_student, tmp_path_factory):
    """A home with a champion and fifty choices; a round of it elicits, trains, settles and is judged."""
    from storage.database import open_database

    db = open_database(tmp_path_factory.mktemp("voted") / "kdloop.db")
    checkpoints.ensure_base(db)
    adapted = trainable_student(byte_student, None, torch.float32, seed=1)
    sums = [f"What is {i} and {i} together?" for i in range(8)]
    taught(db, recipes.load("rejection").as_dict(), sums, save=adapted.save_pretrained)
    vote(db, 50)
    return db.parent


def ended(home, student, journals, meanwhile=lambda db: None):
    """(the round's row, its adapter, how many parts) with a journal for each part in turn."""
    settings = Settings(home=home, student=student, round_max_tokens=8, gate_prompts=8)
    recipe = replace(recipes.VOTES, prompts=2, passes=24).as_dict()
    started = rounds.start_round(settings.db, requested="auto", seed=1, started_by="test", owner="me", recipe=recipe)
    parts = 0
    for journal in journals:
        parts += 1
        try:
            run(settings, rounds.get_round(settings.db, started.id), journal)
            break
        except OutOfTime:
            meanwhile(settings.db)
    row = rounds.get_round(settings.db, started.id)
    candidate = checkpoints.get_checkpoint(settings.db, row.candidate_id)
    weights = (checkpoints.adapter_dir(settings.db, candidate) / "adapter_model.safetensors").read_bytes()
    return row, weights, parts


def copied(home, to):
    shutil.copytree(home, to)
    return to


def test_parts_of_a_round_give_the_candidate_and_the_verdict_of_one_in_a_go(fp32, voted, byte_student, tmp_path):
    """In one go means without a journal: nothing of a round depends on whether it keeps one."""
    whole, weights, _ = ended(copied(voted, tmp_path / "whole"), byte_student, [None])

    def more_votes(db):
        liked = conversations.add_turn(db, conversations.start_conversation(db, "bob"), as_prompt("Is it late?"))
        collect.thumb(
            db, "bob", conversations.add_completion(db, liked.id, "student", text="No", checkpoint_id=1), True
        )

    cuts = (Cut(tmp_path / "parts", looks) for looks in iter(lambda: 8, None))
    parted, in_parts, parts = ended(copied(voted, tmp_path / "home"), byte_student, cuts, more_votes)
    assert parts > 5 and whole.status in ("promoted", "on trial", "rejected") and parted.status == whole.status
    assert in_parts == weights, "two thirds of a training, and a third, are a training"
    timing = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss")
    told = [{k: v for k, v in r.metrics.items() if k not in timing} for r in (whole, parted)]
    assert [told[0].pop("fingerprint")] == [told[1].pop("fingerprint")]
    assert {k: v for k, v in told[0].items() if v != told[1].get(k)} == {}
    assert parted.verdict == whole.verdict and parted.counts == whole.counts
    assert set(parted.seconds) == {"elicit", "train", "gate"}
    assert len(checkpoints.lineage(tmp_path / "home" / "kdloop.db")) == 3
    written = [feedback_of(tmp_path / name / "kdloop.db", whole.id) for name in ("whole", "home")]
    assert written[0] == written[1] > 0, "what a part wrote before its end is not there twice"


def feedback_of(db, round_id):
    from storage.database import connect

    with connect(db) as c:
        return c.execute("select count(*) from feedback where round_id = ?", [round_id]).fetchone()[0]


def test_a_journal_outlives_a_kill_within_a_line(tmp_path):
    journal = Journal(tmp_path)
    assert journal.recall(["a", "b"], lambda rows: [[i, 0.1] for i in rows], 1) == [[0, 0.1], [1, 0.1]]
    with (tmp_path / ROWS).open("ab") as file:
        file.write(json.dumps(["c", "ä"], ensure_ascii=False).encode()[:8])
    again = Journal(tmp_path)
    assert again.recall(["b", "c"], lambda rows: [["c", i] for i in rows], 9) == [[1, 0.1], ["c", 1]]
    assert Journal(tmp_path).computed == {"a": [0, 0.1], "b": [1, 0.1], "c": ["c", 1]}


def test_time_that_is_up_computes_nothing_more_and_forgets_nothing(tmp_path):
    over = Journal(tmp_path, seconds=-1)
    with pytest.raises(OutOfTime):
        over.once("x", lambda: pytest.fail("its time is up"))
    Journal(tmp_path).once("x", lambda: {"a": torch.ones(2)})
    assert over.once("x", lambda: None)["a"].tolist() == [1, 1]
    going = Journal(tmp_path)
    computed = []

    def compute(rows):
        computed.extend(rows)
        going.end_soon()
        return [math.pi for _ in rows]

    with pytest.raises(OutOfTime):
        going.recall(["a", "b", "c"], compute, 2)
    assert computed == [0, 1] and Journal(tmp_path).computed == {"a": math.pi, "b": math.pi}
