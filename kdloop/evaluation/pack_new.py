"""A pack of one's own, from a file of tasks, a folder of documents, a data set of the Hub, or from a template."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from kdloop import packs
from kdloop.evaluation.pack_install import DOCUMENT, TOML, free_name, install, on_hub, put, require_right
from kdloop.packs.reading import LINE_FIELDS, PARTS, Task, wrong_line
from kdloop.raters import verifiers
from storage import files, json_lines

ARCHIVES = (".zip", ".whl")
MAX_TASKS = 100_000
LABELS = 12  # so few distinct answers are the labels of a classification
PROMPTS = ("prompt", "question", "instruction", "input", "text")  # fields that hold one, the first that is there
ANSWERS = ("answer", "completion", "output", "response", "label")
TEMPLATE = """about = {about}
licence = {licence}    # of the data: as the Hub and SPDX write it (cc0-1.0, cc-by-4.0, mit); `pack check` asks for it
origin = {origin}     # where the data is from: your own, a book, an address
disclaimer = {disclaimer}  # a sentence that belongs beside every answer of a student that has learned from this pack

# Checks of every completion; a line of a part may have "checks" of its own. python -m kdloop pack checks  lists them.
checks = [{checks}]
# max_tokens = 96           # of a completion; without it, the setting round_max_tokens

# rubric = "The better completion ..."             # for judges
# principles = ["Say so where you are not sure."]  # for the source `revise` (docs/knowledge.md)
# topics = ["taxes", "pensions"]                   # for the source `topics`
# Texts in documents/*.txt are for the sources `documents` and `grounded`.
"""
EXAMPLES = (
    Task("What is the capital of Portugal?", "Lisbon"),
    Task("Which river flows through Vienna?", "Danube"),
    Task("Which sea lies between Italy and Croatia?", "Adriatic"),
)


def new(
    name: str, source: str = "", licence: str = "", check: str = "", about: str = "", disclaimer: str = ""
) -> dict[str, int]:
    """Make the pack in the home; the number of its prompts by part. Raises ValueError, and then makes nothing.

    `check` names the check of all answers; without one, `check_for` chooses.
    """
    free_name(name)
    if name in packs.installed():
        raise ValueError(f"A pack {name!r} is installed: choose another name, or remove it first")
    if check and check not in verifiers.CHECKS:
        raise ValueError(f"No check {check!r}; there are {', '.join(verifiers.CHECKS)}")
    rows, documents = rows_of(source) if source else ([as_row(t) for t in EXAMPLES], {})
    with files.scratch(packs.installed_in() / f"{name}.new") as folder:
        folder.mkdir(parents=True)
        counts = write(folder, rows, documents, toml(rows, source, licence, check, about, disclaimer))
        require_right(folder, "These tasks make no pack:")
        put(folder, name)
    return counts


def uploaded(file: Path, name: str, licence: str, about: str, disclaimer: str) -> packs.Place:
    """A pack from a file that somebody has sent: an archive of a whole pack, or a file of tasks. Raises ValueError or
    OSError, and then nothing has changed."""
    try:
        if file.suffix.lower() not in ARCHIVES:
            if not licence:
                raise ValueError("Say under which licence these tasks are, as the Hub and SPDX write it: cc0-1.0, mit")
            new(name, str(file), licence, about=about or f"Tasks of {file.name}.", disclaimer=disclaimer)
            return packs.place(name)
        if licence or about or disclaimer:
            raise ValueError(f"A whole pack's {TOML} says its licence, what it is for, its disclaimer: leave them out")
        return install(str(file), name)
    except ValueError as error:  # without the place that it was sent to
        raise ValueError(str(error).replace(f"{file.parent}/", "")) from error


def toml(rows: list[dict], source: str, licence: str, check: str, about: str, disclaimer: str) -> str:
    chosen = {"check": check} if check else check_for(rows)
    values = {
        "about": about or "What this pack is for, in a sentence.",
        "licence": licence if source else "cc0-1.0",
        "origin": Path(source).name if source else "made up for this template",
        "disclaimer": disclaimer,
    }
    inside = ", ".join(f"{key} = {json.dumps(value)}" for key, value in chosen.items())
    quoted = {k: json.dumps(v, ensure_ascii=False) for k, v in values.items()}  # TOML has no pairs of surrogates
    return TEMPLATE.format(**quoted, checks=f"{{ {inside} }}" if inside else "")


def check_for(rows: list[dict]) -> dict:
    """By the answers: `number` where each is one, `label` where few are given again and again, else
    `ends_with_answer`; {} where some row has none, or checks of its own."""
    answers = [row.get("answer", "") for row in rows]
    if not all(answers) or any("checks" in row for row in rows):
        return {}
    if all(verifiers.is_number(a) for a in answers):
        return {"check": "number"}
    labels = sorted(set(answers))
    if len(labels) <= LABELS and len(rows) >= 4 * len(labels):
        return {"check": "label", "options": labels}
    return {"check": "ends_with_answer"}


def write(folder: Path, rows: list[dict], documents: dict[str, str], text: str) -> dict[str, int]:
    """A part is a hash of the prompt's words alone: prompts that differ in case or punctuation share it, and one that
    comes twice is written once."""
    files.write(folder / "pack.toml", text)
    distinct = {packs.words_of(row["prompt"]): row for row in reversed(rows)}
    parts: dict[str, list[dict]] = {part: [] for part in PARTS}
    for words, row in reversed(distinct.items()):
        parts[packs.part_of(words)].append(row)
    for part, own in parts.items():
        files.write(folder / f"{part}.jsonl", "".join(json_lines.dump(row) + "\n" for row in own))
    for name, document in documents.items():
        (folder / "documents").mkdir(exist_ok=True)
        files.write(folder / "documents" / name, document)
    return {part: len(own) for part, own in parts.items()} | ({"documents": len(documents)} if documents else {})


def rows_of(source: str) -> tuple[list[dict], dict[str, str]]:
    """(rows, documents by name) of a file (JSON Lines, JSON, CSV), a folder of such files and *.txt, or the Hub."""
    path = Path(source).expanduser()
    if path.is_dir():
        tasks = sorted(p for p in path.iterdir() if p.suffix in READERS)
        texts = (p for p in sorted(path.glob("*.txt")) if DOCUMENT.fullmatch(f"documents/{p.name}"))
        documents = {p.name: files.read_text(p) for p in texts}
        rows = [row for p in tasks for row in read(p)]
        if not rows and not documents:
            raise ValueError(f"{path} holds no tasks ({', '.join(READERS)}) and no documents (*.txt)")
        return rows or [{"prompt": f"What do the documents say about {Path(n).stem}?"} for n in documents], documents
    if path.is_file():
        return read(path), {}
    if named := on_hub(source):
        return taken(from_hub(named), named), {}
    raise ValueError(f"{source} is no file, no folder, and no data set of the Hub (OWNER/NAME)")


def read(path: Path) -> list[dict]:
    if path.suffix not in READERS:
        raise ValueError(f"{path}: tasks come as {', '.join(READERS)}")
    try:
        return taken(READERS[path.suffix](path), path.name)
    except (json.JSONDecodeError, csv.Error, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error


def taken(found: Iterable[tuple[int, object]], where: str) -> list[dict]:
    """(line, row) of any fields as a pack's rows. Raises ValueError by line and field."""
    rows: list[dict] = []
    for line, values in islice(found, MAX_TASKS + 1):
        row = renamed(values)
        if wrong := next(wrong_line(row), None):
            field, what = wrong
            raise ValueError(f"{where}, line {line}{field and ', '}{field}: {what}")
        rows.append(row)
    if not 0 < len(rows) <= MAX_TASKS:
        raise ValueError(f"{where} has {'too many' if rows else 'no'} rows; a pack has 1 to {MAX_TASKS}")
    return rows


def renamed(values):
    """A pack's fields from other people's, by their usual names; their other fields are left out, but for `check`,
    which is a pack's misspelt."""
    if not isinstance(values, dict):
        return values
    row = {field: values[field] for field in (*LINE_FIELDS, "check") if field in values}
    for field, known in (("prompt", PROMPTS), ("answer", ANSWERS)):
        if name := next((k for k in known if values.get(k) not in (None, "")), None):
            value = values[name]
            plain = field == "answer" and isinstance(value, (int, float)) and not isinstance(value, bool)
            row[field] = str(value) if plain else value
    return row


def as_row(task: Task) -> dict:
    return {"prompt": task.prompt, "answer": task.answer}


def json_rows(path: Path) -> Iterator[tuple[int, object]]:
    whole = json.loads(files.read_text(path))
    return enumerate(whole if isinstance(whole, list) else [whole], 1)


def lines(path: Path) -> Iterator[tuple[int, object]]:
    for i, line in enumerate(files.read_text(path).split("\n"), 1):
        if line.strip():
            try:
                yield i, json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {i}: not JSON: {error}") from None


def csv_rows(path: Path) -> Iterator[tuple[int, object]]:
    reader = csv.DictReader(io.StringIO(files.read_text(path)))
    return ((reader.line_num, {str(k): v for k, v in row.items() if v}) for row in reader)


READERS = {".jsonl": lines, ".json": json_rows, ".csv": csv_rows}


def from_hub(dataset: str) -> Iterator[tuple[int, object]]:
    """The rows of its train split, as they come: no more is downloaded than is read."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ValueError("Rows of the Hub need the package datasets: pip install datasets") from error
    try:
        yield from enumerate(datasets.load_dataset(dataset, split="train", streaming=True), 1)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"The Hub does not give {dataset}: {error}") from error
