"""References: what the pack's own makers wrote as the answer is learned; no teacher, no sampling.

    D = { (x, y) of the pack | phi(x, y) = 1 }          survey Eq. 3 with people as the teacher; phi are the checks

It is supervised fine-tuning on labelled data, the least that a domain's other sources must be better than.
"""

from collections.abc import Sequence

from kdloop.knowledge.rows import Refused, SourceContext
from kdloop.packs import Task
from kdloop.raters import verifiers
from storage.conversations import Draft


def references(context: SourceContext, tasks: Sequence[Task]) -> int:
    """A liked completion per prompt: its reference answer, where it passes the prompt's own checks. Its author is a
    person, by the pack's name and licence. Raises Refused for a pack without such answers."""
    passing = [t for t in tasks if t.answer and verifiers.passed(t, t.answer)]
    if not passing:
        raise Refused(f"The pack {context.pack.name} has no reference answers that pass their own checks")
    by = {"name": f"pack {context.pack.name}", "licence": context.pack.licence}
    for task in passing:
        draft = Draft(task.answer, "finished", "human", by)
        context.write(task.messages, draft, source="verifier", rater=by["name"])
    return len(passing)
