"""What rounds have written of themselves, in the reader's language: why a candidate was promoted or refused, by whom;
and what else is refused (refusals.py).

They write English sentences with numbers in them, once and for all readers. Each is known here as it is written, its
fields in braces; its translation is looked up by that. A sentence that is not known stays as it was written.
"""

import re
from functools import cache, lru_cache
from itertools import islice

from kdloop.ui import refusals
from kdloop.ui.words import LANGUAGES, language, tell

PARTS = (  # of sentences: fields of others
    "{wins} wins, {losses} losses, {ties} ties",
    "{score}, {missing} of the losses without a completion",
    "gate no. {number} since v{since}",
    "p = {p}, win rate {rate} of at least {least}",
    "{words} {value}, limit {limit}",
    "{low} to {high}",
    "preference model of {n} held-out votes",
    "checks of {n} prompts",
    "log-probability margins on held-out pairs",
    "Promoted",
    "On trial, and answering already",
    "On trial, not answering yet",
    "Promoted by the judge alone",
    "no preference model",
    "the preference model is not above chance ({skill})",
    "{right} of {n} unseen votes predicted",
    "{votes} of {n} held-out votes",
    "candidate {id}",
)
SENTENCES = (
    "Rejected: too few decided comparisons ({score}; {turn})",
    "Rejected: not shown to be better ({score}; {odds}; {turn})",
    "Rejected in spite of {score}: {limits}",
    "{fate}: {score} on held-out prompts by the {judge}, {turn}, all {n} guards held",
    "Rejected: the round was to be cancelled when it ended",
    "Rejected: v{version} was made to serve during the round, and the candidate was compared with another champion",
    "Rejected before training: {reason}",
    "Nothing can judge a candidate yet: {skill}, and {pairs} of {n} held-out pairs",
    "Votes that agree with each other, or more of them, will help",
    "The judge's votes do not confirm what the other votes like: {skill}, p = {p}, where {turn} may spend {error}",
    "More votes will help",
    "The judge would decide too little: of {n} pairs that people decided it calls {ties} a tie, "
    "and would so at the gate",
    "What people like is not in what it sees of a text",
    "{n} usable votes for {method}, {least} are needed: go on chatting and rating",
    "Confirmed by people: {wins} to {losses}, {ties} ties, evidence {evidence} of {least}",
    "Rolled back by people: {wins} to {losses}, {ties} ties, evidence against it {evidence} of {least}",
    "Rolled back: not shown to be preferred after {n} comparisons ({wins} to {losses}, {ties} ties)",
    "Its step was shortened to {share} of its length, as the whole of it had {limits}",
    "An owner has ended the trial",
    "Round {id} again, without what was erased: {reason}",
    "The champion has learned from what was erased: to serve this candidate all the same, use the Models tab",
    "{n} pairs say which of two completions is better: {method}",
    "{n} pairs say which of two completions is better, but {against} ({share}) were contradicted: {method}",
    "{likes} likes and {dislikes} dislikes, few pairs: {method}",
    "{n} liked or corrected completions, nothing to contrast them with: {method}",
    "{method} was asked for: {n} of {all} examples fit it",
    "Somebody whose votes it had read deleted their data",
)
SAID = {"score", "turn", "odds", "limits", "words", "judge", "fate", "reason", "skill", "limit"}  # fields in words
SAID |= {"one", "two", "three", "trait", "alone", "remedy", "why", "what", "whole", "where"}
GIVEN = {"name", "names", "path", "problem", "given", "options"}  # texts that stay as they are; the rest are numbers
FIELDS = dict.fromkeys(SAID | GIVEN, ".+?") | {"limit": "[^;]+?"} | dict.fromkeys(("one", "two", "three"), "[^;,.]+?")
NUMBER = r"[^\s,;:()]+"
ENDS = re.compile(r"(?:\. |; )")
MOST, MOST_SENTENCES = 2000, 20  # characters, and ends: no text of ours has more, and looking in a long one takes long


def in_words(text: str) -> str:
    """In the language of the current request."""
    return text if (reader := language()) == "en" or len(text) > MOST else remembered(reader, text)


@lru_cache(maxsize=4096)
def remembered(reader: str, text: str) -> str:
    """In this language, which is that of the request."""
    return translated(text)


def translated(text: str) -> str:
    if (said := known(text)) is not None:
        return said
    for end in islice(ENDS.finditer(text), MOST_SENTENCES):
        if (said := known(text[: end.start()])) is not None:
            return f"{said}{end[0]}{translated(text[end.end() :])}"
    return LANGUAGES.get(language(), {}).get(text, text)


def known(text: str) -> str | None:
    """A sentence, or a part of one."""
    for template, pattern in patterns():
        if found := pattern.fullmatch(text):
            fields = found.groupdict()
            return tell(template, **{k: translated(v) if k in SAID else v for k, v in fields.items()})
    return None


@cache
def patterns() -> list[tuple[str, re.Pattern]]:
    def pattern(template: str) -> re.Pattern:
        parts = re.split(r"\{(\w+)\}", template)
        fields = (f"(?P<{name}>{FIELDS.get(name, NUMBER)})" for name in parts[1::2])
        texts = map(re.escape, parts[::2])
        return re.compile("".join(x for pair in zip(texts, [*fields, ""], strict=True) for x in pair), re.DOTALL)

    return [(template, pattern(template)) for template in (*PARTS, *SENTENCES, *refusals.ALL)]
