"""Selective reflection: which of two versions the student learns, on cases worked by hand, and what is kept."""

import numpy as np
import pytest
from parts import context, endpoint, teacher

from kdloop import packs
from kdloop.feedback.examples import from_feedback
from kdloop.knowledge import reflection
from storage.database import connect

TASKS = packs.tasks("general", "train")[:5]
CASES = [  # (IFD of the original, of the rewritten one, which is picked): the higher one below 1
    (0.5, 0.6, 1), (0.6, 0.5, 0), (0.9, 0.99, 1), (0.99, 0.9, 0), (0.5, 0.5, 0),
    (0.5, 1.0, 0), (1.0, 0.5, 1), (0.5, 1.5, 0), (1.5, 0.5, 1), (0.999, 1.001, 0),
    (1.0, 1.0, None), (1.2, 1.1, None), (1.1, 1.2, None), (3.0, 1.0, None), (1.0, 0.999, 1),
    (0.1, 0.2, 1), (0.2, 0.1, 0), (0.0, 0.3, 1), (0.3, 0.0, 0), (0.7, 0.70001, 1),
]  # fmt: skip


@pytest.mark.parametrize(("original", "rewritten", "picked"), CASES)
def test_the_harder_version_that_belongs_to_its_prompt_is_picked(original, rewritten, picked):
    assert reflection.pick(original, rewritten) == picked


def test_both_versions_are_kept_and_the_students_choice_is_liked(db):
    """The rewriting is picked, except of the second; the third is unchanged, and no version of the fourth fits."""

    def writes(request):
        asked = request["messages"][-1]["content"]
        at = next(i for i, t in enumerate(TASKS) if t.prompt in asked)
        return f"original {at}" if "better answer" not in asked or at == 2 else f"rewritten {at}"

    def logprobs(prompts, said):
        """IFD e^-0.5 of originals and e^-0.2 of rewritings; e^-0.9 of the second's, e^0.1 of both of the fourth."""
        gains = {"original": -0.5, "rewritten 1": -0.9, "rewritten": -0.2}
        rows = []
        for prompt, (text, _) in zip(prompts, said, strict=True):
            gain = 0.1 if text.endswith("3") else next(g for start, g in gains.items() if text.startswith(start))
            rows.append([-(2.0 + gain if prompt[-1]["content"] else 2.0)] * 4)
        return rows

    with endpoint(writes) as (url, _):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        m.writers[0][0].logprobs = logprobs
        assert reflection.reflect(m, TASKS) == 3
    liked = {e.question: e.chosen.text for e in from_feedback(db, m.round.id).train}
    assert liked == {TASKS[0].prompt: "rewritten 0", TASKS[1].prompt: "original 1", TASKS[4].prompt: "rewritten 4"}
    with connect(db) as c:
        rows = c.execute("select text, json_extract(sampling, '$.ifd') from completions").fetchall()
    kept = dict(map(tuple, rows))
    assert len(kept) == 6 and kept["original 0"] == pytest.approx(np.exp(-0.5), abs=1e-4)
    assert kept["rewritten 1"] == pytest.approx(np.exp(-0.9), abs=1e-4)
