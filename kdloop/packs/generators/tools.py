"""Which tool a message needs, or none: the decision before a call. Words of a tool's name stand in messages that need
none, too."""

import random
from collections.abc import Iterator

from kdloop.packs.generators import labelled
from kdloop.packs.reading import Task

PROMPT = "Classify the message by the tool that it needs, as one of: {labels}.\n\nMessage: {text}\n\nLabel:"
THINGS = (
    "printer", "heater", "bicycle", "projector", "lift", "coffee machine", "van", "server", "window", "desk",
    "forklift", "pump", "scanner",
)  # fmt: skip
MESSAGES = {
    "calculator": (
        "What do fourteen units of the {thing} cost at 23.50 each?",
        "How much is 17 per cent of 2,340, the price of the {thing}?",
        "Three of us share the 411 euros for the {thing}: how much does each pay?",
        "The {thing} uses 1.8 kilowatt-hours a day; how many are that in 45 days?",
        "What is 12.7 times 8.4? I need it for the {thing}.",
        "If the {thing} loses a fifth of its 6,500 euros a year, what is it worth after three?",
        "Add 19 per cent tax to 1,185 for the {thing}.",
        "The {thing} is 84 cm by 61 cm: what area does it cover?",
        "How many minutes does the {thing} need for 960 pieces at 35 pieces a minute?",
        "Divide the 9,216 euros for the {thing} by 24 instalments.",
        "What is the average of 41, 57, 63 and 80, the loads of the {thing}?",
        "Subtract 388 from 2,004 and tell me what is left for the {thing}.",
        "The {thing} costs 730 now and 612 before: by how many per cent did it rise?",
        "How much are 65 dollars for the {thing} in euros at a rate of 0.92?",
        "Four boxes of 18 kilograms lie on the {thing}. What do they weigh together?",
        "A loan of 5,000 for the {thing} at 4 per cent: what interest falls due in a year?",
    ),
    "calendar": (
        "Which weekday is it when the {thing} comes on 14 March?",
        "How many days are left until the {thing} is serviced on 1 June?",
        "Remind me: what date is three weeks from today, when the {thing} goes back?",
        "Does the first of next month fall on a weekend? The {thing} is collected then.",
        "What is today's date? I must write it on the form for the {thing}.",
        "When is the next public holiday, so that nobody works at the {thing}?",
        "On which day was the Friday before last, when the {thing} broke?",
        "Is this year a leap year? The {thing} is booked for 29 February.",
        "How many Mondays has this month for cleaning the {thing}?",
        "The warranty of the {thing} lasts 90 days from 8 April: until when?",
        "Which week of the year do we have, for the plan of the {thing}?",
        "What day comes two days after Whitsun, for moving the {thing}?",
        "The {thing} was bought on 3 May last year: how long ago is that?",
        "Tell me the date of next Thursday, the {thing} is tested then.",
        "Are there working days between Christmas and New Year to fix the {thing}?",
        "In how many months does the contract of the {thing} run out, if that is on 30 November?",
    ),
    "search": (
        "What does our handbook say about who may use the {thing}?",
        "Who in our firm is responsible for the {thing}?",
        "Which supplier did we buy the {thing} from?",
        "Where do I find the form to report damage of the {thing}?",
        "What are the safety rules for the {thing} in building C?",
        "Is there a guideline on lending out the {thing}?",
        "Look up the serial number of the {thing} in room 114.",
        "What did the minutes of the board say about the {thing}?",
        "Which budget code do we book the {thing} under?",
        "How does our policy treat private use of the {thing}?",
        "Find the manual's page on cleaning the {thing}.",
        "Has the works council agreed to the new {thing}?",
        "What is the internal phone number for trouble with the {thing}?",
        "Which team had the {thing} before us?",
        "What price does our catalogue list for the {thing}?",
        "Who signed the contract of the {thing}?",
    ),
    "nothing": (
        "Thank you, the {thing} works again.",
        "Write a friendly line to put beside the {thing}.",
        "What is another word for {thing}?",
        "Good morning! I am sitting beside the {thing}.",
        "Tell me a joke about a {thing} and its calendar.",
        "Translate “the {thing} is broken” into French.",
        "I am bored, and the {thing} hums all day.",
        "Make a short poem about the {thing}.",
        "Shorten this: the {thing}, which is the thing that we have, is loud.",
        "Do you like the colour of the {thing}?",
        "Is “{thing}” a noun or a verb?",
        "Say sorry to my colleague for me, I left the {thing} on.",
        "Why do people find a {thing} useful at all?",
        "Please check the spelling: “the {thing} arived yesterday”.",
        "How would a pirate say that the {thing} is ready?",
        "Never mind the calculator, I have fixed the {thing} myself.",
    ),
}  # fmt: skip


def tasks(draw: random.Random) -> Iterator[tuple[str, Task]]:
    return labelled.tasks(draw, PROMPT, MESSAGES, THINGS)
