"""What comes first, last, or right after another step, by rules that say what has to be done before what: planning as
far as a small student goes (reasoning-gym's and tau2's puzzles are beyond it). No goal lies in two parts."""

import random
from collections.abc import Iterator
from itertools import pairwise

from kdloop.packs.generators.parted import parted
from kdloop.packs.reading import Task

PROMPT = """To {goal}, four things have to be done.

{rules}

{question} Reply with one of: {steps}.

Answer:"""
RULES = {
    "train": ('Do not "{b}" before you "{a}".', 'You have to "{a}" before you "{b}".', '"{b}" comes after "{a}".'),
    "gate": ('First "{a}", and then "{b}".', '"{a}" is needed to "{b}".'),
    "heldout": ('You can "{b}" once "{a}" is done.', '"{a}" comes earlier than "{b}".', 'Wait with "{b}" until "{a}".'),
}  # a before b
QUESTIONS = ("What is done first?", "What is done last?", 'What is done right after "{step}"?')
GOALS = (
    ("paint a door", ("take it down", "sand it", "prime it", "paint it")),
    ("bake bread", ("mix the dough", "let it rise", "shape a loaf", "bake the loaf")),
    ("plant a tree", ("dig a hole", "loosen the roots", "set the tree", "water it")),
    ("mend a tyre", ("take off the wheel", "find the leak", "glue a patch", "pump it up")),
    ("print a book", ("write the text", "lay out pages", "read the proofs", "print it")),
    ("hang a picture", ("mark the spot", "drill a hole", "set the plug", "turn in the screw")),
    ("wash a jumper", ("read the label", "fill the basin", "press the wool", "dry it flat")),
    ("travel by train", ("choose a day", "book a seat", "pack a bag", "board the train")),
    ("move house", ("give notice", "fill boxes", "load the van", "hand in keys")),
    ("make jam", ("pick berries", "boil them", "fill jars", "close the lids")),
    ("film a scene", ("learn the lines", "set up lights", "shoot it", "cut the film")),
    ("sell a bicycle", ("clean it", "take photos", "write an advert", "meet a buyer")),
    ("repair a roof", ("put up a ladder", "lift the tiles", "replace a beam", "lay new tiles")),
    ("knit a scarf", ("buy wool", "cast on", "knit the rows", "bind off")),
    ("open a shop", ("rent a room", "order goods", "hire staff", "open the door")),
    ("cook soup", ("peel carrots", "fry onions", "pour in stock", "season it")),
    ("hold a concert", ("book a hall", "sell tickets", "tune instruments", "play the pieces")),
    ("tile a wall", ("scrape it", "spread glue", "press on tiles", "fill the joints")),
    ("climb a hill", ("check the weather", "lace the boots", "follow the path", "rest on top")),
    ("make a shirt", ("take measures", "cut the cloth", "sew the seams", "iron it")),
    ("launch a boat", ("plug the drain", "back the trailer", "loosen the strap", "push off")),
    ("brew coffee", ("grind beans", "heat water", "wet the filter", "pour slowly")),
    ("write a report", ("gather figures", "draw a chart", "draft the text", "send it off")),
    ("keep bees", ("build a hive", "get a swarm", "feed the bees", "take the honey")),
)
PARTS = {"train": 12, "gate": 4, "heldout": 8}  # goals
EACH = {"train": 60, "gate": 50, "heldout": 35}  # prompts a goal


def tasks(draw: random.Random) -> Iterator[tuple[str, Task]]:
    for part, goals in parted(draw, GOALS, PARTS):
        for goal, steps in goals:
            for _ in range(EACH[part]):
                yield part, which_step(draw, goal, steps, RULES[part])


def which_step(draw: random.Random, goal: str, steps: tuple[str, ...], rules: tuple[str, ...]) -> Task:
    before = draw.randrange(len(steps) - 1)
    answer, question = draw.choice(
        ((steps[0], QUESTIONS[0]), (steps[-1], QUESTIONS[1]), (steps[before + 1], QUESTIONS[2]))
    )
    told = [draw.choice(rules).format(a=a, b=b) for a, b in pairwise(steps)]
    prompt = PROMPT.format(
        goal=goal,
        rules="\n".join(draw.sample(told, len(told))),
        question=question.format(step=steps[before]),
        steps=", ".join(draw.sample(steps, len(steps))),
    )
    return Task(prompt, answer, ({"check": "label", "options": sorted(steps)},))
