"""What else befalls a home: a full disk, a read-only one, a damaged adapter, a second app. By real mounts, as root.

python -m kdloop bench kills --conditions --home DIR     on the home of an earlier `bench kills`
"""

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from kdloop.evaluation.bench.app_process import AppProcess
from kdloop.evaluation.bench.visitor import Visitor
from storage import checkpoints, feedback, files
from storage.database import faults, forget

MOST_MIB = 64  # of the small disk, beside what the home has
PATIENCE = 600  # seconds for a start to be refused
AT_A_TIME = 1 << 16  # bytes


@contextmanager
def mounted(directory: Path, *options: str) -> Iterator[None]:
    """Raises OSError where that is not allowed here."""
    done = subprocess.run(["mount", *options, str(directory)], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"mount {' '.join(options)}: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def votes(app: AppProcess, n: int = 5) -> tuple[list[str], Counter]:
    """(ids of the rows that were acknowledged, what else came back) of `n` votes by the API."""
    rows, seen = [], Counter()
    for _ in range(n):
        try:
            visitor = Visitor(app.url, seen, timeout=120)
            if visitor.call("chat", "Is there room?") and visitor.call("feedback", visitor.given[0]["token"], True):
                rows += visitor.given[0]["feedback"]
        except (httpx.HTTPError, KeyError, ValueError) as error:
            seen[type(error).__name__] += 1
    return rows, seen


def fill(directory: Path) -> Path:
    """A file that leaves no block free."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(AT_A_TIME))
        except OSError:
            pass
    return ballast


def full_disk(app: AppProcess) -> Iterator[str]:
    """While it is full no vote is acknowledged that is not stored; once there is room, votes and rounds go on."""
    home, db = app.home, app.home / "kdloop.db"
    size = sum(f.stat().st_size for f in home.rglob("*") if f.is_file()) // 2**20 + MOST_MIB
    forget(db)  # an open connection would go on reading the home that is moved away
    kept = home.rename(home.with_name("kept"))
    home.mkdir()
    try:
        with mounted(home, "-t", "tmpfs", "-o", f"size={size}m", "tmpfs"):
            subprocess.run(["cp", "-a", f"{kept}/.", str(home)], check=True)
            app.start()
            rows, _ = votes(app)
            ballast = fill(home)
            during, seen = votes(app, 20)
            yield f"{len(during)} of 20 votes acknowledged while it was full; else {dict(seen)}"
            files.remove(ballast)
            after, seen = votes(app)
            if len(after) < 5:
                yield f"FAULT: once there was room {dict(seen)}"
            rows = [*rows, *during, *after]
            lost = set(rows) - feedback.known(db, rows)
            yield from (f"FAULT: {what}" for what in [*faults(db), *map("{} is lost".format, lost)])
            forget(db)
            app.stop()
    finally:
        home.rmdir()
        kept.rename(home)


def read_only(app: AppProcess) -> Iterator[str]:
    """The start is refused in a sentence."""
    with mounted(app.home, "--bind", str(app.home)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(app.home)], check=True)
        ended = app.spawn().wait(PATIENCE)
        said = app.said()
        yield ("" if ended == 1 and "Traceback" not in said else "FAULT: ") + said.strip().splitlines()[-1]


def damaged_adapter(app: AppProcess) -> Iterator[str]:
    """Half a file of the version that serves: another one answers, and says so; whole again, it serves again."""
    db = app.home / "kdloop.db"
    trained = [k for k in checkpoints.lineage(db) if k.path and not k.pruned_at]
    if not trained:
        yield "not run: this home has no trained version"
        return
    was, k = checkpoints.serving(db), trained[-1]
    checkpoints.serve(db, k.id)
    weights = app.home / k.path / "adapter_model.safetensors"
    whole = weights.read_bytes()
    for content, expected in ((whole[: len(whole) // 2], "v0"), (whole, checkpoints.serving(db).name)):
        weights.write_bytes(content)
        app.start()
        visitor = Visitor(app.url, Counter(), timeout=120)
        by = visitor.given and visitor.call("chat", "Who is there?") and visitor.given[0]["version"]
        yield ("" if by == expected else "FAULT: ") + f"{len(content)} of {len(whole)} bytes: {by} answers"
        app.stop()
    checkpoints.serve(db, was.id)


def second_app(app: AppProcess) -> Iterator[str]:
    app.start()
    other = AppProcess(app.home, **app.variables)
    other.log = app.home.with_name("second.log")
    ended, said = other.spawn().wait(PATIENCE), other.said()
    yield ("" if ended == 1 and "Another kdloop uses" in said else "FAULT: ") + said.strip().splitlines()[-1]
    yield "" if votes(app)[0] else "FAULT: the first one answers no more"
    app.stop()


CONDITIONS = {f.__name__.replace("_", " "): f for f in (full_disk, read_only, damaged_adapter, second_app)}


def run(app: AppProcess) -> int:
    """Print what each has shown; 1 where there was a fault."""
    faulty = 0
    for name, condition in CONDITIONS.items():
        if name in ("full disk", "read only") and os.geteuid():
            print(f"{name}: not run, it mounts, which only root may")
            continue
        for said in filter(None, condition(app)):
            print(f"{name}: {said}", flush=True)
            faulty += said.startswith("FAULT")
    return int(faulty > 0)
