"""What a person may see and delete, and what the search in the sidebar finds."""

import json

import pytest
from parts import context, endpoint, teacher

from kdloop import packs
from kdloop.feedback import collect
from kdloop.knowledge import labeling, self_play
from kdloop.packs import Task
from storage import checkpoints, conversations, feedback, follow_ups, offers, people, rounds, teachers
from storage.conversations import Draft
from storage.database import connect


def talk(db, person, question="How do tides work?"):
    conversation = conversations.start_conversation(db, person, question)
    turn = conversations.add_turn(db, conversation, [{"role": "user", "content": question}])
    base = checkpoints.serving(db).id
    return conversation, conversations.add_completion(db, turn.id, "student", text="By the Moon.", checkpoint_id=base)


def test_a_copy_holds_ones_own_rows_and_nobody_elses(db):
    talk(db, "ann")
    _, completion = talk(db, "bob", "Überraschung?")
    collect.thumb(db, "bob", completion, True)
    follow_ups.allow(db, "bob", True)
    offers.offer(db, base := checkpoints.serving(db).id, "plain")
    offers.choose(db, "bob", base)
    copy = people.everything(db, "bob")
    assert [len(rows) for rows in copy.values()] == [1, 1, 1, 1, 1, 1]
    assert "Überraschung?" in str(copy) and "tides" not in str(copy)


def test_erasure_leaves_nothing_and_names_what_had_learned(db):
    _, completion = talk(db, "ann")
    row = collect.thumb(db, "ann", completion, True)
    offers.offer(db, base := checkpoints.serving(db).id, "plain")
    offers.choose(db, "ann", base)
    _, other = talk(db, "bob")
    collect.thumb(db, "bob", other, True)
    first = publish(db, checkpoints.serving(db).id, [row])
    descendant = publish(db, first.id, [])
    assert people.erase(db, "ann") == [first.id, descendant.id]
    assert not any(people.everything(db, "ann").values()) and offers.chosen(db, "ann") is None
    assert [f.rater for f in feedback.live_feedback(db)] == ["bob"]
    assert people.erase(db, "bob") == []
    assert b"By the Moon" not in db.read_bytes()


def test_one_conversation_goes_with_what_is_in_it_and_all_others_stay(db):
    secret, said = talk(db, "ann", "Where in Gdansk did I lose the key?")
    turn = conversations.completion(db, said).turn_id
    taught = [collect.thumb(db, "ann", said, True), collect.edit(db, "ann", said, "By the crane of Gdansk.")]
    kept, other = talk(db, "ann", "Hello there")
    stays = collect.thumb(db, "ann", other, False)
    conversations.add_turn(db, secret, [{"role": "user", "content": "Hello there"}], instead_of=turn)
    _, bobs = talk(db, "bob", "Where in Gdansk?")
    collect.thumb(db, "bob", bobs, True)
    people.set_weight(db, "ann", 0.5)
    rounds_own = [talk(db, "round 9", q)[1] for q in ("Hello there", "Where in Gdansk did I lose the key?")]
    first = publish(db, checkpoints.serving(db).id, [taught[0]])
    later = publish(db, first.id, [stays])
    apart = publish(db, checkpoints.serving(db).id, [stays])
    assert people.contents(db, "ann", secret) == ("Where in Gdansk did I lose the key?", 2, 2)
    for person, id in (("bob", secret), ("ann", "nobody's"), ("ann", "")):
        with pytest.raises(conversations.UnknownRow):
            people.erase(db, person, id)
    assert people.erase(db, "ann", secret) == [first.id, later.id], f"not {apart.id}"
    copy = people.everything(db, "ann")
    assert [[r["id"] for r in copy[t]] for t in ("conversations", "feedback")] == [[kept], [stays]]
    assert sorted(f.rater for f in feedback.live_feedback(db)) == ["ann", "bob"] and feedback.count_votes(db)[0] == 2
    assert {r.person: r.weight for r in people.raters(db)}["ann"] == 0.5
    assert b"crane of" not in db.read_bytes() and b"lose the key" not in db.read_bytes()
    assert conversations.completion(db, rounds_own[0]).text, "she says it elsewhere too"
    with pytest.raises(conversations.UnknownRow):
        conversations.completion(db, rounds_own[1])


ASKED = "How do I tell my sister Zoe\nthat I lost her cat?"
PACKED = packs.prompts("general", "train")[0]


def test_a_better_answer_to_what_a_round_asked_is_ones_own(db):
    """A lesson of the Teach tab lies in a round's conversation."""
    _, completion = talk(db, "round 1", PACKED)
    turn = conversations.completion(db, completion).turn_id
    worse = conversations.add_completion(db, turn, "student", text="No.", checkpoint_id=checkpoints.serving(db).id)
    pair = {"chosen_id": completion, "rejected_id": worse}
    lesson = feedback.add_feedback(db, turn, rater="own", channel="ranking", source="student", **pair)
    collect.fix(db, "ann", lesson, "I, Ann of Aberdeen, say so.")
    assert "Aberdeen" in str(people.everything(db, "ann")["completions"])
    people.erase(db, "ann")
    assert not any(people.everything(db, "ann").values())
    assert b"Aberdeen" not in db.read_bytes()
    assert conversations.completion(db, completion).text, "what the round wrote of a pack's prompt stays"


def test_what_rounds_and_teachers_were_given_of_a_persons_words_goes_too(db):
    """Asked plainly, in a template, in a debate and with a length: the rows of the pack's prompt stay."""
    tasks = [Task(ASKED), Task(PACKED)]
    with endpoint(lambda request: "She will forgive you for it.") as (url, _):
        given = context(db, lambda p, seed: f"{seed}: it is 7", "general", [teacher(url, price_in=1e6, price_out=0)])
        labeling.labels(given, tasks)
        labeling.labels(given, tasks, template="step_by_step")
        assert self_play.debate(given, tasks, keep=1.0) == 12
        given.judge.compare([(t.prompt, "a", "b") for t in tasks])
        talk(db, "ann", ASKED)
        trained = publish(db, checkpoints.serving(db).id, [r.id for r in feedback.live_feedback(db, 1)])
        spent = teachers.usage(db)["tess"]
        assert people.erase(db, "ann") == [trained.id], "it learned from answers to what she asked"
        assert b"Zoe" not in db.read_bytes() and b"lost her cat" not in db.read_bytes()
        assert teachers.usage(db)["tess"] == spent, "what was paid is paid"
        with connect(db) as c:
            assert c.execute("select count(*) from calls where request = '{}'").fetchone()[0] == spent.calls / 2
        labeling.labels(given, tasks)
        assert teachers.usage(db)["tess"].calls == spent.calls + 1, "one answer was blanked, the other one is kept"
    assert [sum(q in p for p in prompts(db)) for q in (PACKED, ASKED)] == [9, 1]


def test_a_better_answer_is_found_where_a_round_has_put_it_beside_others(db):
    _, completion = talk(db, "ann", ASKED)
    collect.edit(db, "ann", completion, "Tell her in Aberdeen, face to face.")
    given = context(db, lambda p, seed: "", "general")
    given.write(PACKED, Draft("[1] Tell her in Aberdeen, face to face.\n[2] No.", "finished", "human", {"name": "bob"}),
                source="student", rater="mosaic")  # fmt: skip
    people.erase(db, "ann")
    assert b"Aberdeen" not in db.read_bytes() and prompts(db) == []


def prompts(db):
    with connect(db) as c:
        return [json.loads(r[0])[-1]["content"] for r in c.execute("select prompt from turns order by rowid")]


def test_a_word_that_all_say_erases_only_what_is_nothing_but_it(db):
    hello = [talk(db, "round 1", f"Hello there{added}")[1] for added in ("", " Use about 40 words.", "\n\nBriefly.")]
    _, other = talk(db, "round 1", "Hello there, how do tides work?")
    talk(db, "ann", "Hello there")
    people.erase(db, "ann")
    for gone in hello:
        with pytest.raises(conversations.UnknownRow):
            conversations.completion(db, gone)
    assert conversations.completion(db, other).text


def test_what_another_person_has_judged_stays_theirs(db):
    _, completion = talk(db, "round 1", PACKED)
    turn = conversations.completion(db, completion).turn_id
    feedback.add_feedback(db, turn, rater="bob", channel="choice", chosen_id=completion)
    talk(db, "ann", PACKED)
    people.erase(db, "ann")
    assert [f.rater for f in feedback.live_feedback(db)] == ["bob"]


def test_an_erasure_cancels_the_round_that_reads_it_and_clears_what_verdicts_show(db):
    _, completion = talk(db, "ann", ASKED)
    collect.thumb(db, "ann", completion, True)
    shown = [{"prompt": q, "before": "", "after": ""} for q in (ASKED, PACKED)]
    old = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me").id
    rounds.advance(db, old, "rejected", verdict={"passed": False, "reason": "", "examples": shown})
    rounds.release_lease(db, "me")
    running = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me").id
    people.erase(db, "bob")
    assert not rounds.get_round(db, running).cancel_requested_at, "it has read nothing of his"
    people.erase(db, "ann")
    assert rounds.get_round(db, running).cancel_requested_at
    assert [e["prompt"] for e in rounds.get_round(db, old).verdict["examples"]] == [PACKED]


@pytest.mark.parametrize("part", ["train", "held_out", "read"])
def test_an_erasure_marks_what_has_read_anything_of_it_and_what_comes_of_that(db, part):
    rows = {}
    for person in ("ann", "bob"):
        rows[person] = collect.thumb(db, person, talk(db, person)[1], True)
    first = publish(db, checkpoints.serving(db).id, [rows["bob"]], {part: [rows["ann"]]})
    descendant, other = publish(db, first.id, []), publish(db, checkpoints.serving(db).id, [rows["bob"]])
    assert people.erase(db, "ann") == ([first.id, descendant.id] if part == "train" else [])
    assert checkpoints.erased(db) == {first.id, descendant.id} and other


def test_versions_that_knew_what_was_erased_go_once_the_repeated_line_serves_and_not_before(db):
    row = collect.thumb(db, "ann", talk(db, "ann")[1], True)
    base = checkpoints.serving(db).id
    old = publish(db, base, [row], end="rejected")
    checkpoints.serve(db, old.id)
    people.erase(db, "ann")
    checkpoints.serve(db, base)
    assert checkpoints.prune(db) == [], "an owner may go back to it"
    checkpoints.serve(db, old.id)
    new = publish(db, base, [], end="rejected", replays=old.round_id, origin_id=base)
    checkpoints.serve(db, new.id)
    assert checkpoints.prune(db) == [old.id] and not (db.parent / old.path).exists()
    assert checkpoints.adapter_dir(db, new)


def test_a_verdict_forgets_what_it_says_of_votes_that_are_gone(db):
    rows = [collect.thumb(db, person, talk(db, person)[1], True) for person in ("ann", "bob")]
    published = publish(db, checkpoints.serving(db).id, [])
    drift = {"pairs": {id: [0.5, 0.5, 0.1] for id in rows}, "said": "On 2 pairs"}
    checkpoints.reject(db, published.id, published.round_id, verdict={"passed": False, "drift": drift})
    people.erase(db, "ann")
    verdict = rounds.get_round(db, published.round_id).verdict
    assert [*verdict["drift"]["pairs"]] == rows[1:] and verdict["drift"]["said"] == "On 2 pairs"


def publish(db, parent_id, rows, parts=None, end="failed", **replayed):
    round_id = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me", **replayed).id
    rounds.note_read(db, round_id, (parts or {}).get("read", []))
    rounds.use_feedback(db, round_id, [*rows, *(parts or {}).get("train", [])], (parts or {}).get("held_out", []))

    def save(directory):
        (directory / "weights").write_text(str(parent_id))

    candidate = checkpoints.publish(
        db, round_id, save, parent_id=parent_id, method="dpo", seed=1, metrics={"fingerprint": []}
    )
    rounds.finish_round(db, round_id, end)
    rounds.release_lease(db, "me")
    return candidate


@pytest.mark.parametrize("search, found", [("", 2), ("tides", 1), ("über", 1), ("moon", 2), ("100%", 0), ("_", 0)])
def test_conversations_are_found_by_title_and_text(db, search, found):
    talk(db, "ann")
    talk(db, "ann", "über Wien")
    talk(db, "bob", "100%_")
    assert len(conversations.find_conversations(db, "ann", search)) == found
