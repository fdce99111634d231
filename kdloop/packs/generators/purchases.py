"""The next purchase after a made-up history: a customer follows one hobby, with one odd thing among the last purchases,
and of four things one is of that hobby. A thing is in one part alone, in histories and among the choices."""

import random
from collections.abc import Iterator

from kdloop.packs.reading import Task

PROMPT = """A customer of a shop has bought: {bought}.

Which of these will the customer most likely buy next? One of: {choices}.

Next:"""
CHOICES = 4
MOST_WORDS = 12  # of a completion: a list of many things would name one of the four by chance
HOBBIES = {
    "camping": "tent, sleeping bag, camping stove, rucksack, head torch, water filter, hiking boots, folding chair, "
    "compass, mess tin, air mattress, trekking poles, thermos flask, mosquito net, pocket knife",
    "baking": "rolling pin, flour, cake tin, whisk, baking powder, muffin tray, icing sugar, oven gloves, pastry "
    "brush, piping bag, cooling rack, yeast, vanilla sugar, cookie cutter, mixing bowl",
    "painting": "oil paint, canvas, easel, watercolours, palette, sketchbook, charcoal sticks, turpentine, acrylic "
    "set, drawing paper, pastels, picture frame, brush set, varnish, palette knife",
    "gardening": "spade, tomato seeds, watering can, rake, compost, flower pots, secateurs, lawn mower, garden hose, "
    "tulip bulbs, wheelbarrow, fertiliser, hedge trimmer, weeding fork, greenhouse",
    "fishing": "fishing rod, bait box, landing net, hooks, reel, float, waders, fishing line, lures, keepnet, "
    "sinkers, rod holder, maggots, tackle bag, fish scales",
    "cycling": "bicycle helmet, inner tube, tyre pump, bike lock, saddle, pedals, chain oil, handlebar tape, bicycle "
    "bell, cycling shorts, mudguards, spokes, brake pads, pannier bag, puncture kit",
    "music": "guitar strings, plectrum, metronome, sheet music, capo, music stand, tuner, drumsticks, amplifier "
    "cable, microphone, keyboard stand, violin bow, rosin, harmonica, ukulele",
    "babies": "nappies, pram, dummy, baby bottle, cot, bib, baby monitor, rattle, wet wipes, high chair, baby bath, "
    "teething ring, romper suit, night light, changing mat",
    "dogs": "dog lead, dog food, chew bone, dog basket, collar, dog whistle, muzzle, flea shampoo, food bowl, dog "
    "coat, squeaky toy, training treats, dog brush, kennel, poo bags",
    "sewing": "sewing machine, thread, needles, buttons, fabric, tape measure, pins, zip, lace, dressmaker's "
    "scissors, thimble, bobbin, sewing pattern, seam ripper, elastic band",
    "swimming": "swimming goggles, swimsuit, bathing cap, kickboard, flippers, nose clip, ear plugs, beach towel, "
    "snorkel, arm bands, swim bag, diving mask, pull buoy, flip-flops, bathrobe",
    "office": "printer paper, stapler, ring binder, ballpoint pens, toner, paper clips, desk lamp, envelopes, hole "
    "punch, sticky notes, highlighter, calculator, filing cabinet, whiteboard, laptop stand",
}
PARTS = {"train": slice(0, 7), "gate": slice(7, 10), "heldout": slice(10, 15)}  # of a hobby's things
EACH = {"train": 60, "gate": 18, "heldout": 24}  # prompts a hobby


def tasks(draw: random.Random) -> Iterator[tuple[str, Task]]:
    things = {hobby: draw.sample(text.split(", "), 15) for hobby, text in HOBBIES.items()}
    for part, own in PARTS.items():
        shelves = {hobby: every[own] for hobby, every in things.items()}
        for hobby in shelves:
            for _ in range(EACH[part]):
                yield part, purchase(draw, shelves, hobby)


def purchase(draw: random.Random, shelves: dict[str, list[str]], hobby: str) -> Task:
    """Two things of the hobby and one of another, whatever their order; among the choices is nothing else of these."""
    *before, wanted = draw.sample(shelves[hobby], 3)
    odd, *others = draw.sample([h for h in shelves if h != hobby], CHOICES)
    bought = [*before, draw.choice(shelves[odd])]
    choices = [wanted, *(draw.choice(shelves[h]) for h in others)]
    draw.shuffle(bought)
    draw.shuffle(choices)
    prompt = PROMPT.format(bought=", ".join(bought), choices=", ".join(choices))
    checks = {"check": "label", "options": choices}, {"check": "words", "least": 1, "most": MOST_WORDS}
    return Task(prompt, wanted, checks)
