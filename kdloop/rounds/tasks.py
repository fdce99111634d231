"""Which prompts a round asks: the training ones while it elicits, the held-out ones at the gate."""

import random
from collections.abc import Sequence

from kdloop import packs
from kdloop.feedback.examples import Split, key
from kdloop.packs import Task
from kdloop.recipes import Recipe
from storage.conversations import Message, as_prompt
from storage.rounds import Round

# Of a pack's prompts with checks, how many the gate asks at most. A candidate that gets 35 % right where the champion
# gets 20 % passes the sign test in 83 % of such gates (simulated); with 64 prompts in 38 %.
GATE_TASKS = 160


def training_tasks(recipe: Recipe, split: Split, seed: int) -> list[Task]:
    """At most `recipe.prompts`: people's own newest prompts of the training part, unless the pack's checks ask for its
    own alone, then the pack's, shuffled by `seed`. None is one that a person's conversation holds out."""
    held_out = {key(e.prompt) for e in split.held_out}
    pack = list(packs.tasks(recipe.pack, "train"))
    random.Random(seed).shuffle(pack)
    asked_here = [e.prompt for e in split.train if e.source != "import"]
    own = [] if packs.checked(recipe.pack) else asked_here[-recipe.prompts // 2 :]
    asked_by_people = [Task(last["content"], before=tuple(before)) for *before, last in own]
    tasks = {key(t.messages): t for t in [*asked_by_people, *pack]}
    return [t for prompt, t in tasks.items() if prompt not in held_out][: recipe.prompts]


def gate_tasks(pack: str) -> list[Task]:
    """The pack's gate prompts whose completions can be checked. Where there are any, checks judge the candidate."""
    return [t for t in packs.tasks(pack, "gate") if t.verifiable][:GATE_TASKS]


def learned_tasks(line: Sequence[Round], recipe: Recipe) -> list[Task]:
    """Gate prompts with checks of the other packs that the champion has learned from in its `line` of rounds, as far
    as they have not been removed since."""
    learned, there = dict.fromkeys(r.recipe.get("pack", "general") for r in line), packs.names()
    return [t for pack in learned if pack != recipe.pack and pack in there for t in gate_tasks(pack)]


def gate_prompts(split: Split, n: int, seed: int) -> list[list[Message]]:
    """Up to 2 `n` prompts, drawn anew by `seed`: a quarter are of people's held-out ones, where there are that many,
    the rest of the pack's pool. A gate that is settled earlier asks fewer."""
    draw = random.Random(seed)
    own, pool = split.held_out_prompts, [as_prompt(q) for q in packs.gate_pool("general")]
    asked = draw.sample(own, min(len(own), n // 2))
    asked += draw.sample(pool, min(len(pool), 2 * n - len(asked)))
    draw.shuffle(asked)
    return asked
