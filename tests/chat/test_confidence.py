"""Confidence counts only where it tells right from wrong; below the threshold a teacher answers and is learned from."""

from threading import Event

import numpy as np
import pytest
from parts import Spoken, endpoint

from kdloop.chat import confidence, delegation, turn
from kdloop.feedback.examples import from_feedback
from kdloop.settings import Settings
from kdloop.student import Sample
from storage import checkpoints, conversations, feedback
from storage.conversations import as_prompt

TEACHERS = '[[teacher]]\nname = "tess"\nmodel = "m"\nurl = "{url}"\nterms = "{terms}"\nretries = 0\nlicence = "mit"\n'


def labels(n, told, seed=0):
    """n mean log-probs, and answers that are right as often as `told` of the log-prob says."""
    draw = np.random.default_rng(seed)
    x = -draw.uniform(0.05, 3, n)
    return x, draw.random(n) < told(x)


def test_what_the_log_probability_tells_is_found_and_calibrated():
    x, right = labels(2000, lambda x: 1 / (1 + np.exp(-(-2 + 2 * confidence.transform(x)))))
    fitted = confidence.fit(x, right)
    assert fitted.proven and (fitted.intercept, fitted.slope) == pytest.approx((-2, 2), abs=0.4)
    p = np.array([fitted.probability(v) for v in x])
    for low, high in ((0, 0.3), (0.3, 0.6), (0.6, 1)):
        part = (p >= low) & (p < high)
        assert right[part].mean() == pytest.approx(p[part].mean(), abs=0.06)
    shares, errors = zip(*confidence.risk(x, right), strict=True)
    assert shares[0] == 0 and list(errors) == sorted(errors, reverse=True) and errors[0] == 1 - right.mean()


@pytest.mark.parametrize(
    ("n", "told"),
    [(49, lambda x: x > -1.5), (200, lambda x: 0.5 + 0 * x), (200, lambda x: x < -1.5), (60, lambda x: x < 0)],
)
def test_too_few_labels_or_an_empty_signal_prove_nothing(n, told):
    assert not confidence.fit(*labels(n, told)).proven


class Unsure(Spoken):
    """A student whose tokens are all as likely as its prompt's number says."""

    tokenizer = None

    def stream(self, prompt, sampling, seed, stop):
        yield Sample(self.say(prompt, seed), "finished", 5, 5, 0.0, 0.1)

    def logprobs(self, prompts, completions):
        return [[-0.1 if "easy" in p[-1]["content"] else -3.0] * 3 for p in prompts]


class Serves:
    def __init__(self, engine, checkpoint):
        self.current = lambda: (engine, checkpoint)


@pytest.fixture
def chatting(db, tmp_path, tiny_student):
    """ask(question, url, terms, below) -> the last reply."""
    from transformers import AutoTokenizer

    engine = Unsure(lambda messages, seed: "a student's word")
    engine.tokenizer = AutoTokenizer.from_pretrained(tiny_student)

    def ask(question, url="http://127.0.0.1:9", terms="allowed", below=0.5):
        (tmp_path / "teachers.toml").write_text(TEACHERS.format(url=url, terms=terms))
        settings = Settings(home=db.parent, teachers=str(tmp_path / "teachers.toml"), delegate_below=below)
        conversation = conversations.start_conversation(db, "ann", question)
        serves = Serves(engine, checkpoints.serving(db))
        *_, reply = delegation.say(settings, serves, turn.Place(conversation), "ann", question, Event())
        return reply, conversation

    return ask


def rate_sixty(db):
    """Sure answers are liked, unsure ones are not."""
    for i in range(60):
        turn = conversations.add_turn(db, conversations.start_conversation(db, "bob"), as_prompt(f"question {i}"))
        sure = {"logprob": -0.1 - i / 1000 if i % 2 else -3 + i / 1000}
        k = conversations.add_completion(db, turn.id, "student", text=f"{i}", checkpoint_id=1, **sure)
        feedback.add_feedback(db, turn.id, rater="bob", channel="thumb", **{"chosen_id" if i % 2 else "rejected_id": k})


def test_nobody_else_is_asked_before_confidence_is_proven_or_where_the_student_is_sure(db, chatting):
    with endpoint(lambda request: "a teacher's word") as (url, requests):
        assert chatting("hard?", url)[0].text == "a student's word"
        rate_sixty(db)
        assert chatting("easy?", url)[0].text == "a student's word"
        assert chatting("hard?", url, below=0)[0].text == "a student's word"
        assert chatting("hard?", url, terms="forbidden")[0].text == "a student's word"
        assert requests == []


def test_a_teachers_answer_goes_on_in_the_chat_and_is_one_lesson(db, chatting):
    rate_sixty(db)
    with endpoint(lambda request: "a teacher's word") as (url, requests):
        reply, conversation = chatting("hard?", url)
    assert reply.text == "a teacher's word" and len(requests) == 1
    ((_, shown),) = conversations.history(db, conversation, "ann")
    assert (shown.author, shown.name, shown.licence, shown.id) == ("teacher", "tess", "mit", reply.completion_id)
    rows = [f for f in feedback.live_feedback(db) if f.source == "teacher"]
    assert [(f.rater, f.chosen_id, f.rejected_id) for f in rows] == [("tess", shown.id, None)]
    split = from_feedback(db)
    lessons = [e for e in split.train if e.source == "teacher"]
    assert len(lessons) == 1 and all(e.source == "human" for e in split.held_out)
    assert len(feedback.rated_logprobs(db)[0]) == 60, "a teacher's answer is no label of the student's confidence"


def test_a_teacher_who_fails_leaves_the_students_answer(db, chatting):
    rate_sixty(db)
    with endpoint(lambda request: (500, {"error": "out of order"})) as (url, requests):
        reply, conversation = chatting("hard?", url)
    assert reply.text == "a student's word" and requests
    assert [k.author for _, k in conversations.history(db, conversation, "ann")] == ["student"]
    assert all(f.source == "human" for f in feedback.live_feedback(db))
