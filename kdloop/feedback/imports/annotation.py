"""Exports of annotation tools: Argilla's records (nested or flat), Label Studio's tasks (JSON and JSON_MIN).

Such a file has no word on which field is the prompt and which are completions: their names say it (PROMPTS,
COMPLETIONS; where no name does, the first is the prompt and the others are completions). Stars go from 1 to 5.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from kdloop.feedback.imports import fields
from kdloop.feedback.imports.battles import BAD, LEFT, RIGHT, TIE, verdict
from kdloop.feedback.imports.fields import (
    NO_PROMPT,
    Dropped,
    Format,
    Wrong,
    listed,
    mapping,
    messages,
    rated,
    text,
    time,
)
from storage.conversations import Message, as_prompt
from storage.imports import Rated, Rating, Said

PROMPTS = ("prompt", "instruction", "question", "query", "input", "chat", "conversation", "messages")
COMPLETIONS = ("response", "completion", "answer", "generation", "output", "chosen", "rejected", "reply", "text")
CORRECTION = ("correct", "better", "improve", "rewrit", "edit")
GOOD = {"yes": True, "good": True, "like": True, "liked": True, "up": True, "correct": True, "accept": True}
GOOD |= {"no": False, "bad": False, "dislike": False, "disliked": False, "down": False, "incorrect": False}
SELECTED = {"left": LEFT, "right": RIGHT, "none": TIE, "tie": TIE, "both": TIE, "equal": TIE, "both bad": BAD}
MIN_OWN = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")


class Task:
    """The prompt and the completions of one record, by field name, and what people said of them."""

    def __init__(self, data: dict, where: str):
        self.prompt, given = self.divided(data, where)
        self.places = {name: n for n, name in enumerate(given)}
        self.completions = [Said(words) for words in given.values()]
        self.ratings: list[Rating] = []

    @staticmethod
    def divided(data: dict, where: str) -> tuple[list[Message], dict[str, str]]:
        told = {name: value for name, value in data.items() if isinstance(value, str | list) and value}
        asked = next((name for name in told if name.lower().startswith(PROMPTS)), None)
        given = [n for n in told if n.lower().startswith(COMPLETIONS) and n != asked and isinstance(told[n], str)]
        if asked is None:
            asked = next((n for n in told if n not in given), None)
        if asked is None:
            raise Dropped(NO_PROMPT)
        given = given or [n for n in told if n != asked and isinstance(told[n], str)]
        value, field = told[asked], f"{where}.{asked}"
        prompt = messages(value, field) if isinstance(value, list) else as_prompt(text(value, field))
        return prompt, {name: text(told[name], f"{where}.{name}") for name in given}

    def judge(self, question: str, value: Any, field: str, **by) -> None:
        """What one person said to one question: a ranking, a label, a number of stars, or words."""
        if isinstance(value, list):
            self.ranked(value, field, **by)
        elif isinstance(value, bool) or value is None:
            raise Wrong(f"{field} is {fields.kind(value)}")
        elif isinstance(value, int | float):
            place = next((n for name, n in self.places.items() if name in question), 0)
            score = fields.scaled(value, field, 1, 5)
            self.ratings += [Rating(place, score=score, channel="stars", **by)] if self.completions else []
        else:
            self.labelled(question, text(value, field), **by)

    def labelled(self, question: str, value: str, **by) -> None:
        if value in self.places and len(self.places) == 2:
            other = next(n for name, n in self.places.items() if name != value)
            self.ratings.append(Rating(self.places[value], other, **by))
        elif len(self.completions) == 2 and value.lower() in SELECTED:
            self.ratings += verdict(SELECTED[value.lower()], **by)
        elif value.lower() in GOOD and self.completions:
            side = "chosen" if GOOD[value.lower()] else "rejected"
            self.ratings.append(Rating(**{side: 0}, channel="thumb", **by))
        elif question.lower().startswith(CORRECTION) and self.completions and value.strip():
            self.completions.append(Said(value))
            self.ratings.append(Rating(len(self.completions) - 1, 0, channel="edit", **by))

    def ranked(self, order: list, field: str, **by) -> None:
        """Names from best to worst, or {"value": name, "rank": n}: neighbours in the order are pairs."""
        ranks = []
        for n, one in enumerate(order):
            name, rank = (one.get("value"), one.get("rank")) if isinstance(one, dict) else (one, n + 1)
            rank = n + 1 if rank is None else fields.number(rank, f"{field}[{n}].rank")
            if text(name, f"{field}[{n}]") not in self.places:
                raise Wrong(f"{field}[{n}] is {name!r:.40}; the record has {', '.join(self.places)}")
            ranks.append((rank, self.places[name]))
        for (better, a), (worse, b) in zip(sorted(ranks), sorted(ranks)[1:], strict=False):
            self.ratings.append(Rating(a, b, score=0.5 if better == worse else None, **by))

    def pairwise(self, value: Any, field: str, names: Iterable[str] = (), **by) -> None:
        if len(self.completions) < 2:
            raise Dropped("a comparison of which the two completions are not in the data")
        named = [self.places[name] for name in names if name in self.places]
        left, right = named if len(named) == 2 else (0, 1)
        for r in verdict(fields.choice(value, field, SELECTED), **by):
            sides = {name: None if k is None else (left, right)[k] for name, k in (("c", r.chosen), ("r", r.rejected))}
            self.ratings.append(Rating(sides["c"], sides["r"], r.score, r.channel, **by))

    def done(self) -> Rated:
        return rated(self.prompt, self.completions, self.ratings)


def argilla(row: dict) -> Iterator[Rated]:
    task = Task(mapping(row["fields"], "fields"), "fields")
    for question, given in mapping(row["responses"], "responses").items():
        for n, one in enumerate(listed(given, f"responses.{question}")):
            field = f"responses.{question}[{n}]"
            value = mapping(one, field)
            task.judge(question, value.get("value"), f"{field}.value", rater=str(value.get("user_id") or ""))
    yield task.done()


def argilla_flat(row: dict) -> Iterator[Rated]:
    """A column a field, and of each question `.responses`, `.responses.users`, `.responses.status`. Nested records do
    not say which responses were only drafts or discarded; these do."""
    questions = [name.removesuffix(".responses") for name in row if name.endswith(".responses")]
    extra = {name for q in questions for name in row if name == q or name.startswith(f"{q}.")}
    data = {k: v for k, v in row.items() if k not in extra and k not in ("id", "status", "_server_id")}
    task = Task(data, "record")
    for question in questions:
        column = f"{question}.responses"
        given = listed(row[column] or [], column)
        users, status = (
            listed(row.get(f"{column}.{c}") or [None] * len(given), f"{column}.{c}") for c in ("users", "status")
        )
        for n, (value, user, state) in enumerate(zip(given, users, status, strict=False)):
            if state in (None, "submitted") and value is not None:
                task.judge(question, value, f"{column}[{n}]", rater=str(user or ""))
    yield task.done()


def label_studio(row: dict) -> Iterator[Rated]:
    """A task with its annotations; skipped ones (`was_cancelled`) say nothing."""
    task = Task(mapping(row["data"], "data"), "data")
    for n, value in enumerate(listed(row["annotations"], "annotations")):
        one = mapping(value, f"annotations[{n}]")
        if one.get("was_cancelled"):
            continue
        by = one.get("completed_by")
        by = by.get("email") or by.get("id") if isinstance(by, dict) else by
        at = time(one.get("created_at"), f"annotations[{n}].created_at")
        for i, result in enumerate(listed(one.get("result") or [], f"annotations[{n}].result")):
            field = f"annotations[{n}].result[{i}]"
            control(task, mapping(result, field), field, rater="" if by is None else str(by), at=at)
    yield task.done()


def control(task: Task, result: dict, field: str, **by) -> None:
    value = mapping(result.get("value"), f"{field}.value")
    name = text(result.get("from_name") or "", f"{field}.from_name")
    if "selected" in value:
        names = result.get("to_name") or []
        names = names.split(",") if isinstance(names, str) else listed(names, f"{field}.to_name")
        task.pairwise(value["selected"], f"{field}.value.selected", names, **by)
    elif "rating" in value:
        task.judge(name, fields.number(value["rating"], f"{field}.value.rating"), f"{field}.value.rating", **by)
    elif "ranker" in value:
        task.ranked(first_list(value["ranker"], f"{field}.value.ranker"), f"{field}.value.ranker", **by)
    elif words := value.get("choices") or value.get("text"):
        for one in listed(words, f"{field}.value") if isinstance(words, list) else [words]:
            task.judge(name, one, f"{field}.value", **by)


def first_list(value: Any, field: str) -> list:
    """A ranker's buckets are lists by name, or one list."""
    return (
        next((v for v in value.values() if isinstance(v, list)), [])
        if isinstance(value, dict)
        else listed(value, field)
    )


def label_studio_min(row: dict) -> Iterator[Rated]:
    """A row an annotation, its data and its controls beside each other: comparisons and stars are read, as only they
    cannot be mistaken for data."""
    by = {"rater": str(row.get("annotator") or ""), "at": time(row.get("created_at"), "created_at")}
    controls, data = {}, {}
    for name, value in row.items():
        told = value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) else value
        is_control = isinstance(told, dict) and {"selected", "rating"} & told.keys()
        (controls if is_control or isinstance(told, int | float) else data)[name] = told
    task = Task({k: v for k, v in data.items() if k not in MIN_OWN}, "row")
    for name, value in controls.items():
        if isinstance(value, dict) and "selected" in value:
            task.pairwise(value["selected"], f"{name}.selected", **by)
        elif name not in MIN_OWN:
            stars = value["rating"] if isinstance(value, dict) else value
            task.judge(name, fields.number(stars, name), name, **by)
    yield task.done()


FORMATS = {
    "label_studio": Format("Label Studio", lambda r: {"annotations", "data"} <= r.keys(), label_studio),
    "label_studio_min": Format("Label Studio, JSON_MIN", lambda r: "annotation_id" in r, label_studio_min),
    "argilla": Format("Argilla", lambda r: {"fields", "responses"} <= r.keys(), argilla),
    "argilla_flat": Format("Argilla, flat", lambda r: any(n.endswith(".responses") for n in r), argilla_flat),
}
