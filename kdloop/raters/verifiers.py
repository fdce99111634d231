"""Programmatic checks as raters: verifiable requirements of a completion.

A check is {"check": NAME, ...options} in a pack, or at one of its prompts; CHECKS names them all. A completion passes
when all its checks do; its score is their mean.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from types import GenericAlias, UnionType

from kdloop.packs import Task, patterns
from kdloop.raters import sandbox
from kdloop.raters.constraints import CONSTRAINTS
from kdloop.raters.final_answers import FINAL_ANSWERS, numbers_of

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
SAID_ANEW = 0.1  # of a completion's words: with fewer beside the prompt's it only says the prompt again
SAMPLE = "This is one. And another, with 2 words!"


@dataclass(frozen=True)
class Finding:
    """The result of one check: a `score` from 0 to 1, and the `reason` why it is not 1."""

    check: str
    score: float
    reason: str = ""


def verify(task: Task, completion: str) -> list[Finding]:
    """The findings of all the task's checks; a completion that only says the prompt again passes none. Raises
    ValueError for an unknown check: a typo in a pack must not pass everything."""
    found = [find(check, completion, task.answer) for check in task.checks]
    if repeats(task.prompt, completion):
        return [Finding(f.check, 0.0, "it only says the prompt again") for f in found]
    return found


def repeats(prompt: str, completion: str) -> bool:
    """Whether it says all of the prompt, once or more, and next to nothing else."""
    asked, said = (" ".join(re.findall(r"\w+", text.casefold())) for text in (prompt, completion))
    if len(asked.split()) < 3 or asked not in said:
        return False
    return len(said.replace(asked, " ").split()) <= SAID_ANEW * len(said.split())


def find(check: dict, completion: str, answer: str) -> Finding:
    options = {k: v for k, v in check.items() if k != "check"}
    if check["check"] not in CHECKS:
        raise ValueError(f"No check {check['check']!r}; there are {', '.join(CHECKS)}")
    if not completion.strip():
        return Finding(check["check"], 0.0, "it is empty")
    score, reason = CHECKS[check["check"]](completion, answer, **options)
    return Finding(check["check"], float(score), "" if score == 1 else reason)


def wrong_check(check: dict, answer: str | None) -> str:
    """What is wrong with the check itself, or with its answer (where one is given): an unknown name or option, a value
    of another kind; "" if nothing is. Nothing of a pack runs: the tests of `python` are read alone."""
    name = check["check"]
    if name not in CHECKS:
        return f"there is no check {name!r}; there are {', '.join(CHECKS)}"
    known = signature_of(name)
    options = {k: v for k, v in check.items() if k != "check"}
    if unknown := set(options) - {p.name for p in known}:
        return f"{name} has no option {unknown.pop()!r}; there are {', '.join(p.name for p in known) or 'none'}"
    if missing := [p.name for p in known if p.default is p.empty and p.name not in options]:
        return f"{name} needs {missing[0]!r}"
    for p in known:
        if p.name in options and not is_kind(options[p.name], p.annotation):
            wanted = getattr(p.annotation, "__name__", p.annotation)
            return f"{name}'s {p.name} = {options[p.name]!r}, wanted {wanted}"
    if name == "python" or answer is None:
        return ""
    try:
        CHECKS[name](SAMPLE, answer, **options)
    except (ValueError, KeyError) as error:  # an answer without a number, a pattern that is none, another case
        return str(error)
    return ""


def signature_of(name: str) -> list[Parameter]:
    """The options of a check, as parameters of its function."""
    _, _, *known = signature(CHECKS[name]).parameters.values()
    return known


def options_of(name: str) -> list[str]:
    """The same as text, each with its type and default."""
    return [str(p) for p in signature_of(name)]


def is_kind(value: object, annotation: object) -> bool:
    """Whether a value from TOML or JSON is of an option's type."""
    if isinstance(annotation, UnionType):
        return any(is_kind(value, one) for one in annotation.__args__)
    if isinstance(annotation, GenericAlias):
        return isinstance(value, (list, tuple)) and all(is_kind(v, annotation.__args__[0]) for v in value)
    if annotation in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if annotation is float else annotation)


def score(task: Task, completion: str) -> float:
    """The mean score of the task's checks."""
    findings = verify(task, completion)
    return sum(f.score for f in findings) / len(findings)


def passed(task: Task, completion: str) -> bool:
    return all(f.score == 1 for f in verify(task, completion))


def is_number(answer: str) -> bool:
    """Whether a reference answer is one number, perhaps with its unit."""
    return len(numbers_of(answer)) == 1 and len(answer.split()) <= 2


def exact(completion: str, answer: str, ignore_case: bool = True):
    """The whole completion equals the answer, apart from spaces, quotes and a full stop at the ends."""
    found, expected = (t.strip(" \n\t\"'`.*").casefold() if ignore_case else t.strip() for t in (completion, answer))
    return found == expected, f"it should be {answer!r}"


def ends_with_answer(completion: str, answer: str):
    """The completion's last words are the answer's words."""
    found, expected = (re.findall(r"\w+", t.lower()) for t in (completion, answer))
    if not expected:
        raise ValueError(f"The answer {answer!r} has no word to end with")
    return found[-len(expected) :] == expected, f"it should end with {answer!r}"


def regex(completion: str, answer: str, pattern: str, absent: bool = False):
    try:
        found = patterns.search(pattern, completion) is not None
    except TimeoutError as error:
        return False, str(error)
    return found != absent, f"the pattern {pattern!r} is {'present' if found else 'absent'}"


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
    **FINAL_ANSWERS,
    "exact": exact,
    "ends_with_answer": ends_with_answer,
    "regex": regex,
    **CONSTRAINTS,
    "language": language,
    "python": python,
}
