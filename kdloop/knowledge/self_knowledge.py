"""Self-knowledge: the student's own samples, filtered. No teacher, no people.

    D = { (x, y, phi(x, y)) | x ~ S, y ~ p_S(y | x) }                       survey Eq. 8; phi is what filters

phi is the preference model (best_of_n), a verifier (verified, star, rest), or agreement with oneself (majority). Every
source is `elicit(means, tasks, **options) -> rows written`.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from kdloop.feedback.examples import echoes
from kdloop.knowledge.rows import Refused, SourceContext, with_how
from kdloop.packs import Task
from kdloop.raters import verifiers
from kdloop.raters.features import embed_prompts
from kdloop.raters.preference_model import PreferenceModel, read
from storage.conversations import Draft, Message, as_prompt, transcript

N = 4
SPREAD = 0.8  # temperature of completions that are compared with each other: two alike say nothing
ASTRAY = 0.1  # of 0.0, students say their prompt again; without a bound, they leave it
ANYWHERE = 2.0  # no two cosines lie farther apart
ECHO = 1e9  # taken from the score of one that is no answer
SURE = 0.6  # the rater's probability that best beats worst
HINT = "\n\nThe answer is {answer}. Say how to get there, and end with the answer."
MAJORITY = 0.5


def best_of_n(
    context: SourceContext,
    tasks: Sequence[Task],
    n: int = N,
    sure: float = SURE,
    echoes: int = 0,
    astray: float = ASTRAY,
) -> int:
    """Best and worst of `n` by the preference model make a pair where it is sure enough (RAFT, Dong et al. 2023).

    Multiplies a few dozen votes into on-policy pairs. The best may be farther from its prompt's topic than the worst by
    `astray`, in cosine, and no more: else pairs that please also teach to leave what was asked. With `echoes`, so many
    of the best are also preferred to their prompt said again, into which a small student falls that is to be brief.
    Raises Refused without a preference model whose skill is proven.
    """
    if not (context.rater and context.rater.skill.proven):
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
        again = said_again(prompt[-1]["content"])
        context.write(prompt, best, again, source="student", rater="contrast: the prompt again")
    return len(ranked) + len(ranked[:echoes])


def said_again(question: str) -> Draft:
    """The prompt as a completion: its words are a person's."""
    return Draft(question, "finished", "human", {"name": "the prompt"})


def rank(
    rater: PreferenceModel, prompts: list[list[Message]], groups: list[list[Draft]], sure: float, astray=ANYWHERE
) -> list[tuple]:
    """(prompt, best, worst, probability) where the rater is sure enough; each prompt has as many completions.

    The two lie as far apart in score as two can of which the better is at most `astray` farther from the prompt. One
    that only repeats its prompt is the worst of its group, for certain: a rater of style cannot see that it is no
    answer, and a short one it would even like.
    """
    n, asked, last = len(groups[0]), list(map(transcript, prompts)), [p[-1]["content"] for p in prompts]
    sides = [s.said for group in groups for s in group]
    questions = [q for q in asked for _ in range(n)]
    scores = rater.scores(questions, sides).reshape(-1, n)
    near = (np.repeat(embed_prompts(prompts), n, axis=0) * read(questions, sides)[1]).sum(1).reshape(-1, n)
    echo = np.array([[echoes(q, s.text) for s in group] for q, group in zip(last, groups, strict=True)])
    scores = np.where(echo, -ECHO, scores)
    apart = scores[:, :, None] - scores[:, None, :]  # of each as the best, each as the worst
    strays = near[:, :, None] < near[:, None, :] - astray  # an echo is nearest, and no reason to say nothing
    best, worst = np.divmod(np.where(strays & ~echo[:, None, :], -ECHO, apart).reshape(-1, n * n).argmax(1), n)
    first = np.arange(len(prompts)) * n
    p = rater.probabilities(asked, [sides[i] for i in first + best], [sides[i] for i in first + worst])
    p = np.where(echo.any(1), 1.0, p)
    found = zip(prompts, groups, best.tolist(), worst.tolist(), p.tolist(), strict=True)
    ranked = [(q, group[b], group[w], p) for q, group, b, w, p in found if p >= sure and b != w]
    return [r for r in ranked if r[1].text and r[2].text and not echoes(r[0][-1]["content"], r[1].text)]


def verified(context: SourceContext, tasks: Sequence[Task], n: int = 2 * N, temperature: float = SPREAD) -> int:
    """Rejection sampling: what passes the checks is chosen, what fails is rejected (Yuan et al. 2023; ReST-EM).

    One row a prompt: a pair where both kinds were drawn, a liked completion where all passed, none where none did.
    """
    rows = 0
    for task, group in zip(checkable(tasks), context.ask(tasks, n, "verified", temperature=temperature), strict=True):
        right, wrong = by_check(task, group)
        if right:
            write_verified(context, task, right[0], wrong[0] if wrong else None)
            rows += 1
    return rows


def star(context: SourceContext, tasks: Sequence[Task], n: int = N, temperature: float = SPREAD) -> int:
    """STaR (Zelikman et al. 2022): keep what reaches the answer; where nothing does, ask again with the answer as a
    hint, and record what then passes under the prompt without it."""
    groups = context.ask(checkable(tasks), n, "star", temperature=temperature)
    split = [by_check(task, group) for task, group in zip(tasks, groups, strict=True)]
    missed = [i for i, (right, _) in enumerate(split) if not right]
    hinted = [as_prompt(tasks[i].prompt + HINT.format(answer=tasks[i].answer)) for i in missed]
    again = context.draw(hinted, n, "star hints", temperature=temperature) if hinted else []
    rationalised = {i: by_check(tasks[i], group)[0] for i, group in zip(missed, again, strict=True)}
    rows = 0
    for i, (task, (right, wrong)) in enumerate(zip(tasks, split, strict=True)):
        if kept := right or rationalised.get(i):
            said = kept[0] if right else with_how(kept[0], hint=task.answer)
            write_verified(context, task, said, wrong[0] if wrong else None)
            rows += 1
    return rows


def rest(
    context: SourceContext, tasks: Sequence[Task], n: int = 2 * N, thresholds: Sequence[float] = (0.4, 0.7, 1.0)
) -> int:
    """ReST (Gulcehre et al. 2023): each Improve step keeps what scores at least its threshold, and those rise.

    The scores are the mean of the task's checks. A recipe's first round takes the first threshold, its second the
    second...
    """
    if list(thresholds) != sorted(thresholds):
        raise ValueError(f"ReST's thresholds must rise, {list(thresholds)} do not")
    threshold, rows = thresholds[min(context.nth, len(thresholds) - 1)], 0
    for task, group in zip(checkable(tasks), context.ask(tasks, n, "rest", temperature=SPREAD), strict=True):
        for said, score in at_least(task, group, threshold):
            context.write(task.prompt, said, source="verifier", rater=named(task), score=score)
            rows += 1
    return rows


def at_least(task: Task, group: list[Draft], threshold: float) -> list[tuple[Draft, float]]:
    """The distinct completions that score so much; for rising thresholds each is a part of the one before."""
    scored = {s.text: (s, verifiers.score(task, s.text)) for s in group if s.text}
    return [(s, score) for s, score in scored.values() if score >= threshold]


def majority(
    context: SourceContext, tasks: Sequence[Task], n: int = 2 * N, share: float = MAJORITY, temperature: float = SPREAD
) -> int:
    """LMSI (Huang et al. 2023): a completion with the majority's answer is chosen, one with another answer rejected.

    Never looks at a task's own answer: consistency stands in for correctness, where at least `share` agree.
    """
    rows = 0
    for task, group in zip(tasks, context.ask(tasks, n, "majority", temperature=temperature), strict=True):
        agreed, others = vote(group, share)
        if agreed:
            context.write(task.prompt, agreed[0], others[0] if others else None, source="student", rater="majority")
            rows += 1
    return rows


def vote(group: list[Draft], share: float) -> tuple[list[Draft], list[Draft]]:
    """(those with the majority's answer, those with another); both empty where no answer has the share, or two tie."""
    answers = [answer_in(s.text) for s in group]
    counts = Counter(a for a in answers if a)
    top = counts.most_common(2)
    if not top or top[0][1] < share * len(group) or (len(top) > 1 and top[0][1] == top[1][1]):
        return [], []
    agreed = [s for s, a in zip(group, answers, strict=True) if a == top[0][0]]
    others = [s for s, a in zip(group, answers, strict=True) if a and a != top[0][0]]
    return sorted(agreed, key=unfinished), sorted(others, key=unfinished)


def answer_in(text: str) -> str:
    """What a completion settles on: its last number, else its last line without case and punctuation."""
    number = verifiers.number_in(text)
    lines = text.strip().lower().splitlines() or [""]
    return str(number) if number is not None else " ".join(re.findall(r"\w+", lines[-1]))


def checkable(tasks: Sequence[Task]) -> Sequence[Task]:
    """Raises Refused where a prompt has nothing to check a completion by."""
    if any(not t.verifiable for t in tasks):
        raise Refused("This source needs a pack with checks (packs/*/pack.toml)")
    return tasks


def by_check(task: Task, group: list[Draft]) -> tuple[list[Draft], list[Draft]]:
    """(distinct completions that pass, distinct ones that fail); finished ones first, else as they were drawn."""
    distinct = list({s.text: s for s in group if s.text}.values())
    right = [s for s in distinct if verifiers.passed(task, s.text)]
    return sorted(right, key=unfinished), sorted((s for s in distinct if s not in right), key=unfinished)


def unfinished(said: Draft) -> bool:
    return said.status != "finished"


def write_verified(context: SourceContext, task: Task, right: Draft, wrong: Draft | None) -> None:
    context.write(task.prompt, right, wrong, source="verifier", rater=named(task))


def named(task: Task) -> str:
    return "checks: " + ", ".join(c["check"] for c in task.checks)
