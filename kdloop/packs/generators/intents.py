"""What a customer of a shop wants, as one of six labels: sentences of our own with slots (ZeroGen's task, Ye et al.
2022, without a teacher). All sentences of a template are in one part."""

import random
from collections.abc import Iterator

from kdloop.packs.reading import Task

PROMPT = "Classify the message of a customer as one of: {labels}.\n\nMessage: {text}\n\nLabel:"
THINGS = (
    "kettle", "blue jacket", "phone case", "desk lamp", "tent", "pair of boots", "bike helmet", "coffee grinder",
    "rucksack", "bookshelf", "garden hose", "wireless mouse",
)  # fmt: skip
SENTENCES = {
    "cancel": (
        "Please stop my order of the {thing} before it is sent.",
        "I have changed my mind and no longer need the {thing} that I ordered an hour ago.",
        "Can you call off the {thing} in my basket that I paid for by mistake?",
        "Do not ship the {thing}, I found one in the cellar.",
        "I ordered two by accident: take the second {thing} off the order.",
        "Scrap my order, please; the {thing} would come too late anyway.",
        "My husband has bought a {thing} already, so forget about mine.",
        "Withdraw the order for a {thing} that I placed this morning.",
        "I want out of the purchase of the {thing}, nothing has left your warehouse yet.",
        "Drop the {thing} from order 5521, it has not been packed.",
        "We are moving abroad, so the {thing} I ordered today must not be sent.",
        "Hold on, I pressed the button too soon: no {thing} for me after all.",
        "The order with the {thing}: please make it void before the lorry leaves.",
        "I would rather not get the {thing} any more, is it too late to call it off?",
        "Undo my last order, the one with the {thing}.",
        "Please delete the order for the {thing}; I chose the wrong shop.",
    ),
    "refund": (
        "I sent the {thing} back two weeks ago and still have no money.",
        "The {thing} is going back in the post today; when will you pay me?",
        "You charged me twice for one {thing}, I want the second amount back.",
        "I returned the {thing}. Please transfer the price to my account.",
        "The {thing} arrived broken, and I would like my money back rather than another one.",
        "How do I get what I paid for the {thing} back on my card?",
        "Your shop owes me the price of a {thing} that I handed in at the counter.",
        "It says that the returned {thing} reached you on Monday, yet nothing was paid out.",
        "I would like to be paid back for the {thing}, it does not fit.",
        "Give me back the 40 euros for the {thing}, as you promised on the phone.",
        "The price of the {thing} fell by half a day later; pay me the difference.",
        "Reimburse me for the {thing}, please, the parcel never came.",
        "I took the {thing} back to the store and was told that the money would follow.",
        "Please credit my card for the {thing} that you took back.",
        "My bank shows no payment from you for the {thing} that I returned in May.",
        "The {thing} was out of stock after I had paid: send the money back.",
    ),
    "delivery": (
        "Where is my {thing}? It should have come on Tuesday.",
        "The tracking page of the {thing} has not moved for five days.",
        "On which day will the {thing} reach my house?",
        "Could the driver leave the {thing} with my neighbour?",
        "I am away this week: can the {thing} come next Monday?",
        "Has the {thing} left your warehouse yet?",
        "The parcel with the {thing} went to my old address, can it be sent on?",
        "How long does a {thing} take to get to Ireland?",
        "Your driver rang nobody's bell and drove off with my {thing}.",
        "What time in the morning does the van with the {thing} come?",
        "Can I pick the {thing} up at the post office instead?",
        "The {thing} is marked as handed over, but nothing lay at the door.",
        "I need the {thing} by Friday; will it be here in time?",
        "Please send the {thing} to my office and not to my flat.",
        "Which company carries the {thing}, and do you have a number to follow it?",
        "My {thing} seems to be stuck at customs.",
    ),
    "product": (
        "Does the {thing} come in green?",
        "How heavy is the {thing}?",
        "Is the {thing} made of plastic or of metal?",
        "Which size of the {thing} would suit a tall person?",
        "Can the {thing} be left out in the rain?",
        "Are there batteries in the box with the {thing}?",
        "What is the difference between the cheap {thing} and the dear one?",
        "Is the {thing} safe for small children?",
        "Do you sell spare parts for the {thing}?",
        "How do I clean the {thing} without harming it?",
        "Where was the {thing} made?",
        "Will there be a newer model of the {thing} this year?",
        "Could I use the {thing} every day, or does it wear out quickly?",
        "What colour is the inside of the {thing}?",
        "Would the {thing} make a good present for my grandfather?",
        "Is a manual in Polish included with the {thing}?",
    ),
    "complaint": (
        "This is the third {thing} that broke within a week, and I am fed up.",
        "Your assistant was rude to me when I asked about the {thing}.",
        "I have never seen anything as badly made as this {thing}.",
        "The photo of the {thing} was a lie, it looks nothing like it.",
        "Nobody answers the phone, and my letter about the {thing} was ignored, too.",
        "It is a disgrace how you wrapped the {thing}.",
        "I waited an hour in line for a {thing} while your staff were chatting.",
        "The {thing} smells so bad that I cannot keep it in the room. Shame on you.",
        "What a disappointment: the {thing} fell apart in my hands.",
        "You advertised the {thing} as the best of all, and it is the worst.",
        "I am angry about the scratches all over the {thing}.",
        "Such poor service I have not had in years, and all for a {thing}.",
        "The instructions of the {thing} are a joke, somebody should be told.",
        "I want your manager to know how terribly the sale of the {thing} went.",
        "The {thing} makes an awful noise, and your advice was useless.",
        "Once again you have sent me the wrong {thing}, this is unacceptable.",
    ),
    "praise": (
        "I love my new {thing}, thank you so much!",
        "The {thing} is even better than I had hoped.",
        "What a friendly young man sold me the {thing}, please thank him.",
        "The best {thing} that I ever had, I tell all my friends.",
        "Five stars for the {thing} and for your quick service.",
        "My daughter is delighted with the {thing}.",
        "You wrapped the {thing} so beautifully, that made my day.",
        "I just want to say how happy I am with the {thing}.",
        "Great work: the {thing} has served me for ten years.",
        "The {thing} is a joy to use every morning.",
        "Well done, the {thing} does all that you promised.",
        "I am impressed by how carefully the {thing} was made.",
        "Thanks for your patience when I could not decide on a {thing}.",
        "The {thing} saved our holiday, we are so grateful.",
        "Your shop is wonderful, and so is the {thing}.",
        "Whoever designed the {thing} deserves a prize.",
    ),
}  # fmt: skip
PARTS_OF_SIXTEEN = ("train",) * 9 + ("gate",) * 3 + ("heldout",) * 4  # of each label's templates


def tasks(draw: random.Random) -> Iterator[tuple[str, Task]]:
    labels = sorted(SENTENCES)
    for label in labels:
        templates = list(SENTENCES[label])
        draw.shuffle(templates)
        for part, template in zip(PARTS_OF_SIXTEEN, templates, strict=True):
            for thing in THINGS:
                order = draw.sample(labels, len(labels))
                prompt = PROMPT.format(labels=", ".join(order), text=template.format(thing=thing))
                yield part, Task(prompt, label, ({"check": "label", "options": labels},))
