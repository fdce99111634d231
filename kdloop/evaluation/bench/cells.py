"""Cells of a long bench, one a row and seed, in a file: what is done is not done again. And the table on a page."""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from storage import files, json_lines

Cell = Callable[[int], dict]  # by seed


def done(path: Path) -> dict[tuple[str, int], dict]:
    """(row, seed) -> the cell in this file; what a kill has cut off at its end is none."""
    found = {}
    for line in files.read_text(path).split("\n") if path.exists() else []:
        try:
            record = json.loads(line)
            found[record["row"], record["seed"]] = record
        except ValueError:
            continue
    return found


def append(path: Path, record: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * bool(cut) + json_lines.dump(record) + "\n")


def run(wanted: dict[str, Cell], seeds: Iterable[int], path: Path) -> None:
    """The cells that are not in the file yet: every row with one seed, then with the next one."""
    known = done(path)
    for seed, (name, cell) in ((s, item) for s in seeds for item in wanted.items()):
        if (name, seed) not in known:
            record = {"row": name, "seed": seed} | cell(seed)
            append(path, record)
            print(json_lines.dump(record), flush=True)


def markdown(*row) -> str:
    return f"| {' | '.join(map(str, row))} |\n"


def write_page(page: Path, text: str, marks: tuple[str, str]) -> None:
    """Between the marks. Raises ValueError where the page has none."""
    before, *rest = files.read_text(page).split(marks[0])
    if len(rest) != 1 or marks[1] not in rest[0]:
        raise ValueError(f"{page} has no place for the tables: the lines {marks[0].strip()} and {marks[1].strip()}")
    files.write(page, f"{before}{marks[0]}\n{text}\n{marks[1]}{rest[0].split(marks[1], 1)[1]}")


def arguments(prog: str, description: str | None, seeds: str) -> argparse.ArgumentParser:
    """With the options that every bench of cells has."""
    found = argparse.ArgumentParser(prog=prog, description=description)
    found.add_argument("--rows", nargs="*", default=[""], help="whole names, or what several begin with; else all")
    found.add_argument("--seeds", type=seeds_of, default=seeds_of(seeds))
    found.add_argument("--cells", type=Path, help="the file of what is done; in the home where none is given")
    found.add_argument("--page", type=Path, help="write the tables into this page")
    return found


def chosen(known: dict[str, Cell], asked: list[str]) -> dict[str, Cell]:
    """Those that begin with one of these. A row's whole name is that row alone, where others begin with it too."""
    return {n: c for n, c in known.items() if any(n == a or (n.startswith(a) and a not in known) for a in asked)}


def seeds_of(text: str) -> list[int]:
    """11-15 or 11,13."""
    parts = [part.split("-") for part in text.split(",")]
    return [seed for part in parts for seed in range(int(part[0]), int(part[-1]) + 1)]
