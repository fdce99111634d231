"""Recipes: what a round elicits, from which pack, and by which method it trains. One small TOML file each.

about, pack, method            the prompts, and one of METHODS ("auto" chooses by the examples)
[[knowledge]] source = NAME    one or more of KNOWLEDGE, with its options
prompts, examples              number of prompts to elicit from; most examples to train on
passes, learning_rate          examples seen in training, counting repeats; peak of the learning rate
early_stop                     whether training ends when its direction has converged (methods/step_size.py)
select                         data selection if there are more examples: one of SELECTIONS; else the newest
start                          initial weights: champion, base, or auto (rounds/selection.py)
strength                       fraction of the step that the trust region allows: 0.5 is half-baked (Prompt Baking)
anchor                         weight of NLL(chosen) in the loss of dpo and its relatives; 0 is the papers' loss

May import knowledge (to know its sources), packs and storage.
"""

import math
import tomllib
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path

from kdloop import packs
from kdloop.knowledge import KNOWLEDGE
from kdloop.knowledge.curation import SELECTIONS
from kdloop.knowledge.labeling import TEMPLATES
from storage import files

RECIPES = Path(__file__).parent
SUITS = {"verified": packs.checked, "references": packs.answered}  # recipe -> on which other packs it is offered
STARTS = ("auto", "base", "champion")


@dataclass(frozen=True)
class Recipe:
    """The fields as above. Raises ValueError with the recipe's name and what is wrong with it."""

    name: str
    about: str = ""
    pack: str = "general"
    method: str = "auto"
    knowledge: tuple[dict, ...] = ()
    prompts: int = 32
    examples: int = 64
    passes: int = 56  # seven steps of 8; fewer examples are repeated for at most three epochs
    learning_rate: float = 3e-4  # the peak
    early_stop: bool = False
    start: str = "auto"
    strength: float = 1.0  # above 0, up to 1
    anchor: float = 4.0  # 0 or more; methods/lora.py has the same
    select: str = ""  # "" for the newest, or one of SELECTIONS

    def __post_init__(self):
        if error := next(filter(None, map(step_error, self.knowledge)), ""):
            raise ValueError(f"Recipe {self.name}: {error}")
        if self.start not in STARTS:
            raise ValueError(f"Recipe {self.name}: start {self.start!r}; one of {', '.join(STARTS)}")
        if not 0 < self.strength <= 1:
            raise ValueError(f"Recipe {self.name}: strength {self.strength}; above 0, up to 1")
        if not 0 <= self.anchor < math.inf:
            raise ValueError(f"Recipe {self.name}: anchor {self.anchor}; 0 or more")
        if self.select and self.select not in SELECTIONS:
            raise ValueError(f"Recipe {self.name}: select {self.select!r}; one of {', '.join(SELECTIONS)}")
        packs.load(self.pack)

    def as_dict(self) -> dict:
        return asdict(self)


def step_error(step: dict) -> str:
    """What is wrong with a [[knowledge]] table: an unknown source, option or template, or a value of another type; ""
    if nothing is.

    `inspect.signature` is the schema on purpose: a source is one function whose options are its keyword parameters. A
    second list of names and types would have to be kept in step with them all, and a decorator or class per source
    would hide them.
    """
    name = step.get("source")
    if name not in KNOWLEDGE:
        return f"no knowledge source {name!r}; there are {', '.join(KNOWLEDGE)}"
    _, _, *parameters = signature(KNOWLEDGE[name]).parameters.values()  # after context and tasks
    defaults = {p.name: p.default for p in parameters}
    for option, value in step.items():
        if option == "source":
            continue
        if option not in defaults:
            return f"{name} has no option {option!r}; there are {', '.join(defaults) or 'none'}"
        if option == "template" and value not in TEMPLATES:
            return f"{name} has no template {value!r}; there are {', '.join(TEMPLATES)}"
        if not same_type(value, defaults[option]):
            return f"{name}'s {option} = {value!r}, wanted something like {defaults[option]!r}"
    return ""


def same_type(value: object, default: object) -> bool:
    """Whether a TOML value has the default's type: an array is a tuple, and 1 may stand for 1.0."""
    if isinstance(value, bool):
        return False
    if isinstance(default, float):
        return isinstance(value, (int, float))
    return isinstance(value, (list, tuple)) if isinstance(default, tuple) else isinstance(value, type(default))


VOTES = Recipe(
    "votes",
    "People's votes, multiplied by the preference model.",
    knowledge=({"source": "best_of_n", "n": 8, "echoes": 12},),
    prompts=72,
    examples=120,
    passes=192,  # more, smaller steps have a less noisy direction, which allows a longer one (docs/log.md)
    learning_rate=2e-4,
    early_stop=True,
)


def names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def offered() -> list[str]:
    """The shipped recipes, and those of SUITS on every other pack that they suit."""
    return [*names(), *(f"{name}@{pack}" for name in SUITS for pack in other_packs(name))]


def other_packs(name: str) -> list[str]:
    own = load(name).pack
    return [pack for pack in packs.names() if pack != own and suits(name, pack)]


def suits(name: str, pack: str) -> bool:
    """Whether the pack has what the recipe learns from; no where it cannot be read, as by a package that is not
    installed."""
    try:
        return SUITS[name](pack)
    except ValueError:
        return False


def load(name: str) -> Recipe:
    """A shipped recipe, RECIPE@PACK for such a one on another pack, or a user's TOML file. Raises ValueError with what
    is wrong with it."""
    own_file = name.endswith(".toml")
    shipped, _, pack = (name, "", "") if own_file else name.partition("@")
    path = Path(name) if own_file else RECIPES / f"{shipped}.toml"
    if not path.is_file():
        raise ValueError(f"No recipe {shipped!r}; there are {', '.join(names())}, or give a TOML file")
    other = {"name": name, "pack": pack} if pack else {}
    try:
        return from_dict({"name": path.stem} | tomllib.loads(files.read_text(path)) | other)
    except (TypeError, tomllib.TOMLDecodeError) as error:  # an unknown field, a broken file
        raise ValueError(f"Recipe {path}: {error}") from error


def from_dict(values: dict) -> Recipe:
    """A recipe as a round has stored it."""
    return Recipe(**values | {"knowledge": tuple(values.get("knowledge", ()))})
