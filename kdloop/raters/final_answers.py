"""Checks of what a completion says in the end: a number, a letter, a label, the passage that it cites.

A completion may reason first. It passes where what it settles on is right, and nothing else: one that names all
options, or hedges between two, has settled on nothing. Each is a function (completion, answer, **options) -> (right,
what is wrong); kdloop/raters/verifiers.py names them all.
"""

import re
from fractions import Fraction

NUMBER = re.compile(r"(?<![\w.)])-?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?|\d[\d,]*(?:\.\d+)?")
SCIENTIFIC = re.compile(  # 6.02e23, 6.02 x 10^23, and plain numbers; not the 3 of cm3 or 3rd, nor what has no end
    r"(?<![\w.])[-−]?(\d[\d,]{0,100}(?:\.\d{1,100})?)"
    r"(?:\s*[x×*·]\s*10\s*(?:\^|\*\*)\s*\(?([-−+]?\d{1,3})\)?|[eE]([-+]?\d{1,3}))?"
    r"(?!\d|[eE][-+]?\d|st\b|nd\b|rd\b|th\b)"
)
SETTLES = re.compile(r"=|≈|\bis\b|\bare\b|\banswer\b:?|:|####", re.IGNORECASE)
LETTER = r"[(\[*_\s]*(?:([B-Z])|(A)(?!\s+[a-z]))[)\]*_.:]*(?![\w'])"  # "A dog" begins with an article
STATED = re.compile(
    r"(?i:answer|choice|option)(?:\s+(?:is|would be|should be))?\s*:?\s*(?:(?i:option)\s*)?"
    rf"({LETTER}(?:\s*(?:,|/|&|\bor\b|\band\b)+\s*{LETTER})*)"
)
ALONE = re.compile(r"^\W*([A-Za-z])\W*$")
FIRST = re.compile(r"^\W*[(\[*]*([A-Z])[)\].:][)\].:*]*\s+(\S.*)$")
CITED = re.compile(r"\[\s*(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\s*\]")


def number_in(text: str) -> Fraction | None:
    """The last number of a text (a completion reasons first and answers last), exactly; None if there is none."""
    found = NUMBER.findall(text)
    if not found:
        return None
    try:
        return Fraction(re.sub(r"[,\s]", "", found[-1]))
    except (ValueError, ZeroDivisionError):
        return None


def number(completion: str, answer: str, tolerance: float = 0.0):
    found, expected = number_in(completion), number_in(answer)
    if expected is None:
        raise ValueError(f"The answer {answer!r} holds no number to compare with")
    right = found is not None and abs(found - expected) <= Fraction(str(tolerance)) * max(1, abs(expected))
    return right, f"the last number is {found}, it should be {answer}"


def final_number(completion: str, answer: str, tolerance: float = 0.0):
    """The one number that the last sentence with numbers settles on, after its last "=" or "is" where there is one,
    within a share `tolerance` of the answer. Two different ones there are a hedge, and wrong."""
    expected = numbers_of(answer)
    if len(expected) != 1:
        raise ValueError(f"The answer {answer!r} is not one number to compare with")
    found = settled(completion)
    right = len(set(found)) == 1 and abs(found[0] - expected[0]) <= Fraction(str(tolerance)) * abs(expected[0])
    said = ", ".join(map(shown, found[:5])) or "no number"
    return right, f"it settles on {said}, it should be {answer}"


def shown(number: Fraction) -> str:
    try:
        return f"{float(number):g}"
    except OverflowError:
        return "a huge number"


def settled(text: str) -> list[Fraction]:
    """The numbers at the end of the last sentence, or line, that has any."""
    sentences = [s for s in re.split(r"\n|(?<=[^\d\s])[.!?](?=\s|$)|(?<=\d)[.!?](?=\s+\D|\s*$)", text) if numbers_of(s)]
    if not sentences:
        return []
    last = sentences[-1]
    ends = [found.end() for found in SETTLES.finditer(last) if numbers_of(last[found.end() :])]
    return numbers_of(last[ends[-1] :] if ends else last)


def numbers_of(text: str) -> list[Fraction]:
    found = []
    for match in SCIENTIFIC.finditer(text):
        sign = -1 if match[0][0] in "-−" else 1
        exponent = int((match[2] or match[3] or "0").replace("−", "-"))
        found.append(sign * Fraction(match[1].replace(",", "")) * Fraction(10) ** exponent)
    return found


def choice(completion: str, answer: str, options: list[str]):
    """Multiple choice: `options` are the texts of A, B, C ...; the answer is a letter. The completion settles on one
    letter ("B", "(B)", "the answer is B", "B) its text"), or names the text of one option alone."""
    letters = {chr(ord("A") + i): text for i, text in enumerate(options)}
    if answer not in letters:
        raise ValueError(f"The answer {answer!r} is none of {', '.join(letters)}")
    chosen = chosen_letters(completion, letters) or {
        letter for letter, text in letters.items() if named([text], completion, options)
    }
    return chosen == {answer}, f"it chooses {', '.join(sorted(chosen)) or 'nothing'}, it should be {answer}"


def chosen_letters(completion: str, letters: dict[str, str]) -> set[str]:
    """All letters that it states as its answer; else those that stand alone on a line, or before an option's text."""
    stated = {letter for found in STATED.finditer(completion) for letter in re.findall(r"\b[A-Z]\b", found[1])}
    stated &= set(letters)
    if stated:
        return stated
    chosen = set()
    for line in completion.splitlines():
        if (found := ALONE.match(line)) and found[1].upper() in letters:
            chosen.add(found[1].upper())
        elif (found := FIRST.match(line)) and found[1] in letters:
            others = named(list(letters.values()), found[2], list(letters.values()))
            chosen |= {found[1]} | {letter for letter, text in letters.items() if text in others}
    return chosen


def label(completion: str, answer: str, options: list[str]):
    """Of the options the completion names the answer, and no other."""
    if answer not in options:
        raise ValueError(f"The answer {answer!r} is none of {', '.join(options)}")
    found = named(options, completion, options)
    return found == {answer}, f"it names {', '.join(sorted(found)) or 'none'}, it should be {answer}"


def named(texts: list[str], completion: str, options: list[str]) -> set[str]:
    """Those of the texts that the completion names; what is a part of a longer option counts as that alone."""
    left, found = completion.casefold(), set()
    for option in sorted(options, key=len, reverse=True):
        pattern = rf"(?<!\w){re.escape(option.casefold())}(?!\w)"
        if re.search(pattern, left):
            found.add(option)
            left = re.sub(pattern, " ", left)
    return found & set(texts)


def cites(completion: str, answer: str, passages: list[int]):
    """The numbers in square brackets are these, all of them and no others; [] for none at all."""
    found = {int(n) for group in CITED.findall(completion) for n in re.split(r"[,;]", group)}
    wanted = ", ".join(f"[{n}]" for n in passages) or "no passage"
    return found == set(passages), f"it cites {sorted(found) or 'none'}, it should be {wanted}"


FINAL_ANSWERS = {
    "number": number,
    "final_number": final_number,
    "choice": choice,
    "label": label,
    "cites": cites,
}
