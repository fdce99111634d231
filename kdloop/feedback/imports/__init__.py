"""Chats and ratings that were made elsewhere -> rows of this house: `python -m kdloop import FILE...`.

A file's format is recognised by the keys of its first rows. The whole file is read before anything is written, so what
is wrong in its last line leaves nothing of it behind. What these rows are for training and for the gate says
storage/imports.py.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from kdloop.feedback.imports import annotation, battles, chats, llama_factory, open_webui, trl
from kdloop.feedback.imports.fields import Dropped, Format, Wrong, kind
from kdloop.feedback.imports.reading import Unreadable, rows
from storage import imported, imports
from storage.imported import Seen
from storage.imports import Import, Rated

FORMATS = open_webui.FORMATS | annotation.FORMATS | battles.FORMATS | chats.FORMATS | trl.FORMATS
FIRST = 50  # rows by which a format is recognised
NEW, DROPPED = "new {what}", "left out: {why}"
TWICE, KNOWN = "twice in the file", "imported before"


@dataclass
class Report:
    """Of one file: how many rows it has, how many ratings are new by channel, and rows left out by reason."""

    file: str
    format: str
    rows: int = 0
    new: Counter = field(default_factory=Counter)
    dropped: Counter = field(default_factory=Counter)
    ratings: int = 0
    done: Import | None = None

    @property
    def examples(self) -> int:
        return self.new.total()


def table(report: Report, tell: Callable[..., str] = str.format) -> list[tuple[str, int]]:
    """What an import brings, and what it leaves out and why: (words, as `tell` has them, number of rows)."""
    kept = [(tell(NEW, what=tell(what)), n) for what, n in report.new.most_common()]
    dropped = [(tell(DROPPED, why=tell(why)), n) for why, n in report.dropped.most_common()]
    return [(tell("rows"), report.rows), *kept, *dropped]


def files_of(paths: list[Path], format: str = "") -> list[tuple[Path, Format | None]]:
    """Each with its format where something else than its rows says it. Raises Unreadable, and ValueError for an unknown
    format."""
    if format and format not in FORMATS:
        raise ValueError(f"Unknown format {format!r}; there are {', '.join(FORMATS)}")
    found = []
    for path in paths:
        known = list(llama_factory.datasets(path)) if llama_factory.is_info(path) else [(path, FORMATS.get(format))]
        if not known:
            raise Unreadable(f"{path.name} names no file that lies beside it")
        found += known
    return found


def dry_run(db: Path, path: Path, format: Format | None = None) -> Report:
    """Read the whole file and count; nothing is written. Raises Unreadable."""
    format, given = recognised(path, format)
    report, seen, waiting = Report(path.name, format.title), Seen(), []
    for row in read(path, format, given, report):
        if seen.add(row.id):
            waiting.append(row)
        else:
            report.dropped[TWICE] += 1
        if len(waiting) == imports.CHUNK:
            count(db, waiting, report)
    count(db, waiting, report)
    return report


def count(db: Path, waiting: list[Rated], report: Report) -> None:
    """How many of the rows are new; empties the list."""
    there = imported.known(db, waiting)
    report.dropped += Counter({KNOWN: len(there)} if there else {})
    for row in waiting:
        if row.id not in there:
            report.new[what(row)] += 1
            report.ratings += len(row.ratings)
    waiting.clear()


def what(row: Rated) -> str:
    """A row by what it says: pairs, likes, dislikes, ties, scores."""
    first = row.ratings[0]
    if first.channel == "stars":
        return "scored completions"
    if first.chosen is not None and first.rejected is not None:
        return "ties" if all(r.score == 0.5 for r in row.ratings) else "pairs"
    return "likes" if first.chosen is not None else "dislikes"


def import_file(
    db: Path,
    path: Path,
    format: Format | None = None,
    *,
    who: str,
    train: bool,
    rater: str = "",
    licence: str = "",
    restricted: bool = False,
) -> Report:
    """Import a file, all of it or none. `rater` names who rated, where the file's own names should not count; `licence`
    and `restricted` are those of its completions. Raises Unreadable."""
    report = dry_run(db, path, format)
    format, given = recognised(path, format)
    about = {"file": path.name, "sha256": digest(path), "format": format.title, "rater": rater, "licence": licence}
    about |= {"restricted": int(restricted), "train": int(train)}
    report.done = imports.write(db, read(path, format, given, Report("", "")), who=who, **about)
    return report


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recognised(path: Path, format: Format | None) -> tuple[Format, Iterator]:
    """(the format, all rows). Raises Unreadable where no format has such rows."""
    given = rows(path)
    first = list(islice(given, FIRST))
    if not first:
        raise Unreadable(f"{path.name} has no rows")
    for where, row in first:
        if not isinstance(row, dict):
            raise Unreadable(f"{path.name}, {where}: {kind(row)} where a row's object should be")
    likely = [f for f in FORMATS.values() if f.fits(first[0][1])]
    fitting = [f for f in likely if all(f.fits(row) for _, row in first)] or likely
    if not format and not fitting:
        keys = ", ".join(map(repr, first[0][1]))[:200]
        known = ", ".join(f.title for f in FORMATS.values())
        raise Unreadable(
            f"{path.name}, {first[0][0]}: no format that is known here has the fields {keys}. Known: {known}"
        )
    return format or fitting[0], chain(first, given)


def read(path: Path, format: Format, given: Iterator, report: Report) -> Iterator[Rated]:
    """What the rows say; counts them, and those that are left out, in the report."""
    for where, row in given:
        report.rows += 1
        try:
            if not isinstance(row, dict):
                raise Wrong(f"{kind(row)} where a row's object should be")
            yield from list(format.read(row))
        except Dropped as reason:
            report.dropped[str(reason)] += 1
        except Wrong as error:
            raise Unreadable(f"{path.name}, {where}: {error}") from None
        except RecursionError:
            raise Unreadable(f"{path.name}, {where}: nested too deep") from None
        except KeyError as error:
            raise Unreadable(f"{path.name}, {where}: no field {error} ({format.title})") from None
