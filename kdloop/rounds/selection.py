"""Which examples a round trains on: what it elicited, people's votes, and some of what the champion learned before."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kdloop import packs
from kdloop.feedback.examples import Example, Split, asks_any_of, from_feedback, relative_weights
from kdloop.knowledge.curation import SELECTIONS
from kdloop.methods import METHODS
from kdloop.methods.lora import Reward
from kdloop.packs import Task
from kdloop.raters import verifiers
from kdloop.raters.teacher import Teachers
from kdloop.recipes import VOTES, Recipe
from kdloop.student import Engine
from kdloop.student.prompts import completion_ids, prompt_ids
from storage import ancestry, checkpoints, rounds
from storage.checkpoints import Checkpoint
from storage.conversations import Message, as_prompt
from storage.rounds import Round

ELICITED, BESIDE_VOTES = 0.5, 0.25  # shares of a training: a recipe's own examples; AI feedback beside people's votes
REPLAYED = 0.25  # share of examples that earlier rounds have trained on
TOO_LONG = "longer than the student reads"
REMEMBERED = 8  # so many of the champion's rounds are replayed


def relevant(train: list[Example], recipe: Recipe, tasks: Sequence[Task]) -> list[Example]:
    """Where a pack's checks say what is right, people's votes are about other things: its round learns what it
    elicited alone, and the prompts themselves, for methods that write their own completions."""
    if not packs.load(recipe.pack).checks:
        return train
    elicited = [e for e in train if e.round]
    answered = {e.question for e in elicited}
    prompts = [t.prompt for t in tasks if t.prompt not in answered]
    return [*(Example(as_prompt(p), None, None, "", (), "verifier") for p in prompts), *elicited]


def readable(split: Split, tokenizer, most: int) -> Split:
    """Without examples of more than `most` tokens, prompt and longest completion together: these are counted, and never
    cut. `most` is the chat's context."""

    def fits(e: Example) -> bool:
        said = [k.said for k in (*e.completions, *e.ranking)]
        longest = max((len(completion_ids(tokenizer, *one)) for one in said), default=1)
        return len(prompt_ids(tokenizer, e.prompt)) + longest <= most

    kept = [[e for e in part if fits(e)] for part in (split.train, split.held_out)]
    left_out = len(split.train) + len(split.held_out) - sum(map(len, kept))
    return Split(*kept, dropped=Counter(split.dropped | {TOO_LONG: left_out} if left_out else split.dropped))


def too_long(split: Split, most: int) -> str:
    """A clause for the round's reason; "" where all fit."""
    n = split.dropped[TOO_LONG]
    return f"; {n} left out, longer than the {most} tokens that the student reads" if n else ""


def by_checks(tasks: Sequence[Task]) -> Reward | None:
    """What the tasks' checks give a completion, nothing for one that was cut: it might have gone on to something wrong.
    None where some task has no checks."""
    known = {t.prompt: t for t in tasks}
    if not tasks or not all(t.verifiable for t in tasks):
        return None

    def reward(prompt: list[Message], text: str, finished: bool) -> float:
        task = known.get(prompt[-1]["content"])
        return verifiers.score(task, text) if task and finished else 0.0

    return reward


def room_for_votes(recipe: Recipe) -> int:
    """How many votes a round trains on where it has elicited enough."""
    if packs.load(recipe.pack).checks:
        return 0
    share = BESIDE_VOTES if recipe.name == VOTES.name else ELICITED
    return recipe.examples - round(share * recipe.examples) if recipe.knowledge else recipe.examples


def usable(method: str, examples: list[Example], seed: int) -> list[Example]:
    """What the method can use. Where its loss has no weights for rows, these are drawn in proportion to their raters'
    weights: the greatest weight's all, half of those that count half."""
    fit = [e for e in examples if METHODS[method].usable(e)]
    if METHODS[method].weighs:
        return fit
    drawn = zip(fit, relative_weights(fit), strict=True)
    return [e for e, weight in drawn if random.Random(f"{seed} {e.rows}").random() < weight]


def select(
    method: str, train: list[Example], recipe: Recipe, seed: int, student: Engine, teachers: Teachers | None
) -> list[Example]:
    """What the method can use: people's newest votes, and AI feedback as the recipe selects it. Either takes what the
    other leaves of its share."""
    newest_first = usable(method, train, seed)[::-1]
    said, elicited = (([e for e in newest_first if (e.source == "human") is human]) for human in (True, False))
    said = said[: max(room_for_votes(recipe), recipe.examples - len(elicited))]
    room = recipe.examples - len(said)
    if recipe.select and len(elicited) > room:
        elicited = SELECTIONS[recipe.select](elicited, room, student, teachers)
    return [*said, *elicited[:room]]


def from_base(recipe: Recipe, votes: int, line: list[Round]) -> bool:
    """All votes that fit into one round are learned from the base, without drift: where the champion has learned from
    nothing but votes. From the base, a round would lose what recipes have taught it."""
    votes_alone = all(r.recipe.get("name", VOTES.name) == VOTES.name for r in line)
    return recipe.start == "base" or (recipe.start == "auto" and votes <= room_for_votes(recipe) and votes_alone)


def line_of(db: Path, champion: Checkpoint) -> list[Round]:
    """The rounds that made the champion what it is, oldest first."""
    return [rounds.get_round(db, k.round_id) for k in ancestry.ancestors(db, champion) if k.round_id]


def trained_on(db: Path, round: Round) -> list[str]:
    return ancestry.trained_on(db, checkpoints.get_checkpoint(db, round.candidate_id))


def replay(db: Path, line: list[Round], method: str, chosen: list[Example], recipe: Recipe, seed: int) -> list[Example]:
    """Beside what was chosen, some of what the line has trained on: REPLAYED of the training (rehearsal, Robins 1995).

    Drawn by `seed`; neither what people have taken back nor what this round's pack holds out is among it.
    """
    held_out, known = packs.held_out(*{"general", recipe.pack}), {id for e in chosen for id in e.rows}
    found: dict[tuple, Example] = {}
    for earlier in line[-REMEMBERED:]:
        trained = set(trained_on(db, earlier)) - known
        for e in from_feedback(db, earlier.id, earlier.recipe.get("pack", "general")).train:
            if trained.intersection(e.rows) and METHODS[method].usable(e) and not asks_any_of(e.prompt, held_out):
                found[e.rows] = e
    n = round(sum(bool(e.completions) for e in chosen) * REPLAYED / (1 - REPLAYED))  # a reward knows no other prompts
    return random.Random(seed).sample(list(found.values()), min(n, len(found)))
