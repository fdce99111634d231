"""Programmatic checks as raters: verifiable requirements of a completion.

A check is {"check": NAME, ...options} in a pack, or at one of its prompts; CHECKS names them all. The
instruction-following ones are IFEval's (Zhou et al. 2023). A completion passes when all its checks do; its score is
their mean.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from kdloop.packs import Task
from kdloop.raters import sandbox

NUMBER = re.compile(r"(?<![\w.)])-?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?|\d[\d,]*(?:\.\d+)?")
FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)
FUNCTION_WORDS = {
    "en": "the of and to in is that it for you with are this be have not on as what your",
    "de": "der die das und ist nicht ein eine zu den mit ich sie auf für es wie auch sich dem",
    "fr": "le la les et est un une des que pas pour dans qui vous sur avec ce je il au",
    "es": "el la los y es un una que no para en con por las del se su como más al",
    "it": "il la di e che è un una non per sono con del si le della come più ma gli",
    "nl": "de het een en is van dat niet op te zijn met voor ik je er aan ook maar dit",
    "pt": "o a os e é um uma que não para em com por do da se as mais como ao",
}
SCRIPTS = {
    "zh": "\u4e00-\u9fff",
    "ja": "\u3040-\u30ff",
    "ko": "\uac00-\ud7af",
    "ru": "\u0400-\u04ff",
    "ar": "\u0600-\u06ff",
}


@dataclass(frozen=True)
class Finding:
    """The result of one check: a `score` from 0 to 1, and the `reason` why it is not 1."""

    check: str
    score: float
    reason: str = ""


def verify(task: Task, completion: str) -> list[Finding]:
    """The findings of all the task's checks. Raises ValueError for an unknown check: a typo in a pack must not pass
    everything."""
    return [find(check, completion, task.answer) for check in task.checks]


def find(check: dict, completion: str, answer: str) -> Finding:
    options = {k: v for k, v in check.items() if k != "check"}
    if check["check"] not in CHECKS:
        raise ValueError(f"No check {check['check']!r}; there are {', '.join(CHECKS)}")
    if not completion.strip():
        return Finding(check["check"], 0.0, "it is empty")
    score, reason = CHECKS[check["check"]](completion, answer, **options)
    return Finding(check["check"], float(score), "" if score == 1 else reason)


def score(task: Task, completion: str) -> float:
    """The mean score of the task's checks."""
    findings = verify(task, completion)
    return sum(f.score for f in findings) / len(findings)


def passed(task: Task, completion: str) -> bool:
    return all(f.score == 1 for f in verify(task, completion))


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


def exact(completion: str, answer: str, ignore_case: bool = True):
    """The whole completion equals the answer, apart from spaces, quotes and a full stop at the ends."""
    found, expected = (t.strip(" \n\t\"'`.*").casefold() if ignore_case else t.strip() for t in (completion, answer))
    return found == expected, f"it should be {answer!r}"


def ends_with_answer(completion: str, answer: str):
    """The completion's last words are the answer's words."""
    found, expected = (re.findall(r"\w+", t.lower()) for t in (completion, answer))
    return bool(expected) and found[-len(expected) :] == expected, f"it should end with {answer!r}"


def regex(completion: str, answer: str, pattern: str, absent: bool = False):
    found = re.search(pattern, completion, re.MULTILINE) is not None
    return found != absent, f"the pattern {pattern!r} is {'present' if found else 'absent'}"


def contains(completion: str, answer: str, words: list[str], at_least: int = 1):
    lower = completion.lower()
    missing = [w for w in words if len(re.findall(rf"(?<!\w){re.escape(w.lower())}(?!\w)", lower)) < at_least]
    return not missing, f"missing: {', '.join(missing)}"


def avoids(completion: str, answer: str, words: list[str]):
    used = [w for w in words if re.search(rf"(?<!\w){re.escape(w.lower())}(?!\w)", completion.lower())]
    return not used, f"used: {', '.join(used)}"


def within(n: int, least: int, most: int | None, what: str):
    return least <= n and (most is None or n <= most), f"{n} {what}, wanted {least} to {most or 'any number'}"


def words(completion: str, answer: str, least: int = 1, most: int | None = None):
    return within(len(completion.split()), least, most, "words")


def sentences(completion: str, answer: str, least: int = 1, most: int | None = None):
    return within(len(re.findall(r"[^.!?]+[.!?]+(?=\s|$)|[^.!?]+$", completion.strip())), least, most, "sentences")


def paragraphs(completion: str, answer: str, least: int = 1, most: int | None = None):
    return within(len([p for p in re.split(r"\n\s*\n", completion) if p.strip()]), least, most, "paragraphs")


def bullets(completion: str, answer: str, least: int = 1, most: int | None = None):
    return within(len(re.findall(r"^\s*(?:[-*•]|\d+[.)])\s", completion, re.MULTILINE)), least, most, "list items")


def letters(completion: str, answer: str, case: str):
    changed = {"lower": completion.lower(), "upper": completion.upper()}[case]
    return completion == changed, f"not all letters are {case} case"


def starts_and_ends(completion: str, answer: str, start: str = "", end: str = ""):
    text = completion.strip()
    return text.startswith(start) and text.endswith(end), f"it should start with {start!r} and end with {end!r}"


def valid_json(completion: str, answer: str, keys: list[str] = ()):
    """The whole completion, or its one fenced block, parses as JSON; an object with at least these keys."""
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)```\s*", completion, re.DOTALL)
    try:
        value = json.loads(fenced[1] if fenced else completion)
    except (ValueError, RecursionError) as error:  # also for numbers of thousands of digits and deep nesting
        return False, f"not JSON: {error}"
    missing = [k for k in keys if not isinstance(value, dict) or k not in value]
    return not missing, f"missing keys: {', '.join(missing)}"


def language(completion: str, answer: str, code: str):
    found = language_of(completion)
    return found == code, f"it reads as {found or 'no language that is known here'}, wanted {code}"


def language_of(text: str) -> str | None:
    """By script where that is enough, else by the share of function words; None if undecided."""
    for code in ("ja", "ko", "zh", "ru", "ar"):  # Japanese before Chinese: it uses both scripts
        if len(re.findall(f"[{SCRIPTS[code]}]", text)) > 0.2 * max(1, len(re.findall(r"\w", text))):
            return code
    found = re.findall(r"[^\W\d_]+", text.lower())
    share = {code: sum(w in listed.split() for w in found) for code, listed in FUNCTION_WORDS.items()}
    best, second = sorted(share, key=share.get, reverse=True)[:2]
    return best if share[best] >= 2 and share[best] > share[second] else None


def python(completion: str, answer: str, tests: list[str]):
    """The share of unit tests that pass in the sandbox; the code is in fenced blocks, or is the whole completion."""
    fenced = FENCE.findall(completion)
    ran = sandbox.run("\n".join(fenced) if fenced else completion, list(tests))
    return sum(ran.passed) / len(tests), ran.error


CHECKS: dict[str, Callable] = {
    "number": number,
    "exact": exact,
    "ends_with_answer": ends_with_answer,
    "regex": regex,
    "contains": contains,
    "avoids": avoids,
    "words": words,
    "sentences": sentences,
    "paragraphs": paragraphs,
    "bullets": bullets,
    "letters": letters,
    "starts_and_ends": starts_and_ends,
    "json": valid_json,
    "language": language,
    "python": python,
}
