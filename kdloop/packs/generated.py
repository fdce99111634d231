"""Generated prompts with their answers, by reasoning-gym (Stojanovski et al. 2025)."""

from kdloop.packs import Pack, Task

NEEDED = "The pack {name!r} needs reasoning-gym: pip install -r requirements-packs.txt"


def generate(pack: Pack) -> list[Task]:
    """The distinct prompts of the pack's `source`: {"dataset", "size", "seed", "options"}.

    Raises ValueError with the remedy if reasoning-gym is not installed.
    """
    try:
        import reasoning_gym
    except ModuleNotFoundError as error:
        raise ValueError(NEEDED.format(name=pack.name)) from error
    source = {"size": 3000, "seed": 1, "options": {}} | pack.source
    dataset = reasoning_gym.create_dataset(
        source["dataset"], size=source["size"], seed=source["seed"], **source["options"]
    )
    seen: dict[str, Task] = {}
    for entry in dataset:
        prompt = entry["question"].strip()
        seen.setdefault(prompt, Task(prompt, entry["answer"], pack.checks))
    return list(seen.values())
