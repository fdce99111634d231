"""Which of two replies to a message is better: the student as the judge (survey 2.1.3, PandaLM's task). One of them
answers; the other is about something else, says the message again, or breaks off. Each pair is asked in both orders, as
one group: who always says "first" has half of the prompts right, and no group. A message is in one part alone."""

import random
from collections.abc import Iterator

from kdloop.packs.generators.parted import parted
from kdloop.packs.reading import Task

PROMPT = """Two assistants have replied to a message. Say which reply is better, the first or the second.

Message: {message}

First reply: {first}

Second reply: {second}

The better reply is the"""
ORDERS = ("first", "second")
ECHO = ("{message} That is a good question.", "You ask: {message}")
TOPICS = (  # a message, two replies that answer it
    ("How do I keep bread fresh?", "Wrap it in a cloth, and freeze what you will not eat within two days.",
     "A wooden box keeps it best; the fridge makes it stale."),
    ("Why is the sky blue?", "Air scatters blue light more than red, so blue comes to us from all sides.",
     "Sunlight holds all colours, and the tiny parts of the air send its blue around most."),
    ("What helps against hiccups?", "Hold your breath for ten seconds and swallow twice.",
     "Drink a glass of cold water in small sips without a pause."),
    ("Which tree grows fastest in a small garden?", "A birch gains half a metre a year and stays slender.",
     "Take a willow that is cut back each spring: it shoots up within a season."),
    ("How long should I boil an egg?", "Six minutes for a soft yolk, ten for a hard one.",
     "Count from when the water bubbles: about seven minutes leave the middle creamy."),
    ("How can I remember names?", "Say the name aloud when you hear it, and tie it to something in the face.",
     "Write down whom you met in the evening, with one detail about each."),
    ("What do I need for a picnic?", "A blanket, a knife, plates, something cold to drink, and food for the fingers.",
     "Pack sandwiches, fruit, napkins, and a bag for the rubbish."),
    ("Why do leaves fall in autumn?", "Trees drop them to save water while the ground is frozen.",
     "With less light they cost a tree more than they bring, so it seals them off."),
    ("How do I get a stain of red wine out?", "Pour salt on it at once, then wash it with cold water.",
     "Dab it with soda water and a clean cloth, never rub."),
    ("Is it safe to swim after lunch?", "Yes, a light meal does no harm; after a heavy one rest for half an hour.",
     "You may: that it gives cramps is an old tale, though a full stomach makes you slow."),
    ("How do birds find their way south?", "They follow the sun, the stars, and the magnetism of the earth.",
     "Old ones know landmarks, young ones are born with a direction that they keep."),
    ("How do I start to run?", "Run one minute, walk two, ten times, on three days of the week.",
     "Go slowly enough to talk, for twenty minutes, and add five each week."),
    ("What is a good present for a neighbour?", "A pot of herbs or a jar of your own jam.",
     "Something small to share, such as a cake or a bottle of juice."),
    ("How do I sharpen a kitchen knife?", "Draw it along a wet stone at a flat angle, twenty times on each side.",
     "Use the bottom of a mug: pull the blade over the rough ring, lightly, left and right."),
    ("Why does bread dough rise?", "Yeast eats sugar and gives off gas, which is caught in the dough.",
     "Tiny fungi make bubbles in it, and the warm flour stretches around them."),
    ("How can I save electricity at home?", "Switch off what stands by, and wash at thirty degrees.",
     "Change the oldest lamps and the fridge first: they take the most."),
    ("What should I see in one day in a new town?", "Go to the market in the morning, and up a tower before sunset.",
     "Walk from the station to the river, and eat where there is no menu in English."),
    ("How do I write a letter of thanks?", "Say what you got, what you like about it, and when you will use it.",
     "Three sentences by hand are enough: the gift, your joy, a greeting."),
    ("Why do cats purr?", "Mostly because they are at ease, though hurt ones purr as well to calm themselves.",
     "It tells their kittens and people that all is well."),
    ("How often should I water a cactus?", "Every three weeks in summer, and hardly at all in winter.",
     "Only once its earth is dry to the bottom; too much rots it."),
    ("What can I do when a bike chain slips?", "Clean it, oil it, and see whether the teeth are worn.",
     "Most often it is too long by now: have a new one put on."),
    ("How do I calm down before an exam?", "Breathe out for longer than you breathe in, for two minutes.",
     "Put your notes away the evening before, and go for a walk."),
    ("Which spices go with pumpkin?", "Nutmeg, ginger and a little chilli.",
     "Try cinnamon for something sweet, and sage or cumin for soup."),
    ("How does a lock on a canal work?", "Gates shut a ship in, and water is let in or out until it is level.",
     "It is a basin between two gates that fills like a bath and lifts the boat."),
)  # fmt: skip
PARTS = {"train": 12, "gate": 4, "heldout": 8}  # topics
OTHERS = 8  # replies to other messages, of a part with more of them
EACH = {"train": 24, "gate": 20, "heldout": 18}  # pairs a message


def tasks(draw: random.Random) -> Iterator[tuple[str, Task]]:
    for part, topics in parted(draw, TOPICS, PARTS):
        for topic in topics:
            others = [reply for one in topics if one is not topic for reply in one[1:]]
            for n, (good, bad) in enumerate(pairs(draw, topic, others, EACH[part])):
                for order, (first, second) in zip(ORDERS, ((good, bad), (bad, good)), strict=True):
                    prompt = PROMPT.format(message=topic[0], first=first, second=second)
                    checks = ({"check": "label", "options": list(ORDERS)},)
                    yield part, Task(prompt, order, checks, group=f"{topic[0]} {n}")


def pairs(draw: random.Random, topic: tuple[str, str, str], others: list[str], n: int) -> list[tuple[str, str]]:
    """`n` different pairs of a reply that answers and one that does not."""
    message, *answers = topic
    halves = [" ".join(words[:most]) for words in map(str.split, answers) for most in (len(words) // 2, 3)]
    bad = [*draw.sample(others, min(OTHERS, len(others))), *(echo.format(message=message) for echo in ECHO), *halves]
    return draw.sample([(good, worse) for good in answers for worse in dict.fromkeys(bad)], n)
