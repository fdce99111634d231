"""Hindsight: what a person writes next tells of the answer before it (Kleine Buening et al. 2026, arXiv 2603.12273).

    c(x, y) = the person's message after y                 the context of the self-teacher, as a critique (method sdpo)

The paper compares the student with and without c on y itself, and leaves y out of c. Here the student samples anew, and
its teacher reads y, too. Every message is taken, as there: also one that has turned to something else.
"""

from collections.abc import Sequence

from kdloop import packs
from kdloop.feedback.examples import asks_any_of
from kdloop.knowledge.rows import Refused, SourceContext
from kdloop.knowledge.self_play import as_draft
from kdloop.packs import Task
from storage import follow_ups, rounds


def hindsight(context: SourceContext, tasks: Sequence[Task], most: int = 96) -> int:
    """The newest `most` messages that follow an answer of the student, of people who allow it, each as a critique of
    that answer. The pack's `tasks` are not asked.

    Raises Refused where the owner has not allowed it, or nobody has written any.
    """
    if not context.hindsight:
        raise Refused("To learn from what people write next is off: an owner can allow it on the Admin tab")
    read = context.round.replays or context.round.id  # a repeated round reads what the first one could
    held_out = packs.held_out(*{"general", context.pack.name})
    taken = follow_ups.take(context.db, rounds.get_round(context.db, read).created_at, most)
    found = [one for one in taken if not asks_any_of(one.prompt, held_out)]
    if not found:
        raise Refused("Nobody who allows it has written anything after an answer yet")
    for one in found:
        said = {"source": "student", "rater": "hindsight", "channel": "critique", "critique": one.message}
        context.write(one.prompt, None, as_draft(one.completion), **said)
    return len(found)
