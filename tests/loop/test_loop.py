"""The true circle on the real student, in the real processes."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import torch
from parts import vote

from kdloop import packs, recipes
from kdloop.chat.turn import Place, say
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student import Sampling
from kdloop.student.serving import Serving, fingerprint
from kdloop.student.template import Template
from kdloop.student.transformers import TransformersEngine
from storage import ancestry, checkpoints, conversations, feedback, rounds
from storage.database import open_database

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine(student_home):
    return TransformersEngine(str(student_home / "student"))


@pytest.fixture
def settings(tmp_path, student_home):
    s = Settings(home=tmp_path, student=str(student_home / "student"), round_max_tokens=12, gate_prompts=4)
    checkpoints.ensure_base(open_database(s.db))
    return s


def test_a_seed_gives_the_same_completion_alone_in_a_batch_and_streamed(student_home):
    engine = TransformersEngine(str(student_home / "student"), dtype=torch.float32)  # bf16 rounds by the batch's shape
    prompts = [[{"role": "user", "content": q}] for q in packs.prompts("general", "gate")[:3]]
    batch = engine.complete(prompts, Sampling(12), [1, 2, 3])
    assert engine.complete(prompts[:1], Sampling(12), [1])[0].text == batch[0].text
    *growing, last = engine.stream(prompts[0], Sampling(12), 1, Event())
    assert last.text == batch[0].text and last.first_token_seconds > 0 and growing


def test_stop_ends_the_stream_at_the_next_token(engine):
    stop, seen = Event(), []
    for piece in engine.stream([{"role": "user", "content": "Tell me a long story"}], Sampling(200), 1, stop):
        seen.append(piece)
        if len(seen) == 3:
            stop.set()
    assert seen[-1].status == "stopped" and seen[-1].completion_tokens < 10


def test_history_is_cut_at_message_borders(engine):
    talk = [{"role": r, "content": f"{r} says {i} " + "word " * 40} for i in range(20) for r in ("user", "assistant")]
    talk.append({"role": "user", "content": "and now?"})
    cut = Template.of(engine.tokenizer).fit(talk, context_tokens=400, reserve=100)
    assert cut == talk[-len(cut) :] and cut[0]["role"] == "user"
    assert len(Template.of(engine.tokenizer).prompt_ids(cut)) <= 300


def test_chat_votes_round_gate_and_what_serves_next(settings, engine):
    serving = Serving(settings.db, lambda: engine)
    conversation = conversations.start_conversation(settings.db, "ann")
    *_, reply = say(replace(settings, max_tokens=12), serving, Place(conversation), "ann", "Hello there", Event())
    assert reply.text and reply.checkpoint.version == 0
    vote(settings.db, 24)
    total, new = feedback.count_votes(settings.db)
    assert (total, new) == (24, 24)
    supervisor = Supervisor(settings, serving)
    supervisor.start(recipe=replace(recipes.VOTES, prompts=2, passes=2).as_dict())
    ended = supervisor.wait()
    assert ended.status in ("promoted", "on trial", "rejected"), ended.error
    assert ended.verdict["n"] == 4 and ended.verdict["guards"] and ended.verdict["reason"]
    assert set(ended.seconds) == {"elicit", "train", "gate"} and ended.method == "dpo"
    assert feedback.count_votes(settings.db)[1] == 0
    candidate = checkpoints.lineage(settings.db)[1]
    assert candidate.parent_id == reply.checkpoint.id and ancestry.trained_on(settings.db, candidate)
    assert serving.current()[1].id == checkpoints.serving(settings.db).id
    if ended.status == "promoted":
        assert fingerprint(serving.current()[0]) != fingerprint(engine)
    *_, reply = say(replace(settings, max_tokens=12), serving, Place(conversation), "ann", "And now?", Event())
    assert reply.checkpoint.id == checkpoints.serving(settings.db).id


@pytest.mark.parametrize("phase", ["eliciting", "gating"])
def test_a_killed_trainer_fails_the_round_and_nothing_else(settings, byte_student, phase):
    settings = replace(settings, student=byte_student, round_votes=20, round_max_tokens=24, gate_prompts=16)
    vote(settings.db, 24)
    supervisor = Supervisor(settings)
    started = supervisor.start(recipe=replace(recipes.VOTES, prompts=2, passes=1).as_dict())
    deadline = time.monotonic() + 240
    while rounds.get_round(settings.db, started.id).status != phase and time.monotonic() < deadline:
        time.sleep(0.1)
        supervisor.tick()
    os.killpg(supervisor.child.pid, signal.SIGKILL)
    ended = supervisor.wait()
    assert ended.status == "failed" and "code -9" in ended.error
    assert checkpoints.serving(settings.db).version == 0
    assert feedback.count_votes(settings.db)[1] == 24, "the votes of a failed round are still to be learned from"
    assert supervisor.schedule.due() is None, "but not at once: what failed would fail again"
    supervisor.start()  # by hand it may: the lease is free again
    supervisor.stop()
    assert rounds.list_rounds(settings.db)[0].status == "failed"


def test_a_round_is_paused_while_a_reply_streams(settings):
    vote(settings.db, 24)
    supervisor = Supervisor(settings)
    supervisor.start()
    with supervisor.yielding(), supervisor.yielding():
        eventually_state(supervisor, "T")
    eventually_state(supervisor, "SRD")
    with supervisor.yielding():
        supervisor.stop()  # ends a stopped process too
    assert rounds.list_rounds(settings.db)[0].status == "failed"


def eventually_state(supervisor, states):
    """Wait until the kernel says that the trainer process is in one of these states."""
    deadline = time.monotonic() + 20
    while Path(f"/proc/{supervisor.child.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in states:
        assert time.monotonic() < deadline
        time.sleep(0.05)
