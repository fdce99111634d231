"""Where the student is not sure, a teacher answers, and the student learns from that answer (HCMA, arXiv 2410.02173).

The owner's threshold (`Settings.delegate_below`) is on the calibrated confidence. The calibration comes from people's
votes on the student's own answers; until it is proven, nothing is delegated, and no message leaves this machine.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np

from kdloop.chat import confidence
from kdloop.chat.confidence import Confidence
from kdloop.chat.turn import Reply
from kdloop.chat.turn import say as say_as_student
from kdloop.raters import teacher
from kdloop.raters.teacher import Teachers, by_teacher
from kdloop.settings import Settings, current
from kdloop.student import Engine, Sampling
from kdloop.student.serving import Serving
from storage import conversations, feedback
from storage.conversations import Turn

ENDED = ("finished", "cut")


def say(
    settings: Settings, serving: Serving, conversation_id: str | None, person: str, text: str, stop: Event
) -> Iterator[Reply]:
    """As turn.say; then, where the student is not sure enough, a teacher's completion in place of its own."""
    engine, _ = serving.current()
    for reply in say_as_student(settings, serving, conversation_id, person, text, stop):
        yield reply
    teachers = asked_for(settings)
    if teachers and reply.status in ENDED and reply.text:
        yield from instead(settings, teachers, engine, conversations.turn(settings.db, reply.turn_id), reply)


def asked_for(settings: Settings) -> Teachers | None:
    """The teachers who may answer: their words become the student's lessons, so their terms must allow it."""
    if not current(settings).delegate_below or not (known := teacher.load(settings.teachers, settings.db)):
        return None
    allowed = [t for t in known.all if t.may_teach]
    return Teachers(settings.db, allowed) if allowed else None


def instead(settings: Settings, teachers: Teachers, engine: Engine, turn: Turn, reply: Reply) -> Iterator[Reply]:
    """The teacher's reply, where one is due and comes: a failed call leaves the student's. One feedback row each."""
    (logprobs,) = engine.logprobs([turn.prompt], [(reply.text, reply.status == "finished")])
    sure = float(np.mean(logprobs))
    conversations.finish_completion(settings.db, reply.completion_id, logprob=sure)
    known = calibrated(settings.db)
    if not known.proven or known.probability(sure) >= current(settings).delegate_below:
        return
    (answer,) = teachers.ask([turn.prompt], Sampling(current(settings).max_tokens), [0])
    if not answer.ok:
        return
    said = by_teacher(answer, confidence=known.probability(sure))
    id = conversations.add_draft(settings.db, turn.id, said)
    feedback.add_feedback(
        settings.db, turn.id, rater=answer.teacher.name, channel="ranking", source="teacher", chosen_id=id
    )
    yield replace(reply, completion_id=id, text=answer.text, status=answer.status)


def calibrated(db: Path) -> Confidence:
    return confidence.fit(*feedback.rated_logprobs(db))
