"""What a round needs, put together once and handed down: the students, the rater, the recipe, its prompts, the plan."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kdloop import packs, recipes
from kdloop.feedback.examples import Split
from kdloop.gate.spending import Turn
from kdloop.gate.verdict import require_a_judge
from kdloop.knowledge import feature
from kdloop.knowledge.rows import SourceContext
from kdloop.methods import choose, require
from kdloop.methods.lora import RANK, Plan
from kdloop.packs import Task
from kdloop.raters import judge, teacher
from kdloop.raters.preference_model import PreferenceModel, of_people, people_said, proven
from kdloop.recipes import Recipe
from kdloop.rounds.progress import Clock
from kdloop.rounds.selection import by_checks, line_of
from kdloop.rounds.several import require_shareable
from kdloop.rounds.tasks import gate_tasks, training_tasks
from kdloop.settings import Settings
from kdloop.student import Engine, Sampling
from kdloop.student.base import find_student
from kdloop.student.engines import chosen, open_engine
from kdloop.student.footprint import require_room
from kdloop.student.identity import identity
from kdloop.student.journal import Journal, JournaledEngine
from kdloop.student.remote import RemoteSampling
from kdloop.student.transformers import TransformersEngine, device_and_dtype
from storage import checkpoints, files, rounds
from storage.checkpoints import Checkpoint
from storage.rounds import Round

if TYPE_CHECKING:  # OpenAI's client is loaded where a server answers
    from kdloop.student.openai import OpenAIEngine
    from kdloop.student.servers import VLLM


@dataclass(frozen=True)
class Version:
    """A checkpoint, its engine, and the directory of its adapter (None for the base)."""

    checkpoint: Checkpoint
    engine: TransformersEngine
    adapter: Path | None = None


@dataclass(frozen=True)
class Students:
    """The untrained student, and the champion of when the round was queued (of a repeated round: what is trained
    further); before any promotion they are one."""

    base: Version
    champion: Version

    @property
    def writers(self) -> tuple[tuple[Engine, Checkpoint], ...]:
        """Who may write completions, each once, the champion first."""
        versions = [self.champion] if self.champion.engine is self.base.engine else [self.champion, self.base]
        return tuple((v.engine, v.checkpoint) for v in versions)


@dataclass(frozen=True)
class Setup:
    """`method` may be "auto"; `checked` are the gate's prompts with checks, `line` the champion's rounds, and `turn`
    says which gate this one has."""

    settings: Settings
    round: Round
    students: Students
    line: list[Round]
    rater: PreferenceModel | None
    recipe: Recipe
    method: str
    tasks: list[Task]
    checked: list[Task]
    plan: Plan
    context: SourceContext
    turn: Turn

    @property
    def reliability(self) -> dict[str, float]:
        """How much each rater's votes count; {} where the preference model cannot say."""
        return self.rater.reliability if proven(self.rater) else {}


@contextmanager
def untrained_student(settings: Settings, journal: Journal | None = None) -> Iterator[TransformersEngine]:
    """The student before any training. Where a vLLM or SGLang serves it, that server samples for the round, too, and
    has none of the round's adapters afterwards. Raises NoStudent, NoRoom, EngineUnavailable, WrongWeights."""
    source, (device, dtype) = find_student(settings.student, settings.home), device_and_dtype()
    require_room(source, RANK, dtype, device, 2 * settings.round_max_tokens, settings.bits)
    how = {"dtype": dtype, "bits": settings.bits, "thinks": settings.thinking}
    remote = cast("OpenAIEngine", open_engine(settings)) if chosen(settings) == "openai" else None
    if not remote or not remote.server.takes_adapters:
        if remote:
            print("This server takes adapters at its start only: the round samples with transformers", flush=True)
        kept = journal and journal.folder
        yield JournaledEngine(journal, source, **how) if kept else TransformersEngine(source, **how)
        return
    with files.scratch(settings.home / "checkpoints" / "trained") as folder:
        try:
            yield RemoteSampling(source, remote, folder, **how)
        finally:
            cast("VLLM", remote.server).unload()


def load_students(settings: Settings, champion_id: int, engine: TransformersEngine) -> Students:
    """`engine` is the untrained student's. Raises BrokenCheckpoint or OtherStudent, saying what to do."""
    base = Version(checkpoints.base(settings.db), engine)
    champion = checkpoints.get_checkpoint(settings.db, champion_id)
    adapter = checkpoints.adapter_dir(settings.db, champion, identity(engine.source))
    return Students(base, Version(champion, engine.load(adapter) if adapter else engine, adapter))


def put_together(settings: Settings, round: Round, students: Students, split: Split, clock: Clock) -> Setup:
    """Raises NothingToLearn or CannotDecide where it is clear from the start that nothing can be trained, or judged."""
    if not round.recipe:
        choose(round.requested, split.train)
    rater = of_people(split)
    recipe = recipe_of(round, rater)
    tasks, checked = training_tasks(recipe, split, round.seed), gate_tasks(recipe.pack)
    plan = plan_of(settings, round, rater, recipe, tasks)
    method = recipe.method if round.requested == "auto" else round.requested
    require(method, plan)
    require_shareable(method)
    turn = turn_of(settings, round, students)
    if not checked and not round.replays:
        require_a_judge(rater, split, turn)
    context = source_context(settings, round, recipe, students, rater, split, clock)
    line = line_of(settings.db, students.champion.checkpoint)
    return Setup(settings, round, students, line, rater, recipe, method, tasks, checked, plan, context, turn)


def turn_of(settings: Settings, round: Round, students: Students) -> Turn:
    champion = students.champion.checkpoint
    number = 1 + rounds.gates_since(settings.db, champion.id, round.id)
    return Turn(number, champion.version, round.seed)


def recipe_of(round: Round, rater: PreferenceModel | None) -> Recipe:
    """The round's own; without one, people's votes, beside pairs by the preference model where that is proven."""
    if round.recipe:
        return recipes.from_dict(round.recipe)
    return recipes.VOTES if proven(rater) else replace(recipes.VOTES, knowledge=())


def plan_of(settings: Settings, round: Round, rater: PreferenceModel | None, recipe: Recipe, tasks: list[Task]) -> Plan:
    """The reward is the tasks' checks where each has some, else a proven preference model's score."""
    features, writes = feature.folder(settings.db), any(step["source"] == "features" for step in recipe.knowledge)
    score, checks = rater.reward if proven(rater) else None, by_checks(tasks)
    return Plan(
        round.seed,
        learning_rate=recipe.learning_rate,
        max_tokens=packs.load(recipe.pack).max_tokens or settings.round_max_tokens,
        max_length=settings.context_tokens,
        teachers=tuple(filter(None, settings.teacher_models.split(","))),
        stored=features if writes or features.is_dir() else None,
        system=settings.bake,
        reward=checks or score,
        right=1.0 if checks else 0.0,  # all checks hold; the preference model's zero is the average completion
        anchor=recipe.anchor,
    )


def source_context(
    settings: Settings,
    round: Round,
    recipe: Recipe,
    students: Students,
    rater: PreferenceModel | None,
    split: Split,
    clock: Clock,
) -> SourceContext:
    """What the recipe's sources may use. The champion alone writes where training continues from it."""
    pack, teachers = packs.load(recipe.pack), teacher.load(settings.teachers, settings.db)
    known, before = rounds.list_rounds(settings.db), round.replays or round.id
    earlier = [r for r in known if r.id < before and r.recipe.get("name") == recipe.name]
    return SourceContext(
        settings.db,
        round,
        students.writers[:1] if recipe.start == "champion" else students.writers,
        Sampling(pack.max_tokens or settings.round_max_tokens),
        pack,
        rater,
        teachers,
        teachers and judge.Judge(teachers, teachers.all[0], pack.rubric),
        people_said(split),
        sum(r.status == "promoted" for r in earlier),
        settings.hindsight == "on",
        clock.step,
    )
