"""ARTE: the teacher writes several drafts; kept are those with which the student does best as in-context examples.

    s(draft) = mean over probes q' of 1[ S(draft, q') passes the checks of q' ]           ARTE, arXiv 2406.19227, Eq. 2

The paper then trains the teacher on these scores by DPO; here they only filter its drafts.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit, log_expit

from kdloop import packs
from kdloop.knowledge.labeling import ask, render, unusable
from kdloop.knowledge.rows import SourceContext
from kdloop.knowledge.self_knowledge import checkable
from kdloop.packs import Task
from kdloop.raters import verifiers
from kdloop.raters.teacher import by_teacher
from storage.conversations import as_prompt

DRAFT_TEMPLATES = ("plain", "explain", "step_by_step", "equations")  # of labeling.py, one draft each
PROBE_FACTOR = 2.5  # probes tried per probe kept: many of a pack's prompts are solved always or never


def preferred(context: SourceContext, tasks: Sequence[Task], probes: int = 40, keep: float = 0.25) -> int:
    """One draft per template and prompt; of those that pass their prompt's checks, the share `keep` with the best
    scores as the student's one-shot example on `probes` other prompts of the pack.

    Costs drafts x probes x 2.5 short completions of the student. Raises Refused for a pack without checks.
    """
    drafts, scores = scored(context, tasks, probes)
    kept = np.argsort(-scores, kind="stable")[: max(1, round(keep * len(drafts)))]
    for i in kept:
        task, answer, template = drafts[i]
        draft = by_teacher(answer, template=template, score=float(scores[i]))
        context.write(task.prompt, draft, source="teacher", rater=answer.teacher.name)
    return len(kept)


def scored(context: SourceContext, tasks: Sequence[Task], probes: int) -> tuple[list, np.ndarray]:
    """(correct drafts, as by `drafted`; their scores from 0 to 1): mean success on the most discriminating probes."""
    drafts, own = drafted(context, checkable(tasks)), {t.prompt for t in tasks}
    if not drafts:
        return [], np.zeros(0)
    others = [t for t in packs.tasks(context.pack.name, "train") if t.prompt not in own]
    others = others[: round(PROBE_FACTOR * probes)]
    passed = responses(context, drafts, others)
    return drafts, passed[:, np.argsort(-discrimination(passed))[:probes]].mean(1)


def drafted(context: SourceContext, tasks: Sequence[Task]) -> list[tuple[Task, object, str]]:
    """(task, answer, template) of each correct draft."""
    requests = [(task, template) for task in tasks for template in DRAFT_TEMPLATES]
    answers = ask(context, [render(template, task.prompt) for task, template in requests], temperature=1.0)
    found = [
        (task, a, template)
        for (task, template), a in zip(requests, answers, strict=True)
        if a.ok and not unusable(a.text)
    ]
    return [d for d in found if verifiers.passed(d[0], d[1].text)]


def responses(context: SourceContext, drafts: list, probes: Sequence[Task]) -> np.ndarray:
    """(drafts, probes): 1 where the student, with the draft as an example, passes the probe's checks."""
    prompts = [
        [*as_prompt(task.prompt), {"role": "assistant", "content": answer.text}, *as_prompt(probe.prompt)]
        for task, answer, _ in drafts
        for probe in probes
    ]
    texts = [s.text for (s,) in context.draw(prompts, 1, "preferred", temperature=0.0)]
    right = [verifiers.passed(p, text) for p, text in zip(list(probes) * len(drafts), texts, strict=True)]
    return np.array(right, float).reshape(len(drafts), len(probes))


def discrimination(passed: np.ndarray) -> np.ndarray:
    """(items,) discrimination a of the two-parameter logistic model p = sigmoid(a (theta - b)) (Birnbaum 1968), at the
    posterior mode under theta, b ~ N(0, 1) and log a ~ N(0, 1/4).

    `passed` is (test takers, items), of 0 and 1.
    """
    takers, items = passed.shape

    def loss(x):
        theta, log_a, b = np.split(x, [takers, takers + items])
        a, distance = np.exp(log_a), theta[:, None] - b
        z = a * distance
        residual = expit(z) - passed
        value = -(passed * log_expit(z) + (1 - passed) * log_expit(-z)).sum()
        value += (theta @ theta + b @ b) / 2 + 2 * log_a @ log_a
        slopes = [
            (residual * a).sum(1) + theta,
            (residual * distance).sum(0) * a + 4 * log_a,
            -(residual * a).sum(0) + b,
        ]
        return value, np.concatenate(slopes)

    from scipy.optimize import minimize  # half a second that other rounds do not wait for

    share = passed.mean(1)
    start = np.concatenate([(share - share.mean()) / (share.std() + 1e-6), np.zeros(2 * items)])
    return np.exp(minimize(loss, start, jac=True, method="L-BFGS-B").x[takers : takers + items])
