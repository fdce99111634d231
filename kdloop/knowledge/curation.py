"""Curation: prompts and answers from topics, mosaics of liked completions, and data selection.

    D = { (x, y) | x ~ p_T(x | I + m), y ~ p_T(y | I + x) }                  survey Eq. 5; m is a topic

SELECTIONS choose the examples that a training takes; a recipe names one (`select`).
"""

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice

import numpy as np
from scipy.special import softmax

from kdloop.feedback.examples import Example
from kdloop.knowledge import feature
from kdloop.knowledge.expansion import NoveltyFilter, answered, held_out, out_of_reach
from kdloop.knowledge.labeling import ask, request_in, unusable
from kdloop.knowledge.rows import Refused, SourceContext
from kdloop.knowledge.self_play import as_draft
from kdloop.packs import Task
from kdloop.raters import rendering
from kdloop.raters.features import embed
from kdloop.raters.teacher import Teachers
from kdloop.student import Engine
from storage.conversations import as_prompt

DUPLICATE_COSINE = 0.9  # from which two texts are duplicates (DEITA, Liu et al. 2024)
LEARNABLE_RANK = 10  # k of SALT: a token outside of the teacher's k likeliest is noise to it
TOPIC = "Write one short question about {topic} that a person might ask an assistant. Give the question alone."
MOSAIC = "Do each of these tasks. Number your answers as the tasks are numbered, in {order} order.\n\n{tasks}"
ORDERS = ("the given", "the reverse")
GRADES = """Question: {question}
Answer: {completion}

How {what} is the {part}? Give a grade from 1 (least) to 6 (most).
Grade: """


def topics(context: SourceContext, tasks: Sequence[Task], n: int = 20) -> int:
    """As UltraChat (Ding et al. 2023): `n` questions, cycling through the pack's topics; near-duplicates are dropped.
    Raises Refused for a pack without topics."""
    if not context.pack.topics:
        raise Refused(f"The pack {context.pack.name} has no topics")
    subjects = list(islice(cycle(context.pack.topics), n))
    answers = ask(context, [as_prompt(TOPIC.format(topic=t)) for t in subjects], temperature=1.0)
    new = [(request_in(a), {"topic": t}) for a, t in zip(answers, subjects, strict=True)]
    novelty = NoveltyFilter(held_out(context))
    new = [(p, m) for p, m in new if not unusable(p) and not out_of_reach(p) and novelty.admit(p)]
    kept = [new[i] for i in dedupe([p for p, _ in new])]
    return answered(context, [p for p, _ in kept], "topic", [m for _, m in kept])


def mosaic(context: SourceContext, tasks: Sequence[Task], most: int = 4, budget: int = 200) -> int:
    """Mosaic-IT (Li et al. 2025): 2 to `most` of people's liked completions in one row, in a stated order, without
    calling a model. `budget` is the most words of a row. Raises Refused for fewer than two liked completions."""
    liked = [e for e in context.examples if e.chosen is not None and len(e.prompt) == 1]
    if len(liked) < 2:
        raise Refused("mosaic needs two completions that people liked, chose or wrote")
    draw, rows = random.Random(context.round.seed), 0
    draw.shuffle(liked)
    while len(liked) > 1:
        part, liked = take(liked, draw.randint(2, most), budget)
        if len(part) < 2:
            continue
        order = draw.choice(ORDERS)
        prompt, text = compose([(e.question, e.chosen.text) for e in part], order)
        columns = {"restricted": max(e.chosen.restricted for e in part), "thought": ""}
        draft = as_draft(part[0].chosen)
        draft = replace(draft, text=text, columns=draft.columns | columns)
        context.write(prompt, draft, source="student", rater="mosaic")
        rows += 1
    return rows


def take(liked: list[Example], most: int, budget: int) -> tuple[list[Example], list[Example]]:
    """(the first ones that fit the budget, at least one; the rest)."""
    n = words = 0
    while n < most and n < len(liked) and (n == 0 or words + size(liked[n]) <= budget):
        words, n = words + size(liked[n]), n + 1
    return liked[:n], liked[n:]


def size(e: Example) -> int:
    return len(e.question.split()) + len(e.chosen.text.split())


def compose(parts: list[tuple[str, str]], order: str) -> tuple[str, str]:
    """(prompt, completion) from several (question, answer) pairs; `decompose` is the inverse for the completion."""
    listed = "\n".join(f"[{i}] {q}" for i, (q, _) in enumerate(parts, 1))
    answers = [f"[{i}] {a}" for i, (_, a) in enumerate(parts, 1)]
    in_order = answers[::-1] if order == "the reverse" else answers
    return MOSAIC.format(order=order, tasks=listed), "\n".join(in_order)


def decompose(completion: str) -> list[tuple[int, str]]:
    """(number, answer) of each part, in the order of the text."""
    parts = re.split(r"^\[(\d+)\] ", completion, flags=re.MULTILINE)[1:]
    return [(int(n), text.rstrip("\n")) for n, text in zip(parts[::2], parts[1::2], strict=True)]


def dedupe(texts: list[str], threshold: float = DUPLICATE_COSINE) -> list[int]:
    """Indices to keep: none with a MiniLM cosine above `threshold` to a kept one before it."""
    kept: list[int] = []
    vectors = embed(texts) if texts else np.zeros((0, 1))
    for i in range(len(texts)):
        if not kept or (vectors[kept] @ vectors[i]).max() <= threshold:
            kept.append(i)
    return kept


def k_center(vectors: np.ndarray, k: int) -> list[int]:
    """Indices of a greedy k-center coreset (Sener & Savarese 2018) of (n, d) vectors: each next point is the farthest
    from those chosen."""
    chosen = [int(np.linalg.norm(vectors - vectors.mean(0), axis=1).argmin())]
    distance = np.linalg.norm(vectors - vectors[chosen[0]], axis=1)
    while len(chosen) < min(k, len(vectors)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(vectors - vectors[chosen[-1]], axis=1))
    return chosen


def ifd(conditioned: np.ndarray | float, direct: np.ndarray | float) -> np.ndarray | float:
    """Instruction-following difficulty (Li et al. 2024): PPL(y | x) / PPL(y), from two NLLs in nats per token."""
    return np.exp(conditioned - direct)


def nll(engine: Engine, examples: Sequence[Example], with_prompt: bool = True) -> np.ndarray:
    """(n,) NLL of each chosen completion, nats per token; without the prompt, after an empty user message."""
    return np.array([-sum(s) / max(1, len(s)) for s in logprobs(engine, examples, with_prompt)])


def logprobs(engine: Engine, examples: Sequence[Example], with_prompt: bool = True) -> list[list[float]]:
    prompts = [e.prompt if with_prompt else as_prompt("") for e in examples]
    return engine.logprobs(prompts, [e.chosen.written for e in examples])


# Selections: at most n examples, best first, by scores of the student's engine or of a local teacher.


def by_ifd(examples: Sequence[Example], n: int, student: Engine, teachers: Teachers | None = None) -> list[Example]:
    """By difficulty, hardest first, without examples whose prompt does not help (IFD of 1 and above): there the
    completion does not belong to the prompt."""
    difficulty = ifd(nll(student, examples), nll(student, examples, with_prompt=False))
    order = [i for i in np.argsort(-difficulty) if difficulty[i] < 1]
    return [examples[i] for i in order[:n]]


def by_coreset(examples: Sequence[Example], n: int, student: Engine, teachers: Teachers | None = None) -> list[Example]:
    """A k-center coreset of the prompts' embeddings."""
    return [examples[i] for i in k_center(embed([e.question for e in examples]), n)]


def by_deita(examples: Sequence[Example], n: int, student: Engine, teachers: Teachers | None = None) -> list[Example]:
    """DEITA (Liu et al. 2024): by complexity times quality, without near-duplicates of better ones."""
    score = [grade(student, e, "complex", "question") * grade(student, e, "good", "answer") for e in examples]
    ranked = [examples[i] for i in np.argsort(score)[::-1]]
    return [ranked[i] for i in dedupe([e.question for e in ranked])[:n]]


def by_difference(examples: Sequence[Example], n: int, student: Engine, teachers: Teachers | None) -> list[Example]:
    """MiniPLM's difference sampling (Gu et al. 2025): by log-likelihood of a local teacher minus the student's.

    In nats per byte, as their tokenizers may differ. Raises Refused without a teacher that has a directory.
    """
    teacher = local_engine(teachers, "difference")
    size = np.array([max(1, len(e.chosen.text.encode())) for e in examples])
    nats = [np.array([-sum(s) for s in logprobs(g, examples)]) for g in (student, teacher)]
    return [examples[i] for i in np.argsort((nats[1] - nats[0]) / size)[:n]]


def by_salt(examples: Sequence[Example], n: int, student: Engine, teachers: Teachers | None) -> list[Example]:
    """SALT's challenging yet learnable texts (Rawat et al. 2024), by a local teacher, which may be smaller than the
    student. After the paper's description: its Eq. 10 was not read. Raises Refused as `by_difference`."""
    teacher, scores = local_engine(teachers, "salt"), []
    for e in examples:
        ids = teacher.template.completion_ids(*e.chosen.said)
        scores.append(learnable(feature.distribution(teacher, e.prompt, e.chosen.said).numpy(), ids))
    return [examples[i] for i in np.argsort(scores, kind="stable")[::-1][:n]]


def learnable(distribution: np.ndarray, ids: Sequence[int]) -> float:
    """The median over a text's tokens of their NLL in nats, 0 for a token outside of the LEARNABLE_RANK likeliest.

    `distribution` has (tokens, vocabulary) log-probabilities, `ids` the tokens that were written.
    """
    own = distribution[np.arange(len(ids)), ids]
    known = (distribution > own[:, None]).sum(1) < LEARNABLE_RANK
    return float(np.median(np.where(known, -own, 0.0))) if len(ids) else 0.0


def local_engine(teachers: Teachers | None, selection: str):
    """The engine of the first teacher that has a directory. Raises Refused where none has."""
    local = [t for t in teachers.all if t.directory] if teachers else []
    if not local:
        raise Refused(f"select = {selection} needs a teacher with a directory: endpoints do not score given texts")
    return teachers.engine(local[0])


def grade(engine: Engine, e: Example, what: str, part: str) -> float:
    """The expected grade from 1 to 6, over the engine's probabilities of the six digits."""
    question = rendering.conversation(e.prompt)
    prompt = as_prompt(
        GRADES.format(question=question, completion=rendering.escape(e.chosen.text), what=what, part=part)
    )
    return expected_grade([engine.logprobs([prompt], [(str(k), False)])[0][0] for k in range(1, 7)])


def expected_grade(logprobs: Sequence[float]) -> float:
    """Sum of k softmax(logprobs)_k over the grades k = 1 to 6."""
    return float(np.arange(1, 7) @ softmax(logprobs))


SELECTIONS = {"ifd": by_ifd, "coreset": by_coreset, "deita": by_deita, "difference": by_difference, "salt": by_salt}
