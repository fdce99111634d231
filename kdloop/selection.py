"""Which examples a round trains on: what it elicited, and people's votes; neither takes the other's share."""

from kdloop import packs
from kdloop.knowledge.curation import SELECTIONS
from kdloop.methods import METHODS
from kdloop.pairs import Example
from kdloop.recipes import VOTES, Recipe

ELICITED, BESIDE_VOTES = 0.5, 0.25  # shares of a training: a recipe's own examples; AI feedback beside people's votes


def relevant(train: list[Example], recipe: Recipe) -> list[Example]:
    """Where a pack's checks say what is right, people's votes are about other things: its round learns what it
    elicited alone."""
    return [e for e in train if e.round] if packs.load(recipe.pack).checks else train


def room_for_votes(recipe: Recipe) -> int:
    """How many votes a round trains on where it has elicited enough."""
    if packs.load(recipe.pack).checks:
        return 0
    share = BESIDE_VOTES if recipe.name == VOTES.name else ELICITED
    return recipe.examples - round(share * recipe.examples) if recipe.knowledge else recipe.examples


def select(method: str, train: list[Example], recipe: Recipe, champion) -> list[Example]:
    """What the method can use: people's newest votes, and AI feedback as the recipe selects it. Either takes what the
    other leaves of its share."""
    newest_first = [e for e in train if METHODS[method].usable(e)][::-1]
    said, elicited = (([e for e in newest_first if (e.source == "human") is human]) for human in (True, False))
    said = said[: max(room_for_votes(recipe), recipe.examples - len(elicited))]
    room = recipe.examples - len(said)
    if recipe.select and len(elicited) > room:
        elicited = SELECTIONS[recipe.select](elicited, room, champion)
    return [*said, *elicited[:room]]


def from_base(recipe: Recipe, votes: int) -> bool:
    """All votes that fit into one round are learned from the base, without drift."""
    return recipe.start == "base" or (recipe.start == "auto" and votes <= room_for_votes(recipe))
