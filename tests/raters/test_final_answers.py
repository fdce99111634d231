"""What a completion settles on: right ways to say it pass, near misses and the cheapest tricks do not."""

import pytest

from kdloop.packs import Task
from kdloop.raters import verifiers
from kdloop.raters.constraints import CONSTRAINTS
from kdloop.raters.final_answers import FINAL_ANSWERS

NUMBER = {"check": "final_number", "tolerance": 0.01}
EXACTLY = {"check": "final_number"}
LETTER = {"check": "choice", "options": ["red", "dark red", "blue", "a dog"]}
LABEL = {"check": "label", "options": ["positive", "negative", "not positive"]}
CITES = {"check": "cites", "passages": [2, 4]}
SAYS = [  # check, answer, completions that pass, completions that fail
    (
        NUMBER,
        "6.022e23",
        ["6.02e23", "about 6.0 × 10^23 per mole.", "6.022 x 10**23", "In all it is 602,200,000,000,000,000,000,000."],
        ["6.02", "0", "6.02e22", "6.02e23 or 7e23", "e23", "6.022e-23", "6.022 × 10^-23", "6.02e23, 6.03e23"],
    ),
    (NUMBER, "0.001", ["0.001 m", "It is 1e-3.", "1/1000 = 0.001"], ["0", "0.002", "1"]),
    (NUMBER, "-40", ["-40", "−40 degrees", "It is -40.2."], ["40", "- 4", "-40 or -41"]),
    (
        EXACTLY,
        "15",
        ["15", "12 + 3 = 15.", "15. (Because 12 + 3 = 15.)", "**15**", "$15.00", "15 cm3", "First 12.\nThen 15."],
        ["115", "-15", "15 or 16", "between 14 and 15", "13, 14, 15", "15.5", "1 5", "fifteen", "15th", "x15"],
    ),
    (EXACTLY, "5", ["5", "So the answer is 5."], ["-5", "1,005", "5,000", "0.5", "5 of 6"]),
    (
        LETTER,
        "B",
        ["B", "(B)", "b", "B.", "**B**", "A is wrong, so the answer is (B).", "B) dark red", "dark red", "Option B"],
        [
            "A",
            "A, B, C, D",
            "A\nB\nC\nD",
            "A) red\nB) dark red\nC) blue\nD) a dog",
            "The answer is B or C.",
            "The answer is A. The answer is B.",
            "B) blue",
            "red, dark red, blue",
            "Both",
            "the answer is a dog",
        ],
    ),
    (LETTER, "A", ["The answer is A", "A) red", "red"], ["The answer is A or B", "A red thing is a dog", "dark red"]),
    (
        LABEL,
        "positive",
        ["positive", "Positive.", "The label is **positive**"],
        ["negative", "positive, negative", "not positive", "positive or negative?", "positively"],
    ),
    (CITES, "", ["so [2] and [4]", "[4, 2]", "as [2; 4] say"], ["[2]", "[1][2][3][4]", "2 and 4", "(2) (4)", "[24]"]),
    ({"check": "cites", "passages": []}, "", ["It is not said."], ["It is not said [1]."]),
]


@pytest.mark.parametrize(("check", "answer", "right", "wrong"), SAYS, ids=lambda v: str(v)[:40])
def test_what_it_settles_on_counts_and_nothing_beside_it(check, answer, right, wrong):
    task = Task("Which one of these four is it?", answer, (check,))
    assert not [c for c in right if not verifiers.passed(task, c)]
    assert not [c for c in wrong if verifiers.passed(task, c)]


FORMS = [  # check, completions that pass, completions that fail
    ({"check": "words", "least": 3, "most": 3}, ["one two three"], ["one two", "one two three four"]),
    ({"check": "sentences", "least": 2, "most": 2}, ["Yes. No!", 'He said "go." She went.'], ["Yes", "A. B. C."]),
    ({"check": "paragraphs", "least": 2, "most": 2}, ["a\n\nb", "a\n \n\nb"], ["a\nb", "a\n\nb\n\nc"]),
    ({"check": "lines", "least": 2, "most": 2}, ["a\n\nb"], ["a", "a\nb\nc"]),
    ({"check": "bullets", "least": 2, "most": 2}, ["- a\n- b", "1. a\n2) b", "Here:\n* a\n* b"], ["-a\n-b", "- a - b"]),
    ({"check": "bullets", "least": 2, "mark": "-"}, ["Here:\n- a\n- b"], ["1. a\n2. b", "* a\n* b", "- a\n1. b"]),
    ({"check": "headings", "least": 1}, ["# Title\ntext"], ["#hashtag", "a # b"]),
    ({"check": "highlights", "least": 2}, ["*a b* and **c d**"], ["2 * 3 * 4 * 5", "*a b*", "* a\n* b"]),
    ({"check": "placeholders", "least": 2}, ["[name], [place]"], ["[name]", "[]"]),
    ({"check": "versions", "n": 2}, ["Hello there.\n***\nGood day."], ["Hello.\n***\nHello.", "Hello.", "a***b***c"]),
    ({"check": "letters", "case": "upper"}, ["LOUD 1!"], ["Loud", "1!"]),
    ({"check": "letters", "case": "lower"}, ["quiet 1!"], ["Quiet", "..."]),
    ({"check": "capitals", "least": 1, "most": 2}, ["This is IMPORTANT."], ["I am A", "ALL OF IT"]),
    ({"check": "starts_and_ends", "start": "<<", "end": ">>"}, ["<<a title>>"], ["<<>>", "<<a title", "a title>>"]),
    ({"check": "without", "characters": ",;"}, ["no such sign"], ["one, two"]),
    ({"check": "contains", "words": ["bee"], "at_least": 2}, ["A bee, a Bee!"], ["a bee", "bees and beetles"]),
    ({"check": "avoids", "words": ["bee"]}, ["beetles"], ["A BEE"]),
    ({"check": "varied"}, ["all of these words differ"], ["bee bee bee bee bee"]),
    ({"check": "json", "keys": ["a"]}, ['{"a": 1}', '```json\n{"a": 1}\n```'], ["a: 1", '{"b": 1}', '["a"]']),
]


@pytest.mark.parametrize(("check", "right", "wrong"), FORMS, ids=[f[0]["check"] for f in FORMS])
def test_a_form_is_kept_or_not(check, right, wrong):
    task = Task("Write something about that now, please.", "", (check,))
    assert not [c for c in right if not verifiers.passed(task, c)]
    assert not [c for c in wrong if verifiers.passed(task, c)]
    assert not verifiers.passed(task, " \n")


def test_every_check_of_form_and_of_a_final_answer_has_a_case():
    """`number` has its own in tests/raters/test_verifiers.py."""
    assert {f[0]["check"] for f in FORMS} == set(CONSTRAINTS)
    assert {s[0]["check"] for s in SAYS} == set(FINAL_ANSWERS) - {"number"}


@pytest.mark.parametrize("prompt", ["Name the bee in two words, please.", "Was ist ein »Haus«? Sag es kurz!"])
def test_the_prompt_said_again_passes_nothing(prompt):
    words = prompt.split()
    task = Task(prompt, "", ({"check": "contains", "words": [words[1]]}, {"check": "words", "least": 2}))
    for said in (prompt, prompt.upper(), f"{prompt}\n\n{prompt}", prompt.strip("?!."), f"**{prompt}**"):
        assert not verifiers.passed(task, said), said
        assert {f.reason for f in verifiers.verify(task, said)} == {"it only says the prompt again"}
    assert verifiers.passed(task, f"{words[1]}, that is a thing of its own: {prompt} So it is.")


def test_a_sum_that_is_said_again_with_its_result_is_right():
    task = Task("What is 12 + 7?", "19", ({"check": "number"},))
    assert verifiers.passed(task, "What is 12 + 7? 19") and not verifiers.passed(task, "What is 12 + 7?")


@pytest.mark.parametrize(
    "text",
    ["1" * 5000, "9e999", "1e-999", "1e99999", "0." + "1" * 9000, "1," * 5000, "5 x 10^999", "1/0", "²", "٣", "-"],
)
def test_numbers_without_an_end_are_wrong_and_nothing_else(text):
    for check in (EXACTLY, NUMBER, {"check": "number"}):
        assert verifiers.find(check, text, "15").score == 0
