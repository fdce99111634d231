"""Drafts that the student learns from best: the teacher writes several, and the student's own success says which.

    s(draft) = mean over probes q' of 1[ S(draft, q') passes the checks of q' ]           ARTE, arXiv 2406.19227, Eq. 2

The paper goes on to train the teacher on these scores; here they choose among its drafts (ARTE-filter).
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from kdloop import packs
from kdloop.knowledge.labeling import ask, render, unusable
from kdloop.knowledge.rows import SourceContext
from kdloop.knowledge.self_knowledge import checkable
from kdloop.packs import Task
from kdloop.raters import verifiers
from kdloop.raters.teacher import by_teacher
from storage.conversations import as_prompt

WAYS = ("plain", "explain", "step_by_step", "equations")  # templates of labeling.py: one draft each
TRIED = 2.5  # times as many probes are tried as are kept


def preferred(context: SourceContext, tasks: Sequence[Task], probes: int = 40, keep: float = 0.25) -> int:
    """A draft a template for each prompt; those of the share `keep` that help the student most, as its one example, to
    pass the checks of `probes` other prompts of the pack. A draft that fails its own prompt's checks is none.

    Asks the student drafts x probes x 2.5 short completions. Raises Refused for a pack without checks.
    """
    drafts, scores = scored(context, tasks, probes)
    kept = np.argsort(-scores, kind="stable")[: max(1, round(keep * len(drafts)))]
    for i in kept:
        task, answer, way = drafts[i]
        said = by_teacher(answer, template=way, score=float(scores[i]))
        context.write(task.prompt, said, source="teacher", rater=answer.teacher.name)
    return len(kept)


def scored(context: SourceContext, tasks: Sequence[Task], probes: int) -> tuple[list, np.ndarray]:
    """(drafts that are right, as of `drafted`; their scores, 0 to 1): the mean over the probes that tell best."""
    drafts, asked = drafted(context, checkable(tasks)), {t.prompt for t in tasks}
    if not drafts:
        return [], np.zeros(0)
    others = [t for t in packs.tasks(context.pack.name, "train") if t.prompt not in asked][: round(TRIED * probes)]
    passed = responses(context, drafts, others)
    return drafts, passed[:, np.argsort(-discrimination(passed))[:probes]].mean(1)


def drafted(context: SourceContext, tasks: Sequence[Task]) -> list[tuple[Task, object, str]]:
    """(task, answer, template) of each draft that is right."""
    ways = [(task, way) for task in tasks for way in WAYS]
    answers = ask(context, [render(way, task.prompt) for task, way in ways], temperature=1.0)
    found = [(task, a, way) for (task, way), a in zip(ways, answers, strict=True) if a.ok and not unusable(a.text)]
    return [d for d in found if verifiers.passed(d[0], d[1].text)]


def responses(context: SourceContext, drafts: list, probes: Sequence[Task]) -> np.ndarray:
    """(drafts, probes): 1 where the student, shown the draft as an example, passes the probe's checks."""
    prompts = [
        [*as_prompt(task.prompt), {"role": "assistant", "content": answer.text}, *as_prompt(probe.prompt)]
        for task, answer, _ in drafts
        for probe in probes
    ]
    said = [s.text for (s,) in context.draw(prompts, 1, "preferred", temperature=0.0)]
    right = [verifiers.passed(p, text) for p, text in zip(list(probes) * len(drafts), said, strict=True)]
    return np.array(right, float).reshape(len(drafts), len(probes))


def discrimination(passed: np.ndarray) -> np.ndarray:
    """(items,) how well each item tells who is better: a of the two-parameter logistic model
    p = sigmoid(a (theta - b)) (Birnbaum 1968), a posteriori under theta, b ~ N(0, 1) and log a ~ N(0, 1/4).

    `passed` is (who, items), of 0 and 1.
    """
    people, items = passed.shape

    def loss(x):
        theta, log_a, b = np.split(x, [people, people + items])
        a, distance = np.exp(log_a), theta[:, None] - b
        z = a * distance
        wrong = expit(z) - passed
        value = -(passed * log_expit(z) + (1 - passed) * log_expit(-z)).sum()
        value += (theta @ theta + b @ b) / 2 + 2 * log_a @ log_a
        slopes = [(wrong * a).sum(1) + theta, (wrong * distance).sum(0) * a + 4 * log_a, -(wrong * a).sum(0) + b]
        return value, np.concatenate(slopes)

    share = passed.mean(1)
    start = np.concatenate([(share - share.mean()) / (share.std() + 1e-6), np.zeros(2 * items)])
    return np.exp(minimize(loss, start, jac=True, method="L-BFGS-B").x[people : people + items])
