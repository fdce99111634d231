import sqlite3
import threading
import time
from pathlib import Path

import pytest

from storage import ancestry, checkpoints, conversations, feedback, people, rounds
from storage.database import NewerDatabase, Turns, connect, is_writable, open_database, transaction
from storage.migrations import MIGRATIONS


def test_a_newer_database_is_refused(db):
    with connect(db) as c:
        c.execute(f"pragma user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(NewerDatabase, match="update kdloop"):
        open_database(db)


def test_a_migration_that_fails_leaves_the_old_schema(tmp_path, monkeypatch):
    def broken(c):
        c.execute("create table half (id)")
        raise RuntimeError("power cut")

    path = open_database(tmp_path / "kdloop.db")
    monkeypatch.setattr("storage.database.MIGRATIONS", [*MIGRATIONS, broken])
    with pytest.raises(RuntimeError):
        open_database(path)
    with connect(path) as c:
        assert c.execute("pragma user_version").fetchone()[0] == len(MIGRATIONS)
        assert not c.execute("select 1 from sqlite_master where name = 'half'").fetchone()


def test_conversations_of_an_older_database_are_chats(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.database.MIGRATIONS", MIGRATIONS[:5])
    db = open_database(tmp_path / "kdloop.db")
    with transaction(db) as c:
        c.execute("insert into conversations (id, person, title, created_at) values ('v', 'ann', 'Tides', '')")
    monkeypatch.undo()
    open_database(db)
    conversations.add_turn(db, "v", [{"role": "user", "content": "hi"}])
    conversations.add_turn(
        db, conversations.start_conversation(db, "ann", kind="duel"), [{"role": "user", "content": "hi"}]
    )
    assert conversations.find_conversations(db, "ann") == [("v", "Tides")]
    with pytest.raises(sqlite3.IntegrityError):
        conversations.start_conversation(db, "ann", kind="quarrel")


def test_two_serving_checkpoints_are_impossible(db):
    with pytest.raises(sqlite3.IntegrityError), transaction(db) as c:
        c.execute("insert into checkpoints (status, created_at) values ('serving', '')")


def test_a_student_completion_names_its_checkpoint(db):
    turn = conversations.add_turn(db, conversations.start_conversation(db, "ann"), [{"role": "user", "content": "hi"}])
    with pytest.raises(sqlite3.IntegrityError):
        conversations.add_completion(db, turn.id, "student", text="hello")


def test_one_round_at_a_time_among_threads(db):
    started, refused = [], []

    def try_it(i):
        try:
            started.append(rounds.start_round(db, requested="auto", seed=None, started_by="hand", owner=f"o{i}"))
        except rounds.RoundRunning:
            refused.append(i)

    threads = [threading.Thread(target=try_it, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert (len(started), len(refused)) == (1, 7)


def candidate(db, owner="me"):
    r = rounds.start_round(db, requested="auto", seed=None, started_by="hand", owner=owner)
    rounds.release_lease(db, owner)

    def save(directory):
        (directory / "adapter.bin").write_text("weights")

    k = checkpoints.publish(db, r.id, save, parent_id=r.base_id, method="dpo", seed=r.seed, metrics={})
    return r, k


def test_promote_roll_back_and_lineage(db):
    r, k = candidate(db)
    promoted = checkpoints.promote(db, k.id, r.id)
    assert (promoted.version, checkpoints.serving(db).id, rounds.get_round(db, r.id).status) == (1, k.id, "promoted")
    assert checkpoints.serve(db, r.base_id).version == 0
    assert [c.status for c in checkpoints.lineage(db)] == ["serving", "retired"]
    assert checkpoints.lineage(db)[1].parent_id == checkpoints.lineage(db)[0].id


def test_a_version_has_learned_from_its_own_lines_votes_only(db):
    turn = conversations.add_turn(db, conversations.start_conversation(db, "ann"), [{"role": "user", "content": "hi"}])
    said = conversations.add_completion(db, turn.id, "student", text="hello", checkpoint_id=1)
    liked = feedback.add_feedback(db, turn.id, rater="ann", channel="thumb", chosen_id=said)
    machine = feedback.add_feedback(db, turn.id, rater="m", channel="ranking", chosen_id=said, source="verifier")
    r, k = candidate(db)
    rounds.use_feedback(db, r.id, [liked, machine], [])
    assert ancestry.votes_behind(db, k) == 1
    assert ancestry.votes_behind(db, checkpoints.serving(db)) == 0, "read by a round, but not by what serves"


def test_a_round_that_an_owners_hand_has_overtaken_ends_rejected(db):
    won = {"verdict": {"passed": True, "reason": "Promoted: 9 wins"}}
    first, k = candidate(db)
    checkpoints.promote(db, k.id, first.id, **won)
    second, better = candidate(db)
    checkpoints.serve(db, first.base_id)
    assert checkpoints.promote(db, better.id, second.id, **won).status == "rejected"
    ended = rounds.get_round(db, second.id)
    assert (checkpoints.serving(db).version, ended.status, ended.verdict["passed"]) == (0, "rejected", False)
    assert "v0 was made to serve during the round" in ended.verdict["reason"]
    third, k = candidate(db)
    rounds.request_cancel(db, third.id)
    assert checkpoints.promote(db, k.id, third.id, **won).status == "rejected"
    assert checkpoints.serve(db, better.id).version == 2, "by hand it may still be promoted"


def test_a_publish_that_breaks_leaves_no_candidate(db):
    r = rounds.start_round(db, requested="auto", seed=None, started_by="hand", owner="me")

    def save(directory):
        (directory / "half").write_text("x")
        raise OSError("disk full")

    with pytest.raises(OSError):
        checkpoints.publish(db, r.id, save, parent_id=1, method="dpo", seed=1, metrics={})
    assert len(checkpoints.lineage(db)) == 1
    assert not (db.parent / "checkpoints" / f"{r.id:06d}").exists()


def test_changed_weights_are_refused(db):
    _, k = candidate(db)
    (checkpoints.adapter_dir(db, k) / "adapter.bin").write_text("other weights")
    with pytest.raises(checkpoints.BrokenCheckpoint, match="changed"):
        checkpoints.adapter_dir(db, k)


def test_prune_keeps_the_last_rejected_candidate_which_an_owner_may_promote(db):
    rejected = []
    for _ in range(2):
        r, k = candidate(db)
        checkpoints.reject(db, k.id, r.id)
        rounds.release_lease(db, "me")
        rejected.append(k)
    assert checkpoints.prune(db) == [rejected[0].id]
    with pytest.raises(checkpoints.BrokenCheckpoint, match="pruned"):
        checkpoints.serve(db, rejected[0].id)
    assert checkpoints.serving(db).version == 0
    assert checkpoints.serve(db, rejected[1].id).version == 1
    assert [k.status for k in checkpoints.lineage(db)] == ["retired", "rejected", "serving"]


def test_a_migrated_check_allows_the_students_own_say_and_still_nothing_else(db):
    turn = conversations.add_turn(db, conversations.start_conversation(db, "ann"), [{"role": "user", "content": "hi"}])
    base = checkpoints.serving(db).id
    liked = conversations.add_completion(db, turn.id, "student", text="hello", checkpoint_id=base)
    said = {"rater": "majority", "channel": "ranking", "chosen_id": liked}
    feedback.add_feedback(db, turn.id, source="student", **said)
    with pytest.raises(sqlite3.IntegrityError):
        feedback.add_feedback(db, turn.id, source="nobody", **said | {"rater": "x"})
    with connect(db) as c:
        assert c.execute("pragma integrity_check").fetchone()[0] == "ok"


def test_stars_on_two_aspects_of_one_completion_both_stand(db):
    turn = conversations.add_turn(db, conversations.start_conversation(db, "ann"), [{"role": "user", "content": "hi"}])
    base = checkpoints.serving(db).id
    rated = conversations.add_completion(db, turn.id, "student", text="hello", checkpoint_id=base)
    stars = {"rater": "judge a", "channel": "stars", "source": "human", "chosen_id": rated}
    for aspect, score in (("honesty", 1.0), ("helpfulness", 0.25), ("honesty", 0.5)):
        feedback.add_feedback(db, turn.id, **stars, aspect=aspect, score=score)
    assert sorted(r.score for r in feedback.live_feedback(db)) == [0.25, 0.5]


def test_the_end_of_a_write_does_not_empty_the_log_to_the_disk(db):
    for person in ("ann", "bob"):
        conversations.start_conversation(db, person)
        assert Path(f"{db}-wal").stat().st_size, "else every vote waits for the disk, four times"


def test_a_connection_serves_one_caller_at_a_time_and_the_next_one_after_it(db):
    with connect(db) as one, connect(db) as other:
        assert one is not other
    with connect(db) as again:
        assert again in (one, other)
        again.execute("begin immediate")
        assert not is_writable(db)
    with connect(db) as c:  # what was left open amid a transaction is not handed on
        assert c is not again and not c.conn.in_transaction
    assert is_writable(db)
    with connect(db) as c:
        assert c.execute("pragma busy_timeout").fetchone()[0] == 15_000


def test_who_came_first_writes_first():
    turns, served, writers = Turns(), [], []
    with turns:
        for i in range(30):

            def write(i=i):
                with turns:
                    served.append(i)

            writers.append(threading.Thread(target=write))
            writers[-1].start()
            while len(turns.queue) < i + 2:
                time.sleep(0.001)
    for writer in writers:
        writer.join()
    assert served == list(range(30))


def test_what_json_cannot_hold_is_refused_and_never_stored_as_its_repr(db):
    r, k = candidate(db)
    with pytest.raises(TypeError):
        checkpoints.reject(db, k.id, r.id, metrics={"model": object()})
    assert checkpoints.get_checkpoint(db, k.id).status == "candidate"


def test_a_reply_whose_conversation_is_erased_meanwhile_ends_quietly(db):
    turn = conversations.add_turn(db, conversations.start_conversation(db, "ann"), [{"role": "user", "content": "hi"}])
    said = conversations.add_completion(db, turn.id, "student", status="open", checkpoint_id=1)
    people.erase(db, "ann")
    conversations.finish_completion(db, said, text="hello", status="finished")
    with pytest.raises(conversations.UnknownRow):
        conversations.completion(db, said)
