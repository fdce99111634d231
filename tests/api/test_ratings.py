"""Feedback by receipt: as the page's votes, once, taken back, and about one's own completions alone."""

import httpx
import pytest
from test_chat_completions import HELLO

from kdloop.feedback import examples
from storage import feedback, follow_ups, people
from storage.database import connect


@pytest.fixture
def ask(app):
    """(a completion's choices with their receipts) of a user whom no other test has."""

    def ask(user, n=1, messages=HELLO):
        body = {"messages": messages, "user": user, "n": n}
        return app.http.post("/v1/chat/completions", json=body).raise_for_status().json()["choices"]

    return ask


@pytest.fixture
def say(app):
    def say(receipt, key="", **said):
        headers = {"Idempotency-Key": key} if key else {}
        return app.http.post("/v1/feedback", json={"completion": receipt, **said}, headers=headers)

    return say


def kinds(response):
    return {row["kind"]: row for row in response.raise_for_status().json()["feedback"]}


def active(db):
    with connect(db) as c:
        return c.execute("select count(*) from feedback where retracted_at is null").fetchone()[0]


def test_all_that_can_be_said_is_said_once_and_taken_back_one_by_one_or_whole(app, ask, say):
    first, second = (choice["completion"] for choice in ask("ann", 2))
    said = {"thumb": "up", "score": 0.625, "over": second, "better": "Good morning!", "comment": "It is kind"}
    once, before = kinds(say(first, **said)), active(app.db)
    assert set(once) == {"thumb", "score", "choice", "better"} and once["choice"]["than"] == second
    assert (once["thumb"]["thumb"], once["thumb"]["comment"], once["score"]["score"]) == ("up", "It is kind", 0.625)
    assert kinds(say(first, **said)) == once and active(app.db) == before, "the same twice is one"
    assert kinds(say(first, thumb=True)) == once, "and keeps its reason"
    assert kinds(say(first, thumb="down"))["thumb"]["thumb"] == "down" and active(app.db) == before
    assert set(kinds(say(first, undo="score"))) == {"thumb", "choice", "better"}
    assert kinds(say(first, over=second, choice="tie"))["choice"]["choice"] == "tie"
    assert kinds(say(second, over=first, choice="both bad"))["choice"]["choice"] == "both bad"
    assert app.http.get(f"/v1/feedback/{first}").json()["feedback"]
    assert app.http.delete(f"/v1/feedback/{first}").raise_for_status().json()["feedback"] == []
    assert kinds(say(second, undo=True)) == {} and active(app.db) == before - 4


def test_an_idempotency_key_is_one_request_also_after_it_was_taken_back(app, ask, say):
    (choice,) = ask("ben")
    said = say(choice["completion"], "k1", thumb="up").json()
    app.http.delete(f"/v1/feedback/{choice['completion']}")
    before = active(app.db)
    assert say(choice["completion"], "k1", thumb="up").json() == said and active(app.db) == before
    other = say(choice["completion"], "k1", thumb="down")
    assert other.status_code == 409 and other.json()["error"]["param"] == "Idempotency-Key"
    assert kinds(say(choice["completion"], "k2", thumb="up"))


def test_a_comment_is_the_reason_of_a_vote_and_alone_none(app, ask, say):
    def of(receipt):
        split = examples.from_feedback(app.db)
        id = receipt.removeprefix("chatcmpl-")
        return [e for e in (*split.train, *split.held_out) if id in [k.id for k in e.completions]]

    (choice,) = ask("cleo", 1, [{"role": "user", "content": "What does cleo ask?"}])
    receipt = choice["completion"]
    assert kinds(say(receipt, comment="Hm, interesting"))["comment"]["comment"] == "Hm, interesting"
    assert of(receipt) == [], "words that are neither for nor against teach nothing"
    say(receipt, thumb="down")
    say(receipt, comment="Too vague")
    (example,) = of(receipt)
    assert example.rejected and example.critique == "Too vague" and example.weight == 1
    say(receipt, thumb="up", comment="No, it is fine")
    (example,) = of(receipt)
    assert example.chosen and example.rationale == "No, it is fine"


def test_weights_blocks_copies_and_erasure_are_those_of_the_page(app, ask, say):
    first, second = (choice["completion"] for choice in ask("dora", 2))
    assert kinds(say(first, over=second, user="dora")) and say(first, thumb="up", user="eve").status_code == 404
    with connect(app.db) as c:
        (person,) = c.execute("select rater from feedback order by rowid desc limit 1").fetchone()
    assert person != "dora" and len(person) == 24

    def voted():
        return person in [f.rater for f in feedback.live_feedback(app.db)]

    assert voted()
    people.set_weight(app.db, person, 0)
    assert not voted(), "blocked"
    for body, status in (({"hindsight": True}, 200), ({"hindsight": "yes"}, 400), ({}, 400)):
        assert app.http.post("/v1/person", params={"user": "dora"}, json=body).status_code == status
    assert follow_ups.allows(app.db, person)
    copy = app.http.get("/v1/person", params={"user": "dora"}).json()
    assert len(copy["completions"]) == 2 and copy["turns"][0]["prompt"] and len(copy["feedback"]) == 1
    say(first, "kept", comment="the walrus of dora")
    assert app.http.delete("/v1/person", params={"user": "dora"}).json() == {"deleted": True, "learned_from_it": []}
    assert not any(app.http.get("/v1/person", params={"user": "dora"}).json().values())
    assert say(first, thumb="up").status_code == 404
    with connect(app.db) as c:
        for table in ("threads", "requests"):
            assert not c.execute(f"select 1 from {table} where person = ?", [person]).fetchall(), table


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({}, "thumb"),
        ({"thumb": "sideways"}, "thumb"),
        ({"thumb": 1}, "thumb"),
        ({"thumb": ["up"]}, "thumb"),
        ({"score": 1.01}, "score"),
        ({"score": True}, "score"),
        ({"thumb": "up", "better": "AS IT IS"}, "better"),
        ({"thumb": "up", "better": " \n"}, None),
        ({"thumb": "up", "better": "x" * 8001}, "better"),
        ({"thumb": "up", "comment": "  "}, None),
        ({"thumb": "up", "comment": 5}, "comment"),
        ({"thumb": "up", "over": "chatcmpl-none"}, "over"),
        ({"thumb": "up", "over": "ITSELF"}, None),
        ({"thumb": "up", "over": "ANOTHER PROMPT"}, None),
        ({"thumb": "up", "over": "ANOTHER PERSON"}, "over"),
        ({"thumb": "up", "over": 7}, "over"),
        ({"thumb": "up", "choice": "tie"}, "choice"),
        ({"thumb": "up", "stars": 5}, "stars"),
        ({"undo": "everything"}, "undo"),
        ({"thumb": "up", "user": 5}, "user"),
    ],
    ids=str,
)
def test_what_cannot_be_taken_whole_leaves_nothing(app, ask, say, said, param):
    (choice,) = ask("fred")
    places = {
        "ITSELF": choice["completion"],
        "ANOTHER PROMPT": ask("fred", 1, [{"role": "user", "content": "Another"}])[0]["completion"],
        "ANOTHER PERSON": ask("gina")[0]["completion"],
        "AS IT IS": choice["message"]["content"],
    }
    before = active(app.db)
    refused = say(choice["completion"], **{k: places.get(str(v), v) for k, v in said.items()})
    assert refused.status_code in (400, 404) and refused.json()["error"]["param"] == param, refused.text
    assert active(app.db) == before


def test_nobody_rates_what_is_not_an_api_completion_of_theirs(app, say):
    for receipt in ("", "x", "chatcmpl-", "chatcmpl-' or 1=1 --", 5, None, ["a"]):
        refused: httpx.Response = say(receipt, thumb="up")
        assert refused.status_code in (400, 404) and refused.json()["error"]["param"] == "completion"
