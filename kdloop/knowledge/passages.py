"""Passages: questions about documents, answered from memory, or from passages that are shown.

D = { (x, y) | x ~ p_T(x | I + m), y ~ p_T(y | I + x + m) }              survey Eq. 5; m is a passage
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from kdloop import packs
from kdloop.knowledge.expansion import Gate, held_out
from kdloop.knowledge.labeling import alone, ask, bound, unusable
from kdloop.knowledge.rows import Refused, SourceContext
from kdloop.packs import Task
from kdloop.raters.features import embed
from kdloop.raters.teacher import Answer, by_teacher
from storage import files
from storage.conversations import as_prompt

QUESTION = "Write one question that this passage answers. Give the question alone.\n\n{passage}"
ANSWER = "{question}\n\nAnswer from this passage only, in one or two sentences:\n\n{passage}"
PASSAGE_WORDS = 120
SHOWN = 3  # passages in a prompt
NOT_THERE = "That is not in the documents."
FROM_PASSAGES = """Answer from these passages only, and name the passage by its number. Where none of them answers, say:
{not_there}

{passages}

{question}"""


@dataclass(frozen=True)
class Index:
    """Passages by name, found by the cosine of their MiniLM embeddings to a question's."""

    passages: dict[str, str]

    @cached_property
    def vectors(self) -> np.ndarray:
        return embed(list(self.passages.values()))

    def nearest(self, question: str, k: int = SHOWN) -> list[str]:
        """Names of the k nearest passages, the nearest first."""
        names = list(self.passages)
        return [names[i] for i in np.argsort(-(self.vectors @ embed([question])[0]))[:k]]


def documents(context: SourceContext, tasks: Sequence[Task], directory: str = "") -> int:
    """Self-QA: one question and its answer from each passage of the pack's documents (or of `directory`)."""
    found, terms = questioned(context, passages_in(context, directory)), bound(context)
    for question, answer, name in found:
        said = by_teacher(answer, terms, origin="document", passage=name)
        context.write(question, said, source="teacher", rater=answer.teacher.name)
    return len(found)


def grounded(context: SourceContext, tasks: Sequence[Task], directory: str = "", absent: float = 0.2) -> int:
    """RAFT (Zhang et al. 2024): self-QA's questions with the nearest passages in a random order; the answer cites the
    one that it is from. A share of `absent` is asked without that passage, and the answer is that it is not there.

    Raises Refused where there are too few passages to have distractors.
    """
    passages = passages_in(context, directory)
    if len(passages) < 2:
        raise Refused("grounded needs documents of two passages or more: one alone has no distractors")
    found, index, draw = questioned(context, passages), Index(passages), random.Random(context.round.seed)
    terms, without = bound(context), draw.sample(range(len(found)), round(absent * len(found)))
    for i, (question, answer, name) in enumerate(found):
        names = [n for n in index.nearest(question, SHOWN + 1) if n != name][: SHOWN - (i not in without)]
        names += [] if i in without else [name]
        draw.shuffle(names)
        text = NOT_THERE if i in without else f"{answer.text.rstrip()} [{names.index(name) + 1}]"
        said = replace(by_teacher(answer, terms, origin="grounded", passage=name, shown=names), text=text)
        prompt = with_passages(question, [passages[n] for n in names])
        context.write(prompt, said, source="teacher", rater=answer.teacher.name)
    return len(found)


def with_passages(question: str, shown: Sequence[str]) -> str:
    """The prompt of a question that is to be answered from what is shown, passages numbered from 1."""
    numbered = "\n\n".join(f"[{i}] {passage}" for i, passage in enumerate(shown, 1))
    return FROM_PASSAGES.format(not_there=NOT_THERE, passages=numbered, question=question)


def passages_in(context: SourceContext, directory: str) -> dict[str, str]:
    """name -> passage. Raises Refused where there are no documents."""
    folder = Path(directory) if directory else packs.PACKS / context.pack.name / "documents"
    texts = {f.name: files.read_text(f) for f in sorted(folder.glob("*.txt"))}
    passages = {f"{name}#{i}": p for name, text in texts.items() for i, p in enumerate(passages_of(text))}
    if not passages:
        raise Refused(f"No documents (*.txt) in {folder}")
    return passages


def passages_of(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[at : at + PASSAGE_WORDS]) for at in range(0, len(words), PASSAGE_WORDS)]


def questioned(context: SourceContext, passages: dict[str, str]) -> list[tuple[str, Answer, str]]:
    """(question, the teacher's answer, name of the passage); near-duplicates and what is held out are left out."""
    asked = ask(context, [as_prompt(QUESTION.format(passage=p)) for p in passages.values()], temperature=0.7)
    gate, new = Gate(held_out(context)), [alone(a) for a in asked]
    kept = [(q, name) for q, name in zip(new, passages, strict=True) if not unusable(q) and gate.admit(q)]
    prompts = [as_prompt(ANSWER.format(question=q, passage=passages[name])) for q, name in kept]
    answers = ask(context, prompts, temperature=0.0) if prompts else []
    found = [(q, a, name) for (q, name), a in zip(kept, answers, strict=True)]
    return [f for f in found if f[1].ok and not unusable(f[1].text)]
