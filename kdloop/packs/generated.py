"""Generated prompts with their answers: by reasoning-gym (Stojanovski et al. 2025), or by a generator of our own."""

from kdloop.packs.reading import Pack, Task

NEEDED = "The pack {name!r} needs reasoning-gym: pip install -r requirements-packs.txt"


def generate(pack: Pack) -> list[Task]:
    """The distinct prompts of the pack's `source`: {"dataset" or "generator", "size", "seed", "options"}.

    Raises ValueError with the remedy if reasoning-gym is not installed, or does not know the dataset or an option.
    """
    source = {"size": 3000, "seed": 1, "options": {}} | pack.source
    found: dict[str, Task] = {}
    for task in reasoning_gym_tasks(pack.name, source):
        found.setdefault(task.prompt, Task(task.prompt, task.answer, (*pack.checks, *task.checks)))
    return list(found.values())


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
