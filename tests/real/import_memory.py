"""Peak memory of importing files of more and more rows: `python -m tests.real.import_memory 10000 1000000`.

Prints for each number of rows the seconds of reading (a dry run) and of the import, its longest transaction, and the
process's peak resident memory, in MiB. Last output in docs/log.md.
"""

import json
import resource
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

from kdloop.feedback import imports
from storage import checkpoints
from storage import imports as stored
from storage.database import open_database


def made(path: Path, rows: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for n in range(rows):
            prompt = [{"role": "user", "content": f"Question {n}: how do I make number {n * 7}?"}]
            sides = (
                [{"role": "assistant", "content": f"{side} way {n}, in some words"}] for side in ("One", "Another")
            )
            row = dict(zip(("prompt", "chosen", "rejected"), (prompt, *sides), strict=True))
            file.write((", " if n else "") + json.dumps(row) + "\n")
        file.write("]")
    return path


def measure(directory: str, rows: int, answers) -> None:
    db = open_database(Path(directory) / f"{rows}.db")
    checkpoints.ensure_base(db)
    path, longest, add = made(Path(directory) / f"{rows}.json", rows), [0.0], stored.add

    def timed(*args):
        start = time.perf_counter()
        n = add(*args)
        longest[0] = max(longest[0], time.perf_counter() - start)
        return n

    stored.add = timed
    start = time.perf_counter()
    assert imports.dry_run(db, path).examples == rows
    read = time.perf_counter() - start
    report = imports.import_file(db, path, who="script", train=True)
    brought = time.perf_counter() - start - read
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answers.put((report.done.rows, read, brought, longest[0], peak))


def main() -> None:
    context = get_context("spawn")
    print("rows, read s, import s, longest transaction s, peak MiB")
    for rows in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as directory:
            answers = context.Queue()
            child = context.Process(target=measure, args=(directory, rows, answers), daemon=True)
            child.start()
            print(*(round(x, 2) for x in answers.get()), sep=", ", flush=True)
            child.join()


if __name__ == "__main__":
    main()
