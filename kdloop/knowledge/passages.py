"""Passages: questions about documents, answered from memory or from passages in the prompt.

D = { (x, y) | x ~ p_T(x | I + m), y ~ p_T(y | I + x + m) }              survey Eq. 5; m is a passage
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from kdloop import packs
from kdloop.knowledge.expansion import NoveltyFilter, held_out
from kdloop.knowledge.labeling import ask, prompts_restricted, request_in, unusable
from kdloop.knowledge.rows import Refused, SourceContext
from kdloop.packs import Task
from kdloop.packs.generators.passages import NOT_THERE, with_passages
from kdloop.raters.features import embed
from kdloop.raters.teacher import Answer, by_teacher
from storage import files
from storage.conversations import as_prompt

QUESTION = "Write one question that this passage answers. Give the question alone.\n\n{passage}"
ANSWER = "{question}\n\nAnswer from this passage only, in one or two sentences:\n\n{passage}"
PASSAGE_WORDS = 120  # within the 256 tokens that the embedder reads
PASSAGES_PER_PROMPT = 3  # some 500 tokens of the student's context of 2048


@dataclass(frozen=True)
class Index:
    """Dense retrieval: passages by name, ranked by the cosine of their MiniLM embeddings to the question's."""

    passages: dict[str, str]

    @cached_property
    def vectors(self) -> np.ndarray:
        return embed(list(self.passages.values()))

    def nearest(self, question: str, k: int = PASSAGES_PER_PROMPT) -> list[str]:
        """Names of the k nearest passages, nearest first."""
        names = list(self.passages)
        return [names[i] for i in np.argsort(-(self.vectors @ embed([question])[0]))[:k]]


def documents(context: SourceContext, tasks: Sequence[Task], directory: str = "") -> int:
    """Self-QA: one question with its answer per passage of the pack's documents (or of `directory`)."""
    found, terms = generate_questions(context, passages_in(context, directory)), prompts_restricted(context)
    for question, answer, name in found:
        draft = by_teacher(answer, terms, origin="document", passage=name)
        context.write(question, draft, source="teacher", rater=answer.teacher.name)
    return len(found)


def grounded(context: SourceContext, tasks: Sequence[Task], directory: str = "", absent: float = 0.2) -> int:
    """RAFT (Zhang et al. 2024): self-QA questions with the nearest passages in random order; the answer cites its
    passage. For a share of `absent` that passage is left out, and the answer is NOT_THERE.

    Raises Refused for fewer than two passages: there are no distractors.
    """
    passages = passages_in(context, directory)
    if len(passages) < 2:
        raise Refused("grounded needs documents of two passages or more: one alone has no distractors")
    found, index, draw = generate_questions(context, passages), Index(passages), random.Random(context.round.seed)
    terms, without = prompts_restricted(context), draw.sample(range(len(found)), round(absent * len(found)))
    for i, (question, answer, name) in enumerate(found):
        names = [n for n in index.nearest(question, PASSAGES_PER_PROMPT + 1) if n != name]
        names = names[:PASSAGES_PER_PROMPT] if i in without else [*names[: PASSAGES_PER_PROMPT - 1], name]
        draw.shuffle(names)
        text = NOT_THERE if i in without else f"{answer.text.rstrip()} [{names.index(name) + 1}]"
        draft = replace(by_teacher(answer, terms, origin="grounded", passage=name, shown=names), text=text)
        prompt = with_passages(question, [passages[n] for n in names])
        context.write(prompt, draft, source="teacher", rater=answer.teacher.name)
    return len(found)


def passages_in(context: SourceContext, directory: str) -> dict[str, str]:
    """name -> passage. Raises Refused if there are no documents."""
    folder = Path(directory) if directory else packs.place(context.pack.name).folder / "documents"
    texts = {f.name: files.read_text(f) for f in sorted(folder.glob("*.txt"))}
    passages = {f"{name}#{i}": p for name, text in texts.items() for i, p in enumerate(passages_of(text))}
    if not passages:
        raise Refused(f"No documents (*.txt) in {folder}")
    return passages


def passages_of(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[at : at + PASSAGE_WORDS]) for at in range(0, len(words), PASSAGE_WORDS)]


def generate_questions(context: SourceContext, passages: dict[str, str]) -> list[tuple[str, Answer, str]]:
    """(question, the teacher's answer, name of the passage), without near-duplicates and held-out prompts."""
    answered = ask(context, [as_prompt(QUESTION.format(passage=p)) for p in passages.values()], temperature=0.7)
    novelty, new = NoveltyFilter(held_out(context)), [request_in(a) for a in answered]
    kept = [(q, name) for q, name in zip(new, passages, strict=True) if not unusable(q) and novelty.admit(q)]
    prompts = [as_prompt(ANSWER.format(question=q, passage=passages[name])) for q, name in kept]
    answers = ask(context, prompts, temperature=0.0) if prompts else []
    found = [(q, a, name) for (q, name), a in zip(kept, answers, strict=True)]
    return [f for f in found if f[1].ok and not unusable(f[1].text)]
