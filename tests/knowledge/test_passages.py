"""Retrieval on twenty planted facts, and rows whose answers cite the passage that they are from."""

import re

import pytest
from parts import context, endpoint, teacher

from kdloop.feedback.examples import from_feedback
from kdloop.knowledge import passages
from kdloop.knowledge.rows import Refused
from storage.database import connect

FACTS = {  # what is asked, and what the passage says of it
    "Who painted the ceiling of the town hall?": "The ceiling of the town hall was painted by Ada Morello.",
    "When does the ferry to Brill leave?": "The ferry to Brill leaves at seven past nine.",
    "How deep is the quarry lake?": "The quarry lake is forty-one metres deep.",
    "What do the bees of Hollow Farm visit?": "The bees of Hollow Farm visit buckwheat above all.",
    "Which bridge was closed for repairs?": "The Lantern Bridge was closed for repairs in spring.",
    "What is served at the harbour on Fridays?": "On Fridays the harbour kitchen serves smoked eel.",
    "Who founded the choir of Saint Anne?": "The choir of Saint Anne was founded by Petra Lund.",
    "What colour are the trams of the north line?": "Trams of the north line are painted turquoise.",
    "How long is the mountain railway?": "The mountain railway is nineteen kilometres long.",
    "Which tree grows at the old mill?": "A copper beech grows at the old mill.",
    "What does the museum of clocks cost?": "The museum of clocks costs three crowns.",
    "Who won the chess tournament in the library?": "The chess tournament in the library was won by Ole Brandt.",
    "What is kept in the lighthouse?": "A collection of barometers is kept in the lighthouse.",
    "Which language is taught at the evening school?": "The evening school teaches Finnish.",
    "Where do the storks nest?": "The storks nest on the chimney of the brewery.",
    "What grows in the royal greenhouse?": "Vanilla orchids grow in the royal greenhouse.",
    "How many steps has the cathedral tower?": "The cathedral tower has two hundred and six steps.",
    "What was found under the market square?": "A Roman well was found under the market square.",
    "Who repairs violins in Mill Street?": "Violins are repaired in Mill Street by Jonas Weir.",
    "What do skaters hire at the canal?": "At the canal skaters hire wooden sledges.",
}
FILLER = " The rest of this page tells of the weather, of old fences and of the road to the next village." * 3


@pytest.fixture
def directory(tmp_path):
    for i, fact in enumerate(FACTS.values()):
        (tmp_path / f"page{i:02}.txt").write_text(fact + FILLER)
    return str(tmp_path)


def asks_and_answers(request):
    asked = request["messages"][-1]["content"]
    question, fact = next((q, f) for q, f in FACTS.items() if f in asked)
    return fact if "Answer from" in asked else question


def test_the_passage_of_a_planted_fact_is_among_the_nearest_three():
    index = passages.Index({fact: fact + FILLER for fact in FACTS.values()})
    found = sum(fact in index.nearest(question, k=3) for question, fact in FACTS.items())
    assert found >= 0.8 * len(FACTS)
    stray = passages.Index({fact: FILLER.strip() + str(i) for i, fact in enumerate(FACTS.values())})
    assert sum(fact in stray.nearest(q, k=3) for q, fact in FACTS.items()) < 0.5 * len(FACTS), "by luck alone"


def test_an_answer_cites_the_passage_that_says_it_or_that_none_does(db, directory):
    with endpoint(asks_and_answers) as (url, _):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        assert passages.grounded(m, [], directory=directory, absent=0.25) == 20
    train, absent, places = from_feedback(db, m.round.id).train, 0, set()
    assert len(train) == 20
    for e in train:
        question = e.question.splitlines()[-1]
        shown = re.findall(r"^\[\d\] (.*)$", e.question, re.MULTILINE)
        there = [i for i, passage in enumerate(shown, 1) if FACTS[question] in passage]
        assert len(shown) == 3 and len(set(shown)) == 3
        if there:
            assert e.chosen.text == f"{FACTS[question]} [{there[0]}]"
            places.add(there[0])
        else:
            assert e.chosen.text == passages.NOT_THERE and passages.NOT_THERE in e.question
            absent += 1
    assert absent == 5 and places == {1, 2, 3}, "where the passage stands says nothing"
    with connect(db) as c:
        assert (
            c.execute("select count(distinct json_extract(sampling, '$.passage')) from completions").fetchone()[0] == 20
        )


def test_one_passage_has_no_distractors(db, tmp_path):
    (tmp_path / "page.txt").write_text(next(iter(FACTS.values())))
    with endpoint(asks_and_answers) as (url, seen):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        with pytest.raises(Refused, match="two passages or more"):
            passages.grounded(m, [], directory=str(tmp_path))
        assert not seen
