"""What waits on the Teach tab, and in which order; a vote, a skip, a better answer, and their undo."""

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from parts import Spoken, context, learned_from, migrations_before

from kdloop import packs
from kdloop.feedback import collect
from kdloop.feedback.examples import Example, from_feedback
from kdloop.knowledge.rows import training_id
from kdloop.raters import active, preference_model
from kdloop.rounds.gating import CONTESTED_PROMPTS, ask_people
from kdloop.settings import Settings
from kdloop.ui import teach
from storage import checkpoints, conversations, feedback, people
from storage.conversations import Completion, as_prompt
from storage.database import connect, open_database

PUBLIC = packs.prompts("general", "train")


def compared(db, question, sure=0.9):
    """Two completions that an AI rater of a round compared; (feedback row, chosen, rejected)."""
    turn = conversations.add_turn(db, conversations.start_conversation(db, "round 1", question), as_prompt(question))
    base = checkpoints.serving(db).id
    chosen, rejected = (
        conversations.add_completion(db, turn.id, "student", text=f"{question} {end}", checkpoint_id=base)
        for end in ("one", "two")
    )
    said = {"chosen_id": chosen, "rejected_id": rejected, "score": sure, "source": "preference_model"}
    return feedback.add_feedback(db, turn.id, rater="model", channel="ranking", **said), chosen, rejected


def waiting(db, person="ann"):
    return [(a.id, a.disputed) for a in collect.lessons(db, person, active.latest(db))]


def test_what_others_asked_does_not_hide_what_waits_and_disputed_pairs_come_first(db):
    for i in range(4):
        compared(db, f"a secret of bob's {i}", 0.5)
    surest, *rest = [compared(db, PUBLIC[i], 0.99 - i / 10)[0] for i in range(4)]
    assert [a.id for a in feedback.ai_choices(db, "ann", PUBLIC, limit=3)] == rest[::-1]
    collect.review(db, "bob", surest, "right")
    assert [a.id for a in feedback.ai_choices(db, "ann", PUBLIC, limit=3)] == [surest, *rest[:0:-1]]
    assert waiting(db) == [(surest, True), *((id, False) for id in rest[::-1])]
    assert waiting(db, "bob") == [(id, False) for id in rest[::-1]], "he has checked it"


def test_a_pair_is_disputed_while_a_vote_against_it_stands(db):
    row, _, rejected = compared(db, PUBLIC[0])
    for person in ("bob", "eve"):
        collect.review(db, person, row, "right")
    feedback.retract(db, "bob", "choice", rejected)
    assert waiting(db) == [(row, True)]
    people.erase(db, "eve")
    assert waiting(db) == [(row, False)]
    collect.review(db, "eve", row, "tie")
    assert waiting(db) == [(row, False)]


def test_an_older_database_knows_what_is_disputed(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.database.MIGRATIONS", migrations_before("disputes"))
    db = open_database(tmp_path / "kdloop.db")
    checkpoints.ensure_base(db)
    row, _, rejected = compared(db, PUBLIC[0])
    with connect(db) as c:
        turn = c.execute("select turn_id from completions where id = ?", [rejected]).fetchone()[0]
    feedback.add_feedback(db, turn, rater="bob", channel="choice", chosen_id=rejected)
    monkeypatch.undo()
    open_database(db)
    assert waiting(db) == [(row, True)]


@pytest.fixture
def lesson(db):
    """(settings, state) of a person to whom the first of two pairs is shown."""
    for i in range(2):
        compared(db, PUBLIC[i], 0.7 + i / 10)
    settings, state = Settings(home=db.parent), {"person": "ann"}
    assert teach.fill(settings, state)[-1] is state and state["teach"]
    return settings, state


def live(settings):
    return [(f.channel, f.source) for f in feedback.live_feedback(settings.db)]


def test_what_a_pack_disclaims_stands_above_the_two_of_a_version_that_learned_from_it(lesson, monkeypatch):
    settings, state = lesson
    monkeypatch.setenv("KDLOOP_HOME", str(settings.home))
    (settings.home / "packs" / "law").mkdir(parents=True)
    (settings.home / "packs" / "law" / "pack.toml").write_text('disclaimer = "No *legal* advice."')
    learned_from(settings.db, "law")
    about = 3  # of what `fill` gives
    assert "advice" not in teach.fill(settings, state)[about], "both are by the base"
    with connect(settings.db) as c:
        c.execute("update completions set checkpoint_id = 2 where text = ?", [f"{PUBLIC[0]} two"])
        c.commit()
    assert "No &#42;legal&#42; advice&#46;" in teach.fill(settings, state)[about]


def test_undo_takes_back_a_vote_whose_pair_does_not_come_again(lesson):
    settings, state = lesson
    first = state["teach"][0]
    out = teach.vote(settings, "left", first, state)
    assert out[-1] is state and state["teach"][0] != first and live(settings) == [("choice", "human")]
    teach.undo(settings, state)
    assert live(settings) == [] and state["teach"][0] != first, "what the AI chose was told"
    with pytest.raises(gr.Error, match="No vote to take back"):
        teach.undo(settings, state)


def test_undo_takes_back_a_better_answer_whose_pair_comes_again(lesson):
    settings, state = lesson
    first = state["teach"][0]
    teach.fix(settings, "A better answer.", first, state)
    assert live(settings) == [("edit", "human")] and state["teach"][0] != first
    teach.undo(settings, state)
    assert live(settings) == [] and state["teach"][0] == first


def test_a_second_vote_before_the_page_shows_the_next_pair_is_no_vote_on_that(lesson):
    settings, state = lesson
    first = state["teach"][0]
    teach.vote(settings, "left", first, state)
    following = state["teach"]
    for act in (lambda: teach.vote(settings, "right", first, state), lambda: teach.fix(settings, "No.", first, state)):
        with pytest.raises(gr.Error, match="has its vote"):
            act()
    assert live(settings) == [("choice", "human")] and state["teach"] == following


def test_nobody_takes_back_what_another_person_said(lesson):
    settings, state = lesson
    teach.vote(settings, "tie", state["teach"][0], state)
    with pytest.raises(gr.Error, match="No vote to take back"):
        teach.undo(settings, {"person": "bob", "taught": state["taught"]})
    assert live(settings) == [("choice", "human")]


def test_a_skipped_pair_waits_for_the_next_session(lesson):
    settings, state = lesson
    for _ in range(2):
        teach.vote(settings, "skip", state["teach"][0], state)
    assert state["teach"] is None and live(settings) == [] and len(waiting(settings.db)) == 2


LONG = "It is a long story, and a winding one, which goes on and on before it comes to any point at all."


def vote_for_the_shorter(i):
    draw, ends = random.Random(i), ("in a few plain words here", LONG)
    short, long = (Completion(f"{i}{end[:4]}", "t", "student", 1, f"{draw.random()} {end}") for end in ends)
    return Example(as_prompt(f"Number {i}?"), short, long, f"c{i}", (str(i),))


def test_a_refused_candidate_waits_beside_the_champion_and_trains_nobody_unasked(db):
    candidate = checkpoints.publish(
        db,
        context(db, None).round.id,
        lambda d: (d / "w").write_text("x"),
        parent_id=1,
        method="dpo",
        seed=1,
        metrics={},
    )
    m = context(db, lambda messages, seed: LONG, "general")
    ask_people(m, Spoken(lambda messages, seed: "Few words."), candidate)
    assert waiting(db) == [], "no preference model, no AI choice to check"

    m = replace(m, rater=preference_model.fit([vote_for_the_shorter(i) for i in range(60)]))
    assert m.rater.skill.proven
    ask_people(m, Spoken(lambda messages, seed: LONG), candidate)
    assert waiting(db) == [], "two that say the same are no pair"
    ask_people(m, Spoken(lambda messages, seed: "It is so, in a few plain words."), candidate)
    lessons = collect.lessons(db, "ann", active.latest(db))
    assert len(lessons) == CONTESTED_PROMPTS and {a.question for a in lessons} <= set(PUBLIC)
    writers = [conversations.completion(db, id).checkpoint_id for id in (lessons[0].chosen_id, lessons[0].rejected_id)]
    assert writers == [candidate.id, 1]
    assert from_feedback(db, m.round.id + 1).train == []
    collect.review(db, "ann", lessons[0].id, "right")
    assert [e.chosen.checkpoint_id for e in from_feedback(db).train] == [1]


def vote_on(db, i, likes_short):
    """Ann's choice between a short and a long text about something."""
    draw, words = random.Random(i), "bread river cloud music garden winter letter stone market"
    conversation = conversations.start_conversation(db, "ann", id=training_id())
    turn = conversations.add_turn(db, conversation, as_prompt(f"On {i}?"))
    said = [" ".join(draw.choices(words.split(), k=n)) + "." for n in (6, 18)]
    short, long = (conversations.add_completion(db, turn.id, "student", text=s, checkpoint_id=1) for s in said)
    sides = (short, long) if likes_short else (long, short)
    feedback.add_feedback(db, turn.id, rater="ann", channel="choice", chosen_id=sides[0], rejected_id=sides[1])


def waits(db, question, chosen, rejected, sure):
    turn = conversations.add_turn(db, conversations.start_conversation(db, "round 1", question), as_prompt(question))
    ids = [conversations.add_completion(db, turn.id, "student", text=x, checkpoint_id=1) for x in (chosen, rejected)]
    said = {"chosen_id": ids[0], "rejected_id": ids[1], "score": sure, "source": "preference_model"}
    return feedback.add_feedback(db, turn.id, rater="model", channel="ranking", **said)


def refitted(db):
    active.latest(db)
    active.wait()
    return [a.id for a in collect.lessons(db, "bob", active.latest(db))]


def test_what_to_ask_next_follows_the_votes_of_this_minute(db):
    """A round was unsure of short against long; since then people have said what they like."""
    settled = waits(db, PUBLIC[0], "Bread and stone.", "River cloud music garden winter letter stone " * 3, 0.55)
    open_still = waits(db, PUBLIC[1], "Cloud and river, winter.", "Stone and letter, music.", 0.9)
    for i in range(40):
        vote_on(db, i, likes_short=i % 2)
    assert refitted(db) == [settled, open_still], "coins prove nothing: as the round had it"
    for i in range(40, 200):
        vote_on(db, i, likes_short=True)
    assert refitted(db) == [open_still, settled]
    sure = active.latest(db)
    assert sure[settled] > 0.6 and abs(sure[open_still] - 0.5) < abs(sure[settled] - 0.5)
    for row in feedback.live_feedback(db):
        if row.source == "human":
            feedback.take_back(db, "ann", row.id)
    assert refitted(db) == [settled, open_still], "what is taken back is forgotten"


ENDS = """
import sys
from pathlib import Path
from kdloop.raters import active
db = Path(sys.argv[1])
active.latest(db)
active.wait()
print(len(active.ESTIMATES[db].probabilities))
"""


def test_an_app_that_ends_amid_a_refit_waits_for_it(db):
    waits(db, PUBLIC[0], "Bread and stone.", "River cloud music garden winter letter stone " * 3, 0.55)
    for i in range(60):
        vote_on(db, i, likes_short=True)
    here = Path(__file__).parents[2]
    app = subprocess.run([sys.executable, "-c", ENDS, str(db)], cwd=here, capture_output=True, text=True)
    assert (app.returncode, app.stdout.strip()) == (0, "1") and "Traceback" not in app.stderr, app.stderr
