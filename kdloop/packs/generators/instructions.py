"""The prompts of `general` with instructions about the form of the completion, as IFEval's (Zhou et al. 2023), in words
of our own. Each also wants a word of the prompt, so that form alone does not pass. The parts are those of `general`."""

import random
import re
from collections.abc import Iterator

from kdloop.packs.reading import PARTS, Task

OWN_FORM = re.compile(
    r"\d|sentence|words?\b|lines?\b|list|poem|haiku|limerick|rhyme|letter|email|json|table|paragraph|bullet|short|brief|"
    r"translate|spell|capital|one|two|three|four|five|title|slogan|headline|['\"»“:]",
    re.IGNORECASE,
)
MOST_WORDS = 22  # of a prompt to which instructions are added
PLAIN_WORDS = (
    "about after again because before between could different difference doing every explain first getting give "
    "given having makes making might people please really right should something their there these thing things "
    "think those through tonight under where which while without would write years "
)
PLAIN = frozenset(PLAIN_WORDS.split())
LENGTHS = (
    *((f"Answer in exactly {n} sentences.", {"check": "sentences", "least": n, "most": n}) for n in (2, 3)),
    ("Answer in one sentence.", {"check": "sentences", "least": 1, "most": 1}),
    *((f"Use at most {n} words.", {"check": "words", "least": 4, "most": n}) for n in (15, 25, 40)),
    ("Use 20 to 40 words.", {"check": "words", "least": 20, "most": 40}),
    *(
        (f"Answer as a list of exactly {n} points, each on a line that begins with a hyphen.",
         {"check": "bullets", "least": n, "most": n, "mark": "-"})
        for n in (2, 3, 4)
    ),
    ("Write two paragraphs with an empty line between them.", {"check": "paragraphs", "least": 2, "most": 2}),
)  # fmt: skip
SHAPES = (
    ("Write in lower case letters alone.", {"check": "letters", "case": "lower"}),
    ("WRITE ALL OF IT IN CAPITAL LETTERS.", {"check": "letters", "case": "upper"}),
    ("Do not use any comma.", {"check": "without", "characters": ","}),
    *((f"Do not use the word “{word}”.", {"check": "avoids", "words": [word]}) for word in ("the", "and", "you")),
    ("Put at least one part between asterisks, *like this*.", {"check": "highlights", "least": 1}),
    ("Put all of it in double quotation marks.", {"check": "starts_and_ends", "start": '"', "end": '"'}),
    ("End with a question mark.", {"check": "starts_and_ends", "end": "?"}),
    ("End with the words “That is all.”", {"check": "starts_and_ends", "end": "That is all."}),
)
ALWAYS = ({"check": "varied", "share": 0.4},)


def tasks(draw: random.Random, variants: int = 4) -> Iterator[tuple[str, Task]]:
    """`variants` of each prompt that asks for no form itself."""
    from kdloop import packs

    for part in PARTS:
        for prompt in packs.prompts("general", part):
            if keyword := word_of(prompt):
                for _ in range(variants):
                    yield part, instructed(draw, prompt, keyword)


def word_of(prompt: str) -> str:
    """Its longest word that carries meaning; "" where it has none, is long, or asks for a form of its own."""
    if OWN_FORM.search(prompt) or len(prompt.split()) > MOST_WORDS:
        return ""
    found = [w for w in re.findall(r"(?<![\w'’-])[a-z]{5,}(?![\w'’-])", prompt) if w not in PLAIN]
    return max(found, key=len, default="")


def instructed(draw: random.Random, prompt: str, keyword: str) -> Task:
    """The prompt with its word, a length, and in most cases a shape."""
    chosen = [draw.choice(LENGTHS), *draw.sample(SHAPES, draw.random() < 0.6)]
    said = [f"Use the word “{keyword}”.", *(text for text, _ in chosen)]
    draw.shuffle(said)
    checks = ({"check": "contains", "words": [keyword]}, *(check for _, check in chosen), *ALWAYS)
    return Task(f"{prompt.strip()} {' '.join(said)}", "", checks)
