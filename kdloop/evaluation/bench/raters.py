"""The preference model: a refit after one more vote, with the features of all others cached."""

import random
import statistics
import time
from collections.abc import Iterator

from kdloop import packs
from kdloop.evaluation.bench import Figure, N, within
from kdloop.feedback.examples import Example
from kdloop.raters import preference_model
from storage.conversations import Completion, as_prompt

VOTES, TEXTS, RATERS = 10_000, 2_000, (1, 50)
BUDGET = 1.0  # seconds: not noticed in the background of a vote


def refit() -> Iterator[Figure]:
    """Seconds of a refit against a budget, for votes of one rater and of many."""
    questions = packs.prompts("general", "train")
    words = sorted({w for question in questions for w in question.split()})
    for raters in RATERS:
        votes = [vote(i, questions, words, raters) for i in range(VOTES)]
        preference_model.fit(votes)  # computes all features

        def once_more(i: int, votes=votes, raters=raters) -> float:
            more, start = [*votes, vote(VOTES + i, questions, words, raters)], time.perf_counter()
            preference_model.fit(more)
            return time.perf_counter() - start

        seconds = statistics.median([once_more(i) for i in range(N + 1)][1:])  # the first one is a warm-up
        name = f"refit after one more of {VOTES} votes, {raters} rater{'s' * (raters > 1)}"
        yield within(name, seconds, BUDGET, "s")


def vote(i: int, questions: list[str], words: list[str], raters: int) -> Example:
    """A choice between two synthetic texts, in four of five cases of the shorter one."""
    draw = random.Random(i)
    sides = sorted((text(draw.randrange(TEXTS), words) for _ in range(2)), key=len, reverse=draw.random() < 0.2)
    chosen, rejected = (Completion(f"{i}{at}", "t", "student", 1, t) for at, t in enumerate(sides))
    prompt = as_prompt(questions[i % len(questions)])
    return Example(prompt, chosen, rejected, f"c{i}", (str(i),), rater=f"rater {draw.randrange(raters)}")


def text(i: int, words: list[str]) -> str:
    draw = random.Random(i)
    return " ".join(draw.choices(words, k=draw.randint(4, 60))) + "."
