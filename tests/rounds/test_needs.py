"""What a recipe is said to need is what its sources refuse to do without."""

import pytest
from parts import context

from kdloop import packs, recipes
from kdloop.knowledge import JUDGED_SOURCES, KNOWLEDGE, TAUGHT_SOURCES
from kdloop.knowledge.rows import Refused

CHECKED = ("preferred", "refine")  # look for checks before they look for a teacher


@pytest.mark.parametrize("name", sorted(KNOWLEDGE))
def test_a_source_that_asks_a_teacher_is_named_as_one(db, name, tmp_path):
    for part in "ab":
        (tmp_path / f"{part}.txt").write_text("The harbour has two gates. " * 40)
    options = {"directory": str(tmp_path)} if name in ("documents", "grounded") else {}
    pack = "sums" if name in CHECKED else "general"
    given, tasks = context(db, lambda messages, seed: f"{seed} is it.", pack=pack), packs.tasks(pack, "train")[:2]
    refused = ""
    try:
        KNOWLEDGE[name](given, tasks, **options)
    except Refused as error:
        refused = str(error)
    assert ("needs a teacher" in refused) == (name in TAUGHT_SOURCES), refused


def test_every_judged_source_has_a_teacher_and_every_recipe_has_known_sources():
    assert JUDGED_SOURCES <= TAUGHT_SOURCES
    sources = {step["source"] for name in recipes.names() for step in recipes.load(name).knowledge}
    assert sources <= set(KNOWLEDGE) and sources & TAUGHT_SOURCES and sources - TAUGHT_SOURCES
