"""Prompts that a generator writes, with their answers: reasoning-gym (Stojanovski et al. 2025), from PyPI."""

from kdloop.packs import Pack, Task

NEEDED = "The pack {name!r} needs reasoning-gym: pip install -r requirements-packs.txt"


def generate(pack: Pack) -> list[Task]:
    """`source` is {"dataset", "size", "seed", "options"}; repeated prompts are left out.

    Raises ValueError with the remedy where reasoning-gym is missing.
    """
    try:
        import reasoning_gym
    except ModuleNotFoundError as error:
        raise ValueError(NEEDED.format(name=pack.name)) from error
    source = {"size": 3000, "seed": 1, "options": {}} | pack.source
    drawn = reasoning_gym.create_dataset(
        source["dataset"], size=source["size"], seed=source["seed"], **source["options"]
    )
    seen: dict[str, Task] = {}
    for entry in drawn:
        prompt = entry["question"].strip()
        seen.setdefault(prompt, Task(prompt, entry["answer"], pack.checks))
    return list(seen.values())
