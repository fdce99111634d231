"""Self-knowledge: the student's own samples, filtered without a teacher.

    D = { (x, y, phi(x, y)) | x ~ S, y ~ p_S(y | x) }                       survey Eq. 8; phi is what filters

phi is the preference model (best_of_n), a verifier (verified, star, rest), or self-consistency (majority).
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from kdloop.feedback.examples import echoes
from kdloop.knowledge.rows import Refused, SourceContext, with_how
from kdloop.packs import Task
from kdloop.raters import final_answers, verifiers
from kdloop.raters.features import embed_prompts
from kdloop.raters.preference_model import PreferenceModel, proven, read
from storage.conversations import Draft, Message, as_prompt, transcript

N = 4  # samples per prompt; the recipe of votes takes 8 (docs/log.md, "Best of 8 within 0.1")
SPREAD = 0.8  # sampling temperature where completions are compared: identical ones carry no preference
MAX_TOPIC_DRIFT = 0.1  # cosine; at 0.0 students learned to echo, without a bound to drift off topic (docs/log.md)
NO_DRIFT_LIMIT = 2.0  # the largest difference of two cosines
MIN_PROBABILITY = 0.6  # that best beats worst; a convention, below it a pair is close to a coin flip
HINT = "\n\nThe answer is {answer}. Say how to get there, and end with the answer."
MAJORITY = 0.5  # of the samples; LMSI itself takes the most frequent answer, whatever its share


def best_of_n(
    context: SourceContext,
    tasks: Sequence[Task],
    n: int = N,
    sure: float = MIN_PROBABILITY,
    echoes: int = 0,
    astray: float = MAX_TOPIC_DRIFT,
) -> int:
    """Best and worst of `n` by the preference model make a pair where it is sure enough (RAFT, Dong et al. 2023).

    This multiplies a few dozen votes into on-policy pairs. The best may be farther from its prompt (embedding cosine)
    than the worst by at most `astray`, or the pairs would also teach drifting off topic. The first `echoes` of the best
    are also preferred to an echo of their prompt, which a small student falls into when it learns to be brief.
    Raises Refused without a preference model whose skill is proven.
    """
    if not proven(context.rater):
        raise Refused("best_of_n needs a preference model that is shown to be above chance")
    groups = context.ask(tasks, n, "best_of_n", temperature=SPREAD)
    ranked = rank(context.rater, [t.messages for t in tasks], groups, sure, astray)
    for prompt, best, worst, probability in ranked:
        context.write(
            prompt,
            best,
            worst,
            source="preference_model",
            rater=f"preference model of round {context.round.id}",
            score=probability,
        )
    for prompt, best, *_ in ranked[:echoes]:
        context.write(
            prompt, best, echo_of(prompt[-1]["content"]), source="student", rater="contrast: the prompt again"
        )
    return len(ranked) + len(ranked[:echoes])


def echo_of(question: str) -> Draft:
    """The prompt itself as a completion, with a person as its author."""
    return Draft(question, "finished", "human", {"name": "the prompt"})


def rank(
    rater: PreferenceModel,
    prompts: list[list[Message]],
    groups: list[list[Draft]],
    sure: float,
    astray: float = NO_DRIFT_LIMIT,
) -> list[tuple[list[Message], Draft, Draft, float]]:
    """(prompt, best, worst, probability that best beats worst) where this is at least `sure`, by `best_and_worst`.

    All groups have the same size. An echo of the prompt loses with certainty: a rater of style cannot see that it
    answers nothing, and may even prefer it for being short.
    """
    n, texts, last = len(groups[0]), list(map(transcript, prompts)), [p[-1]["content"] for p in prompts]
    questions, completions = [q for q in texts for _ in range(n)], [d.said for group in groups for d in group]
    scores = rater.scores(questions, completions).reshape(-1, n)
    similarity = (np.repeat(embed_prompts(prompts), n, axis=0) * read(questions, completions)[1]).sum(1).reshape(-1, n)
    echo = np.array([[echoes(q, d.text) for d in group] for q, group in zip(last, groups, strict=True)])
    found = [(i, best_and_worst(scores[i], similarity[i], echo[i], astray)) for i in range(len(prompts))]
    found = [(i, groups[i][pair[0]], groups[i][pair[1]]) for i, pair in found if pair]
    if not found:
        return []
    p = rater.probabilities(
        [texts[i] for i, _, _ in found], [b.said for _, b, _ in found], [w.said for _, _, w in found]
    )
    p = np.where(echo[[i for i, _, _ in found]].any(1), 1.0, p).tolist()
    pairs = [(prompts[i], best, worst, q) for (i, best, worst), q in zip(found, p, strict=True)]
    return [pair for pair in pairs if pair[3] >= sure and pair[1].text and pair[2].text]


def best_and_worst(
    scores: np.ndarray, similarity: np.ndarray, echo: np.ndarray, astray: float
) -> tuple[int, int] | None:
    """Indices of the pair with the greatest difference of scores; None where no completion is better than another.

    All arrays are (n,): `similarity` to the prompt, `echo` whether it only repeats the prompt. The better one is no
    echo, and at most `astray` less similar to the prompt than the worse one. If there is an echo, it is the worse one.
    """
    if echo.any():
        return None if echo.all() else (int(np.where(echo, -np.inf, scores).argmax()), int(echo.argmax()))
    allowed = similarity[:, None] >= similarity[None, :] - astray
    difference = np.where(allowed, scores[:, None] - scores[None, :], 0.0)
    best, worst = divmod(int(difference.argmax()), len(scores))
    return (best, worst) if difference[best, worst] > 0 else None


def verified(context: SourceContext, tasks: Sequence[Task], n: int = 2 * N, temperature: float = SPREAD) -> int:
    """Rejection sampling: a completion that passes the checks is chosen, one that fails rejected (Yuan et al. 2023).

    One row per prompt: a pair if some pass and some fail, a liked completion if all pass, none if none does.
    """
    rows = 0
    for task, group in zip(checkable(tasks), context.ask(tasks, n, "verified", temperature=temperature), strict=True):
        right, wrong = by_check(task, group)
        if right:
            write_verified(context, task, right[0], wrong[0] if wrong else None)
            rows += 1
    return rows


def star(context: SourceContext, tasks: Sequence[Task], n: int = N, temperature: float = SPREAD) -> int:
    """STaR (Zelikman et al. 2022): keep completions that reach the answer; where none does, sample again with the
    answer as a hint (rationalisation), and store what then passes under the prompt without the hint."""
    groups = context.ask(checkable(tasks), n, "star", temperature=temperature)
    split = [by_check(task, group) for task, group in zip(tasks, groups, strict=True)]
    failed = [i for i, (right, _) in enumerate(split) if not right]
    hinted = [as_prompt(tasks[i].prompt + HINT.format(answer=tasks[i].answer)) for i in failed]
    second = context.draw(hinted, n, "star hints", temperature=temperature) if hinted else []
    rationalised = {i: by_check(tasks[i], group)[0] for i, group in zip(failed, second, strict=True)}
    rows = 0
    for i, (task, (right, wrong)) in enumerate(zip(tasks, split, strict=True)):
        if kept := right or rationalised.get(i):
            draft = kept[0] if right else with_how(kept[0], hint=task.answer)
            write_verified(context, task, draft, wrong[0] if wrong else None)
            rows += 1
    return rows


def rest(
    context: SourceContext, tasks: Sequence[Task], n: int = 2 * N, thresholds: Sequence[float] = (0.4, 0.7, 1.0)
) -> int:
    """ReST (Gulcehre et al. 2023): each Improve step keeps the completions above its threshold, and thresholds rise.

    A completion's score is the mean of the task's checks. A recipe takes the next threshold after each promotion.
    Raises ValueError for thresholds that do not rise.
    """
    if list(thresholds) != sorted(thresholds):
        raise ValueError(f"ReST's thresholds must rise, {list(thresholds)} do not")
    threshold, rows = thresholds[min(context.nth, len(thresholds) - 1)], 0
    for task, group in zip(checkable(tasks), context.ask(tasks, n, "rest", temperature=SPREAD), strict=True):
        for draft, score in at_least(task, group, threshold):
            context.write(task.prompt, draft, source="verifier", rater=named(task), score=score)
            rows += 1
    return rows


def at_least(task: Task, group: list[Draft], threshold: float) -> list[tuple[Draft, float]]:
    """The distinct completions with at least this score, with their scores."""
    scored = {s.text: (s, verifiers.score(task, s.text)) for s in group if s.text}
    return [(s, score) for s, score in scored.values() if score >= threshold]


def majority(
    context: SourceContext, tasks: Sequence[Task], n: int = 2 * N, share: float = MAJORITY, temperature: float = SPREAD
) -> int:
    """LMSI (Huang et al. 2023): a completion with the majority's answer is chosen, one with another answer rejected.

    A task's reference answer is never read: self-consistency replaces it where at least `share` of the samples agree.
    """
    rows = 0
    for task, group in zip(tasks, context.ask(tasks, n, "majority", temperature=temperature), strict=True):
        agreed, others = vote(group, share)
        if agreed:
            context.write(task.prompt, agreed[0], others[0] if others else None, source="student", rater="majority")
            rows += 1
    return rows


def vote(group: list[Draft], share: float) -> tuple[list[Draft], list[Draft]]:
    """(drafts with the majority's answer, drafts with another); both empty if no answer has the share, or two tie."""
    answers = [answer_in(s.text) for s in group]
    counts = Counter(a for a in answers if a)
    top = counts.most_common(2)
    if not top or top[0][1] < share * len(group) or (len(top) > 1 and top[0][1] == top[1][1]):
        return [], []
    agreed = [s for s, a in zip(group, answers, strict=True) if a == top[0][0]]
    others = [s for s, a in zip(group, answers, strict=True) if a and a != top[0][0]]
    return sorted(agreed, key=unfinished), sorted(others, key=unfinished)


def answer_in(text: str) -> str:
    """A completion's final answer: its last number, else its last line without case and punctuation."""
    number = final_answers.number_in(text)
    lines = text.strip().lower().splitlines() or [""]
    return str(number) if number is not None else " ".join(re.findall(r"\w+", lines[-1]))


def checkable(tasks: Sequence[Task]) -> Sequence[Task]:
    """The tasks. Raises Refused if one of them has no checks."""
    if any(not t.verifiable for t in tasks):
        raise Refused("This source needs a pack with checks (packs/*/pack.toml)")
    return tasks


def by_check(task: Task, group: list[Draft]) -> tuple[list[Draft], list[Draft]]:
    """(distinct drafts that pass, distinct drafts that fail); finished ones first, else in sampling order."""
    distinct = list({s.text: s for s in group if s.text}.values())
    right = [s for s in distinct if verifiers.passed(task, s.text)]
    return sorted(right, key=unfinished), sorted((s for s in distinct if s not in right), key=unfinished)


def unfinished(draft: Draft) -> bool:
    return draft.status != "finished"


def write_verified(context: SourceContext, task: Task, right: Draft, wrong: Draft | None) -> None:
    context.write(task.prompt, right, wrong, source="verifier", rater=named(task))


def named(task: Task) -> str:
    return "checks: " + ", ".join(c["check"] for c in task.checks)
