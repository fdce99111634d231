"""The training of a round: what is trained, how far its step goes, and the candidate that is written."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kdloop import packs
from kdloop.feedback.examples import Example
from kdloop.methods import IN_PARTS, METHODS, step_size
from kdloop.methods.lora import trainable_student
from kdloop.rounds import several, shorter
from kdloop.rounds.process import IN_ONE_GO
from kdloop.rounds.progress import Clock
from kdloop.rounds.setup import Setup, Version
from kdloop.settings import Settings
from kdloop.student import Engine
from kdloop.student.base import base_name
from kdloop.student.identity import identity, name_base
from kdloop.student.journal import Journal, OutOfTime
from kdloop.student.serving import fingerprint
from storage import checkpoints
from storage.checkpoints import Checkpoint
from storage.rounds import Round

CHOOSING_STEP_SIZE = "choosing the step size"  # shown on the Rounds tab
MAX_EPOCHS = 3  # however few the examples are that `Recipe.passes` is shared by


@dataclass(frozen=True)
class Lesson:
    """What is trained: `method` on `examples`, from the base or the champion on. `why` says so to people; `counts` are
    the round's."""

    method: str
    why: str
    examples: list[Example]
    at_base: bool
    counts: dict

    def origin(self, setup: Setup) -> Version:
        """The version that is trained further."""
        return setup.students.base if self.at_base else setup.students.champion


def train(setup: Setup, lesson: Lesson, clock: Clock, journal: Journal) -> tuple[Checkpoint, dict]:
    """(the candidate, published; the training's metrics). Raises NothingToLearn."""
    settings, recipe, base = setup.settings, setup.recipe, setup.students.base.engine
    origin = lesson.origin(setup)
    elsewhere = several.processes(settings, lesson.method) > 1
    model = trainable_student(base.source, origin.adapter, base.dtype, setup.round.seed, base.untrained, elsewhere)
    start = journal.once("start", lambda: step_size.parameters(model))  # another device would draw another one
    step_size.place(model, start, start, 0.0)

    def fitted() -> tuple[dict, step_size.Parameters]:
        metrics = fit(setup, lesson, model, step_size.parameters(model), clock, journal)
        return metrics, step_size.parameters(model)

    metrics, end = journal.once("trained", fitted)
    step_size.place(model, start, end, 1.0)
    clock.note(CHOOSING_STEP_SIZE)
    sampled = settings.round_max_tokens, settings.gate_prompts
    metrics |= step_size.settle(model, start, base, origin.engine, *sampled, recipe.strength)
    if disclaimer := packs.load(recipe.pack).disclaimer:
        metrics["disclaimer"] = disclaimer  # it holds for the version also when the pack is removed
    return publish(settings, setup.round, origin.checkpoint, model, base, lesson.method, metrics), metrics


def fit(setup: Setup, lesson: Lesson, model, start: step_size.Parameters, clock: Clock, journal: Journal) -> dict:
    """Train the model, which has the parameters `start`; the metrics. Raises NothingToLearn, and OutOfTime also where
    this part has an end and the method trains in one go."""
    recipe, tokenizer = setup.recipe, setup.students.base.engine.tokenizer
    plan = replace(setup.plan, epochs=min(MAX_EPOCHS, recipe.passes / len(lesson.examples)))
    if journal.folder and lesson.method in IN_PARTS:
        plan = replace(plan, journal=journal)
    elif journal.folder:
        journal.put(IN_ONE_GO, lesson.method)
        if journal.has_end:
            raise OutOfTime(f"{lesson.method} trains in one go, which is left to the round's own process")
    if several.processes(setup.settings, lesson.method) > 1:
        base, adapter = setup.students.base.engine, lesson.origin(setup).adapter
        what = lesson.method, lesson.examples, plan, base.source, adapter
        split = several.sharded()
        dtype = torch.bfloat16 if split else base.dtype  # on the GPUs; this process is on the CPU
        job = several.Job(setup.round.id, *what, dtype, recipe.early_stop, gpus=[], sharded=split)
        return several.train(setup.settings, job, model, start)
    on_step = step_size.DirectionEarlyStopping(model, start, clock.step) if recipe.early_stop else clock.step
    return METHODS[lesson.method].train(model, tokenizer, lesson.examples, plan, on_step)


def publish(
    settings: Settings, round: Round, parent: Checkpoint, model, base: Engine, method: str, metrics: dict
) -> Checkpoint:
    """Write the candidate; `metrics` gets the fingerprint that the serving side will check."""
    student = identity(base.source)

    def save(directory: Path) -> None:
        model.save_pretrained(directory, selected_adapters=["default"])
        name_base(directory, base_name(settings.student, settings.home))
        metrics["fingerprint"] = fingerprint(base.load(directory))

    about = {"method": method, "seed": round.seed, "metrics": metrics, "student": student}
    return checkpoints.publish(settings.db, round.id, save, parent_id=parent.id, **about)


def shortened(setup: Setup, lesson: Lesson, candidate: Checkpoint, clock: Clock, journal: Journal) -> Checkpoint:
    """The candidate with SHORTER of its step, published in its place."""
    clock.note(CHOOSING_STEP_SIZE)
    base, origin = setup.students.base.engine, lesson.origin(setup)
    written = checkpoints.adapter_dir(setup.settings.db, candidate)
    end = step_size.parameters(trainable_student(base.source, written, base.dtype, setup.round.seed, base.untrained))
    model = trainable_student(base.source, origin.adapter, base.dtype, setup.round.seed, base.untrained)
    start = journal.once("start", lambda: step_size.parameters(model))
    step_size.place(model, start, end, shorter.SHORTER)
    metrics = candidate.metrics | {"step scale": candidate.metrics["step scale"] * shorter.SHORTER}
    return publish(setup.settings, setup.round, origin.checkpoint, model, base, lesson.method, metrics)
