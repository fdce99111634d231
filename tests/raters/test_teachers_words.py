"""What sources read out of a teacher's text: requests, lists, yes or no, the answer behind a reason."""

import pytest
from parts import completion, context, endpoint, teacher

from kdloop.feedback.examples import from_feedback
from kdloop.knowledge import elicit, expansion, feedback, labeling, reflection, self_play
from kdloop.packs import Task
from kdloop.raters import judge as judging
from kdloop.raters.teacher import Answer, by_teacher
from storage.teachers import record_calibration

TALK = (
    {"role": "system", "content": "Be kind."},
    *({"role": r, "content": f"{r} said"} for r in ("user", "assistant")),
)
FOLLOW_UP = Task("And why is that so?", before=TALK)


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("Why do cats\n purr?", "Why do cats purr?"),
        ('"Why do cats purr?"', "Why do cats purr?"),
        ("“Why do cats purr?”", "Why do cats purr?"),
        ("Sure:\n```text\nWhy do cats purr?\n```", "Why do cats purr?"),
        ('"Yes" and "no"', '"Yes" and "no"'),
    ],
)
def test_a_request_is_taken_out_of_its_fence_or_quotation_marks_and_half_of_one_is_none(text, request_):
    assert labeling.request_in(Answer(None, text, "finished")) == request_
    assert labeling.request_in(Answer(None, text, "cut")) == labeling.request_in(Answer(None)) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes.", True),
        ("**No**, the second asks for more", False),
        ("\ufeffＹｅｓ", True),
        ("```\nno\n```", False),
        ("Yes and no", None),
        ("Nothing like it", None),
        ("Perhaps", None),
        ("", None),
    ],
)
def test_yes_or_no_is_read_and_never_guessed(text, said):
    assert labeling.yes_or_no(text) is said


def test_who_does_not_say_whether_a_request_gained_anything_has_not_found_it(db):
    tasks = [Task(f"What is number {i} good for?") for i in range(3)]

    def say(r):
        asked = r["messages"][-1]["content"]
        if asked.startswith("Do these two"):
            verdict = {"0": "No.", "1": "I am not sure.", "2": "Yes."}
            return verdict[asked.split("number ")[1][0]]
        if asked.startswith("Rewrite this"):
            return f'"What is number {asked.split("number ")[1][0]} good for, in a kitchen of {len(asked)}?"'
        return "An answer."

    with endpoint(say) as (url, _):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        assert expansion.evolve(m, tasks) == 1
    (row,) = from_feedback(db, m.round.id).train
    assert row.question.startswith("What is number 0 good for, in a kitchen")


def test_a_list_is_read_without_what_is_said_of_it():
    listed = "Here are eight more requests for you:\n\n9. Name a bird\n**10.** Name a\n fish\n\nLet me know!"
    assert expansion.numbered(listed) == ["Name a bird", "Name a fish"]
    assert expansion.numbered("Name a tree\n10) Name a bird") == ["Name a tree", "Name a bird"]
    assert expansion.numbered("```\n1. Name a bird\n2. Name a fish\n```")[-2:] == ["Name a bird", "Name a fish"]


@pytest.mark.parametrize("mark", ["Answer:", "**Answer:** ", "### Answer：", "*Answer*: "])
def test_the_answer_behind_a_reason_is_found_in_any_markup(mark):
    said = by_teacher(Answer(teacher("http://a"), f"Two and two.\n{mark}4", "finished"))
    assert [(p, s.text) for p, s in labeling.second_target(said)] == [("", "4"), ("[rationale] ", "Two and two.")]


def test_refusals_are_known_by_any_apostrophe():
    assert labeling.unusable("I’m sorry, I can’t do that.") and labeling.unusable("Sorry, but I can't.")
    assert not labeling.unusable("Sorry to hear that. Rest, and drink tea.")


def test_a_critique_that_is_a_refusal_leads_to_no_revision(db):
    with endpoint(lambda r: "I’m sorry, I can’t." if "Criticise" in r["messages"][-1]["content"] else "Better.") as (
        url,
        _,
    ):
        m = context(db, lambda messages, seed: "A draft.", pack="general", teachers=[teacher(url)])
        assert feedback.revise(m, [Task("Name a bird.")]) == 0


def test_points_in_a_thought_are_none():
    assert self_play.points("<think>Score: 2, or 3?</think>\nScore: 4") == 4
    assert self_play.points("<think>Score: 2") is None


def test_teachers_and_judges_are_asked_about_a_follow_up_with_all_that_it_follows(db):
    def say(r):
        asked = r["messages"][-1]["content"]
        if '"verdict"' in asked:
            side = "A" if asked.index("kind words") < asked.index("rude words") else "B"
            return f'Well: {{"rationale": "kindness", "verdict": "{side}"}}'
        return "Better words." if "better" in asked.lower() else "Words of a teacher."

    def student(messages, seed):
        assert messages[:3] == list(TALK)
        return f"{'kind' if seed % 2 else 'rude'} words"

    with endpoint(say) as (url, seen):
        m = context(db, student, pack="general", teachers=[teacher(url)])
        trusted = judging.Calibration(n=60, decided=60, right=55, flips=0, unreadable=0, longer=0.0)
        record_calibration(db, m.judge.key, trusted.as_dict())
        for source in ("labels", "reflect", "compare", "revise", "verdicts"):
            seen.clear()
            rows = elicit(m, [FOLLOW_UP], [{"source": source}])[source]
            assert (seen or source == "verdicts") and (rows or source == "reflect"), (
                source
            )  # the pair was judged before
            for request in seen:
                told = "\n".join(x["content"] for x in request["messages"])
                assert all(x["content"] in told for x in TALK) and FOLLOW_UP.prompt in told, source
        seen.clear()
        assert elicit(m, [FOLLOW_UP], [{"source": "evolve"}]) == {"evolve": 0} and not seen, "no question by itself"
    rows = from_feedback(db, m.round.id).train
    assert {e.source for e in rows} == {"teacher", "judge"}
    assert all(e.prompt == FOLLOW_UP.messages for e in rows if "verdict" not in e.question)
    verdicts = [e.chosen.text for e in rows if "verdict" in e.question]
    assert len(verdicts) == 2 and all(text.startswith('{"rationale": "kindness"') for text in verdicts)


def test_reflection_and_a_cut_question_leave_no_row_of_nothing(db):
    def cut(r):
        body = completion("Why do bees")
        body["choices"][0]["finish_reason"] = "length"
        return 200, body

    with endpoint(cut) as (url, _):
        m = context(db, lambda messages, seed: "words", pack="general", teachers=[teacher(url)])
        assert expansion.self_instruct(m, [Task(f"Name bird number {i}") for i in range(8)], n=1, calls=1) == 0
        assert reflection.reflect(m, [Task("Name a bird.")]) == 0
