"""Which of four notes answers a question: reranking with the reader in one, by the name of who wrote it. What a note is
about is in one part alone, so the match of question and note has to be read, not remembered."""

import random
from collections.abc import Iterator

from kdloop.packs.generators.parted import parted
from kdloop.packs.reading import Task

PROMPT = """Four people left notes about a holiday flat.

{notes}

Which note answers this question: {question} Reply with the name of who wrote it.

Name:"""
SHOWN = 4
NAMES = {
    "train": (
        "Anna", "Bruno", "Carla", "Dario", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Karin", "Lukas",
        "Marta", "Nils", "Olga", "Pablo",
    ),
    "gate": ("Rosa", "Simon", "Tilda", "Viktor", "Wanda", "Xaver"),
    "heldout": ("Alma", "Boris", "Clara", "Dennis", "Edith", "Franz", "Gloria", "Henrik", "Iris", "Jakob"),
}  # fmt: skip
TOPICS = (  # (two notes, two questions) about one thing
    (("The key hangs in the blue box beside the door.", "You get the key from the baker next door."),
     ("Where is the key?", "How do I get in?")),
    (("The wifi password is on the back of the router.", "For the internet, type in “seagull77”."),
     ("What is the wifi password?", "How do I go online?")),
    (("Bins are emptied on Tuesday; put them out the night before.", "Rubbish goes into the green container."),
     ("Where does the rubbish go?", "What do I do with the bins?")),
    (("Cars stand in the yard, number 4 is ours.", "Parking on the street is free after six."),
     ("Where can I park?", "Is there a place for the car?")),
    (("Press the red knob for a minute and hot water comes.", "The boiler has to be lit again after a storm."),
     ("Why is the water cold?", "How do I get a hot shower?")),
    (("Turn the heating down to 16 when you leave.", "The radiators are warm from seven in the morning."),
     ("How does the heating work?", "What do I do if the rooms are too cold?")),
    (("The supermarket closes at eight and is behind the church.", "Milk and eggs are sold at the farm."),
     ("Where can we buy food?", "Is there a shop near by?")),
    (("The bus to town stops at the mill every half hour.", "Line 12 runs to the station until midnight."),
     ("How do we get to town without a car?", "When does the bus go?")),
    (("Dr Weiss is in the house across, second floor.", "The next hospital is in Lindau."),
     ("Whom do we call if somebody is ill?", "Where is a doctor?")),
    (("Dogs may come along, but not onto the sofa.", "Pets are welcome for ten euros a night."),
     ("May we bring our dog?", "Are animals allowed?")),
    (("Sheets and towels lie in the cupboard upstairs.", "Fresh bed linen is changed each Saturday."),
     ("Where are clean towels?", "Do we bring our own sheets?")),
    (("Bring the washing machine to 40 degrees, not more.", "Laundry can be done in the cellar, with coins."),
     ("Can we wash our clothes?", "Where is the laundry?")),
    (("The stove needs a pan with a flat bottom.", "The oven door sticks: pull it up and then to you."),
     ("How do I use the oven?", "What is wrong with the cooker?")),
    (("We ask for quiet after ten, the walls are thin.", "No music on the balcony at night, please."),
     ("Until when may we make noise?", "Can we have a party?")),
    (("Please be out by eleven on the last day.", "On departure leave before noon."),
     ("When do we have to leave?", "What time is check-out?")),
    (("The pool opens in June and is cleaned on Fridays.", "Swim at your own risk, nobody watches the pool."),
     ("Can we swim?", "When is the pool open?")),
    (("The children's cot is folded under the stairs.", "A high chair for the baby stands in the pantry."),
     ("Is there anything for a baby?", "Where does the little one sleep?")),
    (("If the light goes out, the fuse box is in the hall.", "A switch in the cellar turns the power on again."),
     ("What do we do when the electricity fails?", "Where are the fuses?")),
    (("The best pizza is at Gino's on the square.", "The inn by the river serves trout, book ahead."),
     ("Where can we eat out?", "Which restaurant is good?")),
    (("Smoking is fine on the terrace alone.", "Put ashes into the tin outside, never smoke indoors."),
     ("May I smoke?", "Where can we have a cigarette?")),
    (("The television takes the small remote, the big one is for the radio.", "Channel 3 shows films in English."),
     ("How do we watch television?", "What is on the screen in English?")),
    (("Bicycles are in the shed, the code of the lock is 5512.", "Two bikes may be used, helmets hang above."),
     ("Can we borrow bicycles?", "Where are the bikes?")),
    (("Pay the tourist tax in cash, two euros a day.", "The rest of the rent is due on arrival."),
     ("What is left to pay?", "How much is the tax?")),
    (("The beach is ten minutes down the path by the pines.", "For bathing in the sea take the steps on the left."),
     ("How far is the sea?", "Which way is the beach?")),
)  # fmt: skip
PARTS = {"train": 12, "gate": 4, "heldout": 8}  # topics
EACH = {"train": 60, "gate": 50, "heldout": 35}  # prompts a topic


def tasks(draw: random.Random) -> Iterator[tuple[str, Task]]:
    for part, topics in parted(draw, TOPICS, PARTS):
        for asked in topics:
            others = [topic for topic in topics if topic is not asked]
            for _ in range(EACH[part]):
                yield part, which_note(draw, asked, others, NAMES[part])


def which_note(draw: random.Random, asked: tuple, others: list[tuple], names: list[str]) -> Task:
    shown, writers = [asked, *draw.sample(others, SHOWN - 1)], draw.sample(names, SHOWN)
    notes = [f"{name}: {draw.choice(topic[0])}" for name, topic in zip(writers, shown, strict=True)]
    draw.shuffle(notes)
    prompt = PROMPT.format(notes="\n".join(notes), question=draw.choice(asked[1]))
    return Task(prompt, writers[0], ({"check": "label", "options": sorted(writers)},))
