"""Which examples a round trains on: what it elicited, people's votes, and some of what the champion learned before."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kdloop import packs
from kdloop.feedback.examples import VOTED, Example, Split, asks_any_of, from_feedback, relative_weights
from kdloop.knowledge.curation import SELECTIONS
from kdloop.methods import METHODS
from kdloop.methods.lora import Reward
from kdloop.packs import Task
from kdloop.raters import verifiers
from kdloop.raters.teacher import Teachers
from kdloop.recipes import VOTES, Recipe
from kdloop.student import Engine
from kdloop.student.template import Template
from storage import ancestry, checkpoints, rounds
from storage.checkpoints import Checkpoint
from storage.conversations import Message, as_prompt
from storage.rounds import Round

# Shares of a training's examples.
ELICITED_SHARE = 0.5  # of a recipe's own, where people's votes are there as well: neither outweighs the other
AI_SHARE_BESIDE_VOTES = 0.25  # of AI feedback in a round of votes: the preference model repeats what people said
REPLAYED_SHARE = 0.25  # of what earlier rounds have trained on: the round's own examples stay the majority
REPLAYED_ROUNDS = 8  # the champion's newest, whose examples are replayed: reading each goes through all feedback
TOO_LONG = "longer than the student reads"


def relevant(train: list[Example], recipe: Recipe, tasks: Sequence[Task]) -> list[Example]:
    """The examples that the recipe's round may learn from: where its pack has checks, none of people's votes, which
    are about other things, but what it elicited itself, and the bare prompts, for methods that sample by themselves."""
    if not packs.checked(recipe.pack):
        return train
    elicited = [e for e in train if e.round]
    completed = {e.question for e in elicited}
    prompts = [t.prompt for t in tasks if t.prompt not in completed]
    return [*(Example(as_prompt(p), None, None, "", (), "verifier") for p in prompts), *elicited]


def readable(split: Split, tokenizer, max_tokens: int, known: Split | None = None) -> Split:
    """The split without examples of more than `max_tokens` tokens, prompt and longest completion together: they are
    counted under TOO_LONG, and never cut. What `known` has kept already is not tokenized again."""
    short = {e.rows: e for e in (*known.train, *known.held_out)} if known else {}

    def fits(e: Example) -> bool:
        if short.get(e.rows) == e:
            return True
        template, completions = Template.of(tokenizer), [k.written for k in (*e.completions, *e.ranking)]
        longest = max((len(template.completion_ids(*one)) for one in completions), default=1)
        return len(template.prompt_ids(e.prompt)) + longest <= max_tokens

    kept = [[e for e in part if fits(e)] for part in (split.train, split.held_out)]
    left_out = len(split.train) + len(split.held_out) - sum(map(len, kept))
    dropped = Counter(split.dropped | {TOO_LONG: left_out} if left_out else split.dropped)
    return Split(*kept, dropped=dropped, read=split.read)


def too_long(split: Split, max_tokens: int) -> str:
    """A clause for the round's reason; "" where every example fits."""
    n = split.dropped[TOO_LONG]
    return f"; {n} left out, longer than the {max_tokens} tokens that the student reads" if n else ""


def by_checks(tasks: Sequence[Task]) -> Reward | None:
    """The share of a task's checks that a completion passes, as a reward; 0 for one that was cut: it might have gone on
    to something wrong. None where some task has no checks."""
    known = {t.prompt: t for t in tasks}
    if not tasks or not all(t.verifiable for t in tasks):
        return None

    def reward(prompt: list[Message], text: str, finished: bool) -> float:
        task = known.get(prompt[-1]["content"])
        return verifiers.score(task, text) if task and finished else 0.0

    return reward


def room_for_votes(recipe: Recipe) -> int:
    """How many votes a round trains on where it has elicited enough."""
    if packs.checked(recipe.pack):
        return 0
    share = AI_SHARE_BESIDE_VOTES if recipe.name == VOTES.name else ELICITED_SHARE
    return recipe.examples - round(share * recipe.examples) if recipe.knowledge else recipe.examples


def usable(method: str, examples: list[Example], seed: int) -> list[Example]:
    """What the method can use. Where its loss has no weight for an example, examples are drawn in proportion to their
    raters' weights: all of those that count most, half of those that count half as much. By their texts, so that the
    draw is the same again where a round is repeated."""
    fit = [e for e in examples if METHODS[method].usable(e)]
    if METHODS[method].weighs:
        return fit
    weighted = zip(fit, relative_weights(fit), strict=True)
    return [e for e, weight in weighted if random.Random(f"{seed} {said(e)}").random() < weight]


def said(e: Example) -> tuple:
    return e.question, *(k.said for k in e.completions)


def select(
    method: str, train: list[Example], recipe: Recipe, seed: int, student: Engine, teachers: Teachers | None
) -> list[Example]:
    """At most `recipe.examples` that the method can use: people's newest votes, then imported ones, and AI feedback as
    the recipe selects it. Either takes what the other leaves of its share."""
    newest_first = usable(method, train, seed)[::-1]
    votes = [e for source in VOTED for e in newest_first if e.source == source]
    elicited = [e for e in newest_first if e.source not in VOTED]
    votes = votes[: max(room_for_votes(recipe), recipe.examples - len(elicited))]
    room = recipe.examples - len(votes)
    if recipe.select and len(elicited) > room:
        elicited = SELECTIONS[recipe.select](elicited, room, student, teachers)
    return [*votes, *elicited[:room]]


def from_base(recipe: Recipe, votes: int, line: list[Round], adopted: bool = False) -> bool:
    """Does training start from the base? With "auto", where all votes fit into one round, so that nothing drifts, and
    the champion's `line` has learned from nothing else: from the base, a round would lose what recipes taught, or what
    an `adopted` adapter brought."""
    votes_alone = all(r.recipe.get("name", VOTES.name) == VOTES.name for r in line)
    return recipe.start == "base" or (
        recipe.start == "auto" and votes <= room_for_votes(recipe) and votes_alone and not adopted
    )


def line_of(db: Path, champion: Checkpoint) -> list[Round]:
    """The rounds that made the champion what it is, oldest first."""
    return [rounds.get_round(db, k.round_id) for k in ancestry.ancestors(db, champion) if k.round_id]


def is_adopted(db: Path, champion: Checkpoint) -> bool:
    """Is there an adapter in its line that no round here has trained?"""
    return any(k.path and not k.round_id for k in ancestry.ancestors(db, champion))


def trained_on(db: Path, round: Round) -> list[str]:
    return ancestry.trained_on(db, checkpoints.get_checkpoint(db, round.candidate_id))


def replay(
    db: Path,
    line: list[Round],
    method: str,
    chosen: list[Example],
    recipe: Recipe,
    seed: int,
    repeats: bool = False,
) -> list[Example]:
    """Beside what was chosen, some of what the line has trained on: REPLAYED_SHARE of the training (rehearsal, Robins
    1995), drawn by `seed`. None of it is retracted feedback, or held out by this round's pack. A round that `repeats`
    another one hears nothing that was said since."""
    held_out, already = packs.held_out(*{"general", recipe.pack}), {id for e in chosen for id in e.rows}
    found: dict[tuple, Example] = {}
    for earlier in line[-REPLAYED_ROUNDS:]:
        trained = set(trained_on(db, earlier)) - already
        among = rounds.rows_read(db, earlier.id) if repeats else None
        for e in from_feedback(db, earlier.id, earlier.recipe.get("pack", "general"), among=among).train:
            if trained.intersection(e.rows) and METHODS[method].usable(e) and not asks_any_of(e.prompt, held_out):
                found[e.rows] = e
    completed = sum(bool(e.completions) for e in chosen)  # the rest are bare prompts, for a reward
    n = round(completed * REPLAYED_SHARE / (1 - REPLAYED_SHARE))
    return random.Random(seed).sample(list(found.values()), min(n, len(found)))
