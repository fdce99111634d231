"""Generated prompts with their answers: by reasoning-gym (Stojanovski et al. 2025), or by a generator of our own."""

from dataclasses import replace

from kdloop.packs import part_of, split_key
from kdloop.packs.generators import by_part
from kdloop.packs.generators import generate as by_generator
from kdloop.packs.reading import Pack, Task

NEEDED = "The pack {name!r} needs reasoning-gym: pip install -r requirements-packs.txt"
DEFAULTS = {"size": 3000, "seed": 1, "options": {}}


def generate(pack: Pack) -> dict[str, tuple[Task, ...]]:
    """The distinct prompts of the pack's `source`, by part: {"dataset" or "generator", "size", "seed", "options"}.

    Raises ValueError with the remedy if reasoning-gym is not installed, or does not know the dataset or an option.
    """
    source = DEFAULTS | pack.source
    if "generator" in source:
        parts = by_generator(source["generator"], source["size"], source["seed"], source["options"])
    else:
        parts = by_part((part_of(split_key(pack, t.prompt)), t) for t in reasoning_gym_tasks(pack.name, source))
    return {part: tuple(replace(t, checks=(*pack.checks, *t.checks)) for t in tasks) for part, tasks in parts.items()}


def reasoning_gym_tasks(name: str, source: dict) -> list[Task]:
    try:
        import reasoning_gym
    except ModuleNotFoundError as error:
        raise ValueError(NEEDED.format(name=name)) from error
    try:
        how = {"size": source["size"], "seed": source["seed"]} | source["options"]
        dataset = reasoning_gym.create_dataset(source["dataset"], **how)
        return [Task(entry["question"].strip(), str(entry["answer"])) for entry in dataset]
    except (TypeError, ValueError, AssertionError, KeyError) as error:  # as its configurations complain
        raise ValueError(f"Pack {name}: reasoning-gym does not make this source: {error!r}") from error
