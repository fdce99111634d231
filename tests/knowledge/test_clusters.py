"""Clusters on two subjects, and a teacher who can name one of them."""

import json

import numpy as np
from parts import context, endpoint, teacher

from kdloop import packs
from kdloop.feedback.examples import from_feedback
from kdloop.knowledge import clusters
from kdloop.raters.features import embed
from storage.database import connect

BREAD = (
    "How do I bake bread?",
    "How long should bread dough rest?",
    "Which flour is best for bread?",
    "Why is my bread so dry?",
)
STARS = (
    "How far away is the nearest star?",
    "Why do planets orbit the sun?",
    "What is a galaxy made of?",
    "How does a telescope show distant stars?",
)


def test_alike_prompts_are_one_cluster_those_nearest_to_its_center_first():
    points = np.array([[0.0, 0], [9, 9], [2, 0], [1.1, 0], [9, 8], [9, 9.1]])
    assert sorted(clusters.k_means(points, 2, seed=1)) == [[1, 5, 4], [3, 2, 0]]
    assert sorted(map(len, clusters.k_means(points, 9, seed=1))) == [1] * 6
    mixed = [prompt for pair in zip(BREAD, STARS, strict=True) for prompt in pair]
    assert sorted(map(sorted, clusters.k_means(embed(mixed), 2, seed=1))) == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_a_prompt_is_answered_by_the_name_of_its_cluster_and_learned_without_it(db):
    def says(request):
        asked = request["messages"][-1]["content"]
        if "What kind of requests" in asked:
            return "Baking bread" if "bread" in asked else "I'm sorry, I cannot say."
        assert "(A request of this kind: Baking bread." in asked
        return "With patience."

    with endpoint(says) as (url, seen):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        tasks = [packs.Task(q) for q in (*STARS, *BREAD)]
        assert clusters.clustered(m, tasks, clusters=2) == len(BREAD) == len(seen) - 2
    train = from_feedback(db, m.round.id).train
    assert {e.question: e.chosen.text for e in train} == dict.fromkeys(BREAD, "With patience.")
    with connect(db) as c:
        notes = [json.loads(r[0]) for r in c.execute("select sampling from completions")]
    assert {(note["template"], note["cluster"]) for note in notes} == {("clustered", "Baking bread")}
