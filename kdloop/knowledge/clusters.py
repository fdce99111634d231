"""Clusters: the teacher names groups of prompts that are alike, and answers each prompt as one of its group.

    D = { (x, y) | x ~ X, y ~ p_T(y | I + name(x) + x) }     survey Eq. 3; after 2404.09606

The paper's clusters are of chemical reactions, and it changes them until the teacher's names fit; here they stay.
"""

from collections.abc import Sequence

import numpy as np

from kdloop.knowledge.labeling import ask, in_template, prompts_restricted, request_in, unusable
from kdloop.knowledge.rows import SourceContext
from kdloop.packs import Task
from kdloop.raters import verifiers
from kdloop.raters.features import embed
from kdloop.raters.teacher import by_teacher
from storage.conversations import as_prompt

NAME = "What kind of requests are these? Name the kind in a few words. Give the name alone.\n\n{shown}"
OF_KIND = "{question}\n\n(A request of this kind: {name}. Answer it as such requests are answered best.)"
SHOWN = 6  # prompts nearest to the center, by which a cluster is named
MAX_NAME_WORDS = 12


def clustered(context: SourceContext, tasks: Sequence[Task], clusters: int = 4) -> int:
    """A teacher's liked completion per prompt, asked for with the name of the prompt's cluster; the row keeps the name,
    and the student is trained on the plain prompt. Prompts of a cluster without a usable name are left out."""
    groups = k_means(embed([t.prompt for t in tasks]), clusters, context.round.seed)
    shown = ["\n".join(f"- {' '.join(tasks[i].prompt.split())}" for i in group[:SHOWN]) for group in groups]
    names = [request_in(a) for a in ask(context, [as_prompt(NAME.format(shown=s)) for s in shown], temperature=0.0)]
    named = [(tasks[i], n) for n, group in zip(names, groups, strict=True) for i in group if is_name(n)]
    requests = [in_template(task.messages, OF_KIND, name=name) for task, name in named]
    rows, terms = 0, prompts_restricted(context)  # any of several teachers may have named the cluster
    for (task, name), answer in zip(named, ask(context, requests), strict=True):
        if answer.ok and not unusable(answer.text) and verifiers.passed(task, answer.text):
            draft = by_teacher(answer, terms, template="clustered", cluster=name)
            context.write(task.messages, draft, source="teacher", rater=answer.teacher.name)
            rows += 1
    return rows


def is_name(text: str) -> bool:
    return not unusable(text, MAX_NAME_WORDS)


def k_means(vectors: np.ndarray, k: int, seed: int) -> list[list[int]]:
    """Indices of the (n, d) vectors in at most k clusters, in each those nearest to its center first."""
    from sklearn.cluster import KMeans  # only this source waits for it

    fitted = KMeans(min(k, len(vectors)), n_init=4, random_state=seed).fit(vectors)
    far = np.linalg.norm(vectors - fitted.cluster_centers_[fitted.labels_], axis=1)
    nearest_first = np.argsort(far, kind="stable").tolist()
    return [[i for i in nearest_first if fitted.labels_[i] == c] for c in range(fitted.n_clusters)]
