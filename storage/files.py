"""Files that a kill, a full disk or a power cut leaves whole or as they were; and text as any editor saves it.

What is being written lies beside its place as NAME.PID-N.partial and takes its name when all of it is on the disk. A
partial whose process is gone is rubbish: `sweep` removes it.
"""

import codecs
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

PARTIAL = ".partial"
WRITER = re.compile(r"\.(\d+)-\d+\.partial$")
NUMBERS = count()
UNDER_WAY: set[Path] = set()  # of this process


def write(path: Path, data: str | bytes, mode: int = 0o666) -> None:
    """The file has all of `data` (text as UTF-8), or is as it was before. Raises OSError."""
    with whole(path) as partial:
        os.close(os.open(partial, os.O_CREAT | os.O_WRONLY, mode))
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place to write a file or a directory at, which becomes `path` when the block ends without an error.

    What is there already and is neither (a pipe, a terminal) is written to as it is.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    path = path.resolve() if path.is_file() else path
    sweep(path.parent, path.name)
    with scratch(path) as partial:
        yield partial
        sync(partial)
        if path.is_dir():
            remove(path)
        os.replace(partial, path)
        to_disk(path.parent)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A place beside `path` for what is gone when the block ends, however it ends."""
    partial = path.absolute().with_name(f"{path.name}.{os.getpid()}-{next(NUMBERS)}{PARTIAL}")
    UNDER_WAY.add(partial)
    try:
        yield partial
    finally:
        remove(partial)
        UNDER_WAY.discard(partial)


def sweep(directory: Path, name: str = "") -> None:
    """Remove what writers of `name`, or of anything in the directory, have left behind when they were killed."""
    for partial in directory.absolute().glob(f"{name}*{PARTIAL}"):
        writer = WRITER.search(partial.name)
        mine = writer and int(writer[1]) == os.getpid()
        if partial not in UNDER_WAY and (mine or not writer or not runs(int(writer[1]))):
            remove(partial)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def remove(path: Path) -> None:
    """A file, a directory with all that is in it, a link to either, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """A file, or a directory with all that is in it, is on the disk."""
    for inside in path.rglob("*") if path.is_dir() else ():
        to_disk(inside)
    to_disk(path)


def to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_text(path: Path) -> str:
    """Text without its byte order mark: UTF-8, or UTF-16 with such a mark. Raises ValueError naming the file."""
    data = Path(path).read_bytes()
    utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text in UTF-8: {error.reason} at byte {error.start}; save it as UTF-8"
        ) from None
