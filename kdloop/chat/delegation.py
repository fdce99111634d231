"""Delegation: below a confidence, a teacher answers, and the student is trained on that answer (HCMA, arXiv
2410.02173).

`Settings.delegate_below` is a threshold on the calibrated confidence. The calibration comes from people's votes on the
student's own completions; until it is proven, nothing is delegated, and no message leaves this machine.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np

from kdloop.chat import confidence, turn
from kdloop.chat.confidence import Confidence
from kdloop.chat.turn import Place, Reply
from kdloop.raters import teacher
from kdloop.raters.teacher import Teachers, by_teacher
from kdloop.settings import Settings, current
from kdloop.student import Engine, Sampling
from kdloop.student.serving import Serving
from storage import conversations, feedback
from storage.conversations import Turn

COMPLETE = ("finished", "cut")  # statuses of a reply that nobody has stopped


def say(settings: Settings, serving: Serving, place: Place, person: str, text: str, stop: Event) -> Iterator[Reply]:
    """As turn.say; then, below the threshold, a teacher's completion in place of the student's."""
    engine, _ = serving.current()
    for reply in turn.say(settings, serving, place, person, text, stop):
        yield reply
    teachers = allowed_teachers(settings)
    if teachers and reply.status in COMPLETE and reply.text:
        yield from replacement(settings, teachers, engine, conversations.turn(settings.db, reply.turn_id), reply)


def allowed_teachers(settings: Settings) -> Teachers | None:
    """The teachers who may answer; None without a threshold. The student is trained on their answers, so their terms
    must allow it."""
    if not current(settings).delegate_below or not (teachers := teacher.load(settings.teachers, settings.db)):
        return None
    allowed = [t for t in teachers.all if t.may_teach]
    return Teachers(settings.db, allowed) if allowed else None


def replacement(settings: Settings, teachers: Teachers, engine: Engine, stored: Turn, reply: Reply) -> Iterator[Reply]:
    """A teacher's reply, liked in one feedback row, if the confidence is too low; a failed call leaves the
    student's."""
    (token_logprobs,) = engine.logprobs([stored.prompt], [(reply.text, reply.status == "finished", reply.thought)])
    logprob = float(np.mean(token_logprobs))
    conversations.finish_completion(settings.db, reply.completion_id, logprob=logprob)
    calibration = calibrate(settings.db)
    if not calibration.proven or calibration.probability(logprob) >= current(settings).delegate_below:
        return
    (answer,) = teachers.ask([stored.prompt], Sampling(current(settings).max_tokens), [0])
    if not answer.ok:
        return
    draft = by_teacher(answer, confidence=calibration.probability(logprob))
    id = conversations.add_draft(settings.db, stored.id, draft)
    feedback.add_feedback(
        settings.db, stored.id, rater=answer.teacher.name, channel="ranking", source="teacher", chosen_id=id
    )
    yield replace(reply, completion_id=id, text=answer.text, thought="", status=answer.status)


def calibrate(db: Path) -> Confidence:
    return confidence.fit(*feedback.rated_logprobs(db))
