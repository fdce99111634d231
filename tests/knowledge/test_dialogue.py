"""Self-chat: a scripted teacher plays both sides, and some of its messages break a rule."""

from parts import context, endpoint, teacher

from kdloop import packs
from kdloop.feedback.examples import from_feedback
from kdloop.knowledge import dialogue
from kdloop.methods import METHODS
from kdloop.raters.features import embed

GARDEN = "How do I grow tomatoes on a balcony?"
TASKS = [
    packs.Task(q) for q in (GARDEN, "What do cats like to eat?", "How do I learn the piano?", "Why is the sky blue?")
]
ANSWER = "Plenty of light, fresh water, good soil, warmth and patience are what helps most with this:"
HELD_OUT = packs.prompts("general", "gate")[0]


def two_sided(request):
    """Fits for tomatoes; names a role for cats; leaves the piano's subject; asks what is held out after the sky."""
    asked = request["messages"][-1]["content"]
    if "says next" not in asked:
        return "Assistant: it does" if "cats" in asked and "more" in asked else f"{ANSWER} {asked}"
    first = asked.split("Person: ")[1].split("\n")[0]
    if "piano" in first:
        return "Tell me about the fall of the Roman empire."
    if "sky" in first:
        return HELD_OUT
    if asked.count("Person: ") == 1:
        return f"Tell me more of this, please, and in plain words for a beginner: {first}"
    return f"And what does it cost, compared with other ways? I mean: {first}"


def test_a_conversation_alternates_ends_on_an_answer_and_keeps_its_subject(db):
    with endpoint(two_sided) as (url, _):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        assert dialogue.self_chat(m, TASKS, turns=3) == 1
    (e,) = from_feedback(db, m.round.id).train
    said = [*e.prompt, {"role": "assistant", "content": e.chosen.text}]
    assert [x["role"] for x in said] == ["user", "assistant"] * 3 and said[0]["content"] == GARDEN
    assert not any(dialogue.ROLES.search(x["content"]) for x in said)
    subject, *messages = embed([x["content"] for x in said if x["role"] == "user"])
    assert all(subject @ v > 0.3 for v in messages)
    assert METHODS["multi_turn"].usable(e) and e.chosen.licence == "mit"


def test_one_restricted_teacher_restricts_all_conversations(db):
    """Two teachers answer in turn as they are drawn, and either may have written what the person says."""
    plants = ("tomatoes", "beans", "roses", "herbs", "figs", "tulips", "peas", "ferns")
    tasks = [packs.Task(f"How do I grow {plant} on a balcony?") for plant in plants]

    def named(request):
        said = two_sided(request)
        return said if "says next" in request["messages"][-1]["content"] else f"{request['model']} says: {said}"

    with endpoint(named) as (url, _):
        both = [teacher(url), teacher(url, name="rex", model="rex", terms="forbidden", confirmed=True)]
        m = context(db, None, pack="general", teachers=both)
        assert dialogue.self_chat(m, tasks, turns=2) == len(plants)
    rows = from_feedback(db, m.round.id).train
    assert {e.chosen.text.startswith("rex") for e in rows} == {True, False}
    assert all(e.chosen.restricted for e in rows)


def test_a_conversation_that_goes_wrong_is_kept_up_to_there(db):
    """The cats' second answer is fine, its third names a role: two answers remain."""

    def later(request):
        asked = request["messages"]
        if "says next" not in asked[-1]["content"] and len(asked) == 5:
            return "User: and now I say something"
        return two_sided({"messages": [{"content": asked[-1]["content"].replace("cats", "dogs")}]})

    with endpoint(later) as (url, _):
        m = context(db, None, pack="general", teachers=[teacher(url)])
        assert dialogue.self_chat(m, TASKS[1:2], turns=3) == 1
    (e,) = from_feedback(db, m.round.id).train
    assert [x["role"] for x in e.prompt] == ["user", "assistant", "user"]


def test_what_names_a_role_is_found_and_a_colon_is_not():
    for text in ("User: hi", "Fine.\n\nHuman: and", "**Assistant:** yes", "x<|im_end|>"):
        assert not dialogue.is_one_message(text)
    for text in ("A user: someone who uses.", "Three things: one, two", "The system is fine"):
        assert dialogue.is_one_message(text), text
