"""One round: elicit -> select -> train -> gate -> promote | reject. Runs in the trainer's own process."""

import random
import time
from contextlib import contextmanager
from dataclasses import replace

from kdloop import packs, recipes
from kdloop.feedback.examples import Example, Split, from_feedback, key, trusted
from kdloop.gate.verdict import CannotDecide, decide, require_a_judge
from kdloop.knowledge import elicit, feature
from kdloop.knowledge.rows import Refused, SourceContext
from kdloop.knowledge.self_knowledge import NO_DRIFT_LIMIT, best_of_n
from kdloop.methods import METHODS, NothingToLearn, choose, require, step_size
from kdloop.methods.lora import Plan, trainable_student
from kdloop.packs import Task
from kdloop.raters import judge, preference_model, teacher
from kdloop.raters.preference_model import PreferenceModel
from kdloop.recipes import Recipe
from kdloop.rounds.selection import by_checks, from_base, line_of, readable, relevant, replay, select, too_long
from kdloop.settings import Settings
from kdloop.student import Engine, Sampling
from kdloop.student.base import base_name, find_student
from kdloop.student.identity import identity, name_base
from kdloop.student.serving import fingerprint
from kdloop.student.transformers import TransformersEngine, device_and_dtype
from storage import checkpoints, rounds
from storage.checkpoints import Checkpoint
from storage.conversations import as_prompt
from storage.rounds import Round

CHECKED = 160  # prompts of a pack with checks that the gate asks
CONTESTED = 8  # prompts on which people may compare a refused candidate with the champion
SETTLING = "measuring how far the training may be followed"
ALIKE = 0.51  # the rater's probability, below which the two say the same


def run(settings: Settings, round: Round) -> None:
    """Carry a queued round to its end. Raises what goes wrong; the trainer process records it."""
    db, clock = settings.db, Clock(settings, round)
    sampling = Sampling(settings.round_max_tokens)
    parent, untrained = checkpoints.get_checkpoint(db, round.base_id), checkpoints.lineage(db)[0]
    base = TransformersEngine(find_student(settings.student, settings.home), dtype=device_and_dtype()[1])
    adapter = checkpoints.adapter_dir(db, parent, identity(base.source))
    origin = champion = base.load(adapter) if adapter else base

    with clock.phase("eliciting"):
        split = readable(from_feedback(db), base.tokenizer, settings.context_tokens)
        try:
            if not round.recipe:
                choose(round.requested, split.train)
            rater = fit_rater(split)
            recipe = recipe_of(round, rater)
            asked, judged = training_tasks(recipe, split, round.seed), gate_tasks(recipe.pack)
            plan = plan_of(settings, round, rater, recipe, asked)
            require(requested(round, recipe), plan)
            if not judged:
                require_a_judge(rater, split)
            writers = ((champion, parent),) if champion is base else ((champion, parent), (base, untrained))
            context = source_context(settings, round, recipe, writers, rater, split, clock)
            elicited = elicit(context, asked, recipe.knowledge)
            split = from_feedback(db, round.id, recipe.pack)
            split = readable(split, base.tokenizer, settings.context_tokens)
            reliability = rater.reliability if rater and rater.skill.proven else {}
            train = trusted(relevant(split.train, recipe, asked), reliability)
            method, why = choose(requested(round, recipe), train, split.dropped["contradictory"])
            chosen = select(method, train, recipe, round.seed, champion, context.teachers)
        except (NothingToLearn, CannotDecide, Refused) as refusal:
            return refuse(db, round, split, f"{refusal}{too_long(split, settings.context_tokens)}")
    line, afresh = line_of(db, parent), recipe.start == "auto"
    at_base = from_base(recipe, len(people_said(split)), line)
    replayed = [] if at_base and afresh else replay(db, line, method, chosen, recipe, round.seed)
    examples = [*chosen, *trusted(replayed, reliability)]
    record_rows(db, round, examples, split)
    if at_base:
        origin, parent, adapter = base, untrained, None

    known, why = counts(split, examples, elicited) | {"replayed": len(replayed)}, explain(why, rater)
    why += too_long(split, settings.context_tokens)
    with clock.phase("training", method=method, why=why, counts=known):
        model = trainable_student(base.source, adapter, base.dtype, round.seed, base.untrained)
        start, plan = step_size.parameters(model), replace(plan, epochs=min(3, recipe.passes / len(examples)))
        try:
            on_step = step_size.DirectionEarlyStopping(model, start, clock.steps) if recipe.early_stop else clock.steps
            metrics = METHODS[method].train(model, base.tokenizer, examples, plan, on_step)
        except NothingToLearn as refusal:  # what a method samples itself, it sees only now
            return refuse(db, round, split, str(refusal), "training")
        clock.note(SETTLING)
        most = settings.round_max_tokens, settings.gate_prompts
        metrics |= step_size.settle(model, start, base, origin, *most, recipe.strength)
        candidate = publish(settings, round, parent, model, base, method, metrics)

    with clock.phase("gating", metrics=metrics):
        engine = base.load(checkpoints.adapter_dir(db, candidate))
        prompts = gate_prompts(split, settings.gate_prompts)
        learned = learned_tasks(line, recipe)
        verdict = decide(engine, champion, base, split, prompts, rater, sampling, round.seed, judged, learned)
        if not verdict.passed:
            ask_people(context, engine, candidate)
    end = {"verdict": verdict.as_dict(), "seconds": clock.seconds}
    if verdict.passed:
        checkpoints.promote(db, candidate.id, round.id, **end)
    else:
        checkpoints.reject(db, candidate.id, round.id, **end)


class Clock:
    """Writes the round's status and progress, and keeps the seconds of each phase."""

    def __init__(self, settings: Settings, round: Round):
        self.db, self.round, self.seconds, self.name, self.begun = settings.db, round, {}, "", 0.0

    @contextmanager
    def phase(self, status: str, **values):
        rounds.advance(self.db, self.round.id, status, **values)
        self.name, self.begun = status, time.monotonic()
        self.steps(0, 1)
        yield
        self.seconds[{"eliciting": "elicit", "training": "train", "gating": "gate"}[status]] = round_to(
            time.monotonic() - self.begun
        )

    def note(self, note: str) -> None:
        """What is done now, where it has no steps to count."""
        rounds.note_progress(self.db, self.round.id, self.name, 1, 1, note=note)

    def steps(self, step: int, steps: int, loss: float | None = None) -> None:
        if step <= 1:
            self.first = time.monotonic()  # what came before, loading and reference log-probs, is not the steps' pace
        eta = (time.monotonic() - self.first) / (step - 1) * (steps - step) if step > 1 else None
        rounds.note_progress(self.db, self.round.id, self.name, step, steps, loss=loss, eta_seconds=eta)


def round_to(seconds: float) -> float:
    return float(f"{seconds:.1f}")


def fit_rater(split: Split) -> PreferenceModel | None:
    human = people_said(split)
    return preference_model.fit(human, split.held_out) if len(human) >= 4 else None


def people_said(split: Split) -> list[Example]:
    return [e for e in split.train if e.source == "human"]


def refuse(db, round: Round, split: Split, reason: str, at: str = "eliciting") -> None:
    """No candidate: what there is cannot be learned from, or could not be judged."""
    verdict = {"passed": False, "reason": f"Rejected before training: {reason}", "n": 0, "guards": {}}
    record_rows(db, round, split.train, split)
    rounds.advance(db, round.id, at, verdict=verdict, counts=counts(split, [], {}))
    rounds.finish_round(db, round.id, "rejected")


def plan_of(settings: Settings, round: Round, rater: PreferenceModel | None, recipe: Recipe, tasks: list[Task]) -> Plan:
    """The reward is the tasks' checks' where they have such, else a proven preference model's."""
    features, writes = feature.folder(settings.db), any(step["source"] == "features" for step in recipe.knowledge)
    liking, checks = rater.reward if rater and rater.skill.proven else None, by_checks(tasks)
    return Plan(
        round.seed,
        learning_rate=recipe.learning_rate,
        max_tokens=packs.load(recipe.pack).max_tokens or settings.round_max_tokens,
        max_length=settings.context_tokens,
        teachers=tuple(filter(None, settings.teacher_models.split(","))),
        stored=features if writes or features.is_dir() else None,
        system=settings.bake,
        reward=checks or liking,
        right=1.0 if checks else 0.0,  # all checks; what the preference model finds better than the average
        anchor=recipe.anchor,
    )


def recipe_of(round: Round, rater: PreferenceModel | None) -> Recipe:
    """The round's own; without one, people's votes, multiplied where the preference model is proven."""
    if round.recipe:
        return recipes.from_dict(round.recipe)
    return recipes.VOTES if rater and rater.skill.proven else replace(recipes.VOTES, knowledge=())


def requested(round: Round, recipe: Recipe) -> str:
    return recipe.method if round.requested == "auto" else round.requested


def source_context(
    settings: Settings, round: Round, recipe: Recipe, writers, rater, split: Split, clock: "Clock"
) -> SourceContext:
    """What the recipe's sources may use. The champion alone writes where training goes on from it."""
    pack, teachers = packs.load(recipe.pack), teacher.load(settings.teachers, settings.db)
    return SourceContext(
        settings.db,
        round,
        writers[:1] if recipe.start == "champion" else writers,
        Sampling(pack.max_tokens or settings.round_max_tokens),
        pack,
        rater,
        teachers,
        teachers and judge.Judge(teachers, teachers.all[0], pack.rubric),
        people_said(split),
        sum(r.recipe.get("name") == recipe.name and r.status == "promoted" for r in rounds.list_rounds(settings.db)),
        clock.steps,
    )


def training_tasks(recipe: Recipe, split: Split, seed: int) -> list[Task]:
    """People's own prompts of the training part first, where nothing has to be checked, then the pack's."""
    held_out = {key(e.prompt) for e in split.held_out}
    pack = list(packs.tasks(recipe.pack, "train"))
    random.Random(seed).shuffle(pack)
    own = [] if packs.load(recipe.pack).checks else [e.prompt for e in split.train][-recipe.prompts // 2 :]
    followed = [Task(last["content"], before=tuple(before)) for *before, last in own]
    tasks = {key(t.messages): t for t in [*followed, *pack]}
    return [t for asked, t in tasks.items() if asked not in held_out][: recipe.prompts]


def gate_tasks(pack: str) -> list[Task]:
    """The gate's prompts whose completions can be checked: where there are any, checks judge the candidate."""
    return [t for t in packs.tasks(pack, "gate") if t.verifiable][:CHECKED]


def learned_tasks(line: list[Round], recipe: Recipe) -> list[Task]:
    """Prompts with checks of the other packs that the champion has learned from."""
    before = dict.fromkeys(r.recipe.get("pack", "general") for r in line)
    return [t for name in before if name != recipe.pack for t in gate_tasks(name)]


def ask_people(context: SourceContext, engine: Engine, candidate: Checkpoint) -> None:
    """A refused candidate beside the champion, on prompts that may be learned from: pairs for the Teach tab. There has
    to be an AI choice to check: none without a proven preference model."""
    if context.rater and context.rater.skill.proven:
        tasks = random.Random(context.round.seed).sample(packs.tasks("general", "train"), CONTESTED)
        both = replace(context, writers=((engine, candidate), context.writers[0]))
        best_of_n(both, tasks, n=2, sure=ALIKE, astray=NO_DRIFT_LIMIT)


def record_rows(db, round: Round, examples: list[Example], split: Split) -> None:
    rows = [[id for e in part for id in (*e.rows, *e.outvoted)] for part in (examples, split.held_out)]
    rounds.use_feedback(db, round.id, *rows)


def counts(split: Split, examples: list[Example], elicited: dict[str, int]) -> dict:
    ai, dropped = sum(e.source != "human" for e in examples), dict(split.dropped)
    held_out = len(split.held_out)
    return {"train": len(examples), "ai": ai, "held_out": held_out, "dropped": dropped, "elicited": elicited}


def explain(why: str, rater: PreferenceModel | None) -> str:
    return f"{why}. People seem to like {', '.join(rater.strongest())}" if rater and rater.skill.proven else why


def publish(settings: Settings, round: Round, parent, model, base, method: str, metrics: dict):
    """Write the candidate with the fingerprint that the serving side will check."""
    student = identity(base.source)

    def save(directory):
        model.save_pretrained(directory, selected_adapters=["default"])
        name_base(directory, base_name(settings.student, settings.home))
        metrics["fingerprint"] = fingerprint(base.load(directory))

    known = {"method": method, "seed": round.seed, "metrics": metrics, "student": student}
    return checkpoints.publish(settings.db, round.id, save, parent_id=parent.id, **known)


def gate_prompts(split: Split, n: int) -> list[list]:
    """People's held-out prompts, filled up with the pack's."""
    pack = [as_prompt(q) for q in packs.prompts("general", "gate")]
    return (split.held_out_prompts[-n // 2 :] + pack)[:n]
