"""Messages with one piece of news among small talk, to be summed up in ten words: who, when and what. What the news is
about is in one part alone, and the small talk too."""

import random
from collections.abc import Iterator

from kdloop.packs.generators.notes import NAMES
from kdloop.packs.generators.parted import parted
from kdloop.packs.reading import Task

PROMPT = """Sum this message up in one sentence of at most ten words.

Message: {message}

Summary:"""
MOST = 10  # words
DENIED = r"(?i)\b(?:not|no|never|cannot)\b|n['’]t\b"
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NEWS = (  # (what the message says, how it is summed up, the word that it is about)
    ("{who} rang to say that the meeting has to wait until {when}, as the hall is being painted.",
     "{who} moves the meeting to {when}.", "meeting"),
    ("It turns out that {who} cannot bring the cake before {when}, because the oven broke down again.",
     "{who} will bring the cake on {when}.", "cake"),
    ("The doctor has looked at the leg, and {who} may leave the hospital on {when} if all goes well.",
     "{who} may leave hospital on {when}.", "hospital"),
    ("After a long search {who} has found a flat near the river and gets the keys for it on {when}.",
     "{who} gets the flat on {when}.", "flat"),
    ("As nobody else had the time, {who} promised to fetch the parcel from the post office on {when}.",
     "{who} fetches the parcel on {when}.", "parcel"),
    ("The choir has asked {who} to sing alone at the concert that they give in the old church on {when}.",
     "{who} sings at the concert on {when}.", "concert"),
    ("There was a mistake in the bill, so {who} wants the money to be paid back by {when} at the latest.",
     "{who} wants the money back by {when}.", "money"),
    ("On account of the strike {who} will not take the train and comes by car late on {when} instead.",
     "{who} comes by car on {when}.", "car"),
    ("The old printer is beyond repair, says {who}, and a new one will be delivered in the morning on {when}.",
     "{who} gets a new printer on {when}.", "printer"),
    ("The neighbours have been told by {who} that the water is turned off for some hours on {when}.",
     "{who} says the water is off on {when}.", "water"),
    ("We have been waiting for weeks, and now {who} will come and mend the roof at last on {when}.",
     "{who} mends the roof on {when}.", "roof"),
    ("If the weather holds, {who} would like to take all of us out on the boat for a while on {when}.",
     "{who} takes us out by boat on {when}.", "boat"),
    ("The teacher was ill for a week, and so {who} will write the test with the others on {when}.",
     "{who} writes the test on {when}.", "test"),
    ("Because the shop had none left, {who} ordered the shoes, and they can be picked up there on {when}.",
     "{who} can pick up the shoes on {when}.", "shoes"),
    ("It was decided by the club that {who} shall look after the garden from {when} until the end of May.",
     "{who} looks after the garden from {when}.", "garden"),
    ("The film was sold out, but {who} managed to get four tickets for the late show on {when}.",
     "{who} has tickets for {when}.", "tickets"),
    ("Nobody had noticed it, but the passport of {who} runs out on {when}, and a new one takes a month.",
     "The passport of {who} ends on {when}.", "passport"),
    ("For reasons that we were not told {who} has sold the horse, and it will be taken away on {when}.",
     "{who} sold the horse, gone on {when}.", "horse"),
    ("Everybody is asked by {who} to leave the kitchen clean, since there will be an inspection on {when}.",
     "{who} asks for a clean kitchen on {when}.", "kitchen"),
    ("The library wrote that {who} has to return the book about birds on {when}, or pay a fine.",
     "{who} must return the book on {when}.", "book"),
    ("Since the bridge is closed {who} wants to start the race one village further down on {when}.",
     "{who} starts the race elsewhere on {when}.", "race"),
    ("With some luck {who} has got the job at the museum, and the first day there is {when}.",
     "{who} starts the job on {when}.", "job"),
    ("The dentist has no time this week, and so the tooth of {who} will be pulled on {when}.",
     "{who} loses the tooth on {when}.", "tooth"),
    ("After all these years {who} will give up the bakery, and the last rolls are sold there on {when}.",
     "{who} closes the bakery on {when}.", "bakery"),
)  # fmt: skip
TALK = {
    "train": (
        "I hope you are well.", "It has been raining here all week.", "Sorry for not writing sooner.",
        "The children send their love.", "I had soup for lunch, by the way.", "You would not believe the noise here.",
        "Thank you for the lovely card.", "My back is much better now.",
    ),
    "gate": (
        "How was your holiday?", "The cat is asleep on my lap.", "I am writing this on the bus.",
        "We should talk more often.",
    ),
    "heldout": (
        "What a windy evening it is.", "I finally cleaned out the cellar.", "Your photo made me laugh.",
        "There is not much else to tell.", "Do you still play chess?", "I am drinking tea as I write.",
    ),
}  # fmt: skip
PARTS = {"train": 12, "gate": 4, "heldout": 8}  # pieces of news
EACH = {"train": 60, "gate": 50, "heldout": 35}  # messages a piece


def tasks(draw: random.Random) -> Iterator[tuple[str, Task]]:
    for part, news in parted(draw, NEWS, PARTS):
        for told, summary, about in news:
            for _ in range(EACH[part]):
                slots = {"who": draw.choice(NAMES[part]), "when": draw.choice(DAYS)}
                before, after = draw.sample(TALK[part], 2)
                prompt = PROMPT.format(message=f"{before} {told.format(**slots)} {after}")
                yield part, Task(prompt, summary.format(**slots), checks(about, **slots))


def checks(about: str, who: str, when: str) -> tuple[dict, ...]:
    """The length, the three things, and that nothing is denied, as no news is: wording is free."""
    short = {"check": "words", "least": 4, "most": MOST}, {"check": "sentences", "most": 1}
    return (
        {"check": "contains", "words": [who, when, about]},
        {"check": "regex", "pattern": DENIED, "absent": True},
        *short,
    )
