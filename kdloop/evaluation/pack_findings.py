"""What `pack check` can find, and what to do about it: texts with fields in braces, which the page has in its
languages."""

from dataclasses import dataclass, field

NO_LICENCE = "no licence"
SAY_LICENCE = "say under which licence the data is: licence = \"cc-by-4.0\" (the Hub's and SPDX's names)"
NO_ORIGIN = "no origin"
SAY_ORIGIN = 'say where the data is from: origin = "..."'
NO_ABOUT = "no about"
SAY_ABOUT = 'say what the pack is for: about = "..."'
NO_TRAIN = "no prompt to train on"
MOVE_SOME = "move some there"
FEW = "{n} prompts: a measurement says nothing"
ADD = "add prompts: {least} at least, 200 to tell a difference of 10 points"
MISTAKE = "{field}: {what}"
CORRECT = "correct it"

TWICE = "twice: {prompt}, the same prompt"
TWICE_IN_WORDS = "twice: {prompt}, but for case and punctuation the same as {other}"
REMOVE_ONE = "remove one"
LEAK = "leak: {prompt}, the same prompt in {part}"
LEAK_IN_WORDS = "leak: {prompt}, but for case and punctuation the same as {other} in {part}"
REMOVE = "remove it from {here}"
NEARLY = "nearly a leak (cosine {cosine}): {prompt}, {other} in {part}"
REMOVE_EITHER = "remove it from train, or the other from {part}"
NOT_LOOKED = "near prompts were not looked for"
LOOK = "check again without --quick"

OWN_FAIL = "{share} of the reference answers fail their own checks, as {example}"
MEND_ANSWER = "an answer is a completion that passes: correct it, or the check"
NO_ANSWERS = "no reference answers: whether the checks can be passed is not known"
GIVE_ANSWERS = 'give each line an "answer" that passes'
TRICKS = {  # kind of completion that needs no skill -> what is found where it passes, what to do
    "nothing at all": (
        "nothing at all passes {share} of the tasks",
        "a check of what must be absent needs one beside it of what must be there",
    ),
    "the prompt again": (
        "the prompt again passes {share} of the tasks",
        "check for something that the prompt does not say itself",
    ),
    "an unrelated sentence": (
        "an unrelated sentence passes {share} of the tasks",
        "these checks ask for too little: add one of what the completion must say",
    ),
    "the majority answer": (
        "the majority answer passes {share} of the tasks",
        "balance the answers: add tasks with the rarer ones, or leave some out",
    ),
    "all options": (
        "all options passes {share} of the tasks",
        'use "label", "choice", "final_number" or "exact", which take one answer alone',
    ),
}


@dataclass(frozen=True)
class Found:
    """`what` and `do` are of the texts above, with the `values` of their fields; what does not fail is only told."""

    where: str
    what: str
    do: str
    values: dict = field(default_factory=dict)
    fails: bool = True

    @property
    def said(self) -> str:
        return self.what.format(**self.values)

    @property
    def to_do(self) -> str:
        return self.do.format(**self.values)
