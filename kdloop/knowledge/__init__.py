"""Knowledge elicitation: each source writes ordinary rows (turns, completions, feedback) with provenance.

KNOWLEDGE holds the survey's six kinds by name: `source(context, tasks, **options) -> number of rows written`.

In: tasks and a SourceContext (who may write, who may judge). Out: rows in the database. May import raters, feedback,
packs, student and storage; never methods.
"""

from collections.abc import Sequence

from kdloop.knowledge import (
    clusters,
    curation,
    dialogue,
    expansion,
    feature,
    feedback,
    hindsight,
    labeling,
    passages,
    preferred,
    references,
    reflection,
    self_knowledge,
    self_play,
)
from kdloop.knowledge.rows import SourceContext
from kdloop.packs import Task

KNOWLEDGE = {
    "best_of_n": self_knowledge.best_of_n,
    "verified": self_knowledge.verified,
    "majority": self_knowledge.majority,
    "star": self_knowledge.star,
    "rest": self_knowledge.rest,
    "rlcd": self_play.rlcd,
    "spin": self_play.spin,
    "self_rewarding": self_play.self_rewarding,
    "self_lengthen": self_play.self_lengthen,
    "debate": self_play.debate,
    "references": references.references,
    "labels": labeling.labels,
    "clustered": clusters.clustered,
    "self_chat": dialogue.self_chat,
    "reflect": reflection.reflect,
    "preferred": preferred.preferred,
    "compare": feedback.compare,
    "scores": feedback.scores,
    "verdicts": feedback.verdicts,
    "revise": feedback.revise,
    "refine": feedback.refine,
    "hindsight": hindsight.hindsight,
    "self_instruct": expansion.self_instruct,
    "evolve": expansion.evolve,
    "hard_and_easy": expansion.hard_and_easy,
    "topics": curation.topics,
    "documents": passages.documents,
    "grounded": passages.grounded,
    "mosaic": curation.mosaic,
    "features": feature.features,
}


TAUGHT_SOURCES = frozenset(  # ask a teacher whose terms allow training
    (
        *("labels", "clustered", "self_chat", "reflect", "preferred", "compare", "scores", "verdicts", "revise"),
        *("refine", "self_instruct", "evolve", "hard_and_easy", "topics", "documents", "grounded", "features"),
    )
)
JUDGED_SOURCES = frozenset({"compare", "scores", "verdicts", "hard_and_easy"})  # of them, by a judge that people back

MULTI_TURN_SOURCES = (  # also take tasks with a conversation before the prompt; the others need a lone question
    "best_of_n",
    "references",
    "labels",
    "reflect",
    "compare",
    "scores",
    "verdicts",
    "revise",
    "features",
)


def elicit(context: SourceContext, tasks: Sequence[Task], steps: Sequence[dict]) -> dict[str, int]:
    """Carry out a recipe's [[knowledge]] steps; source -> number of rows written. Raises Refused with the reason."""
    written: dict[str, int] = {}
    for step in steps:
        options = {k: v for k, v in step.items() if k != "source"}
        usable = tasks if step["source"] in MULTI_TURN_SOURCES else [t for t in tasks if not t.before]
        rows = KNOWLEDGE[step["source"]](context, usable, **options)
        written[step["source"]] = written.get(step["source"], 0) + rows
    return written
