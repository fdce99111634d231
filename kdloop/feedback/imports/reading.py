"""A file as rows, one at a time: JSON (an array is read in pieces), JSON Lines, Parquet; the first two also as .gz.

No row is longer than LONGEST characters, so memory stays flat whatever the file holds.
"""

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LONGEST = 16 * 2**20  # characters of a row
PIECE = 2**16
BATCH = 256  # rows of a Parquet file at a time
SPACE, DECODER = re.compile(r"[ \t\r\n]*"), json.JSONDecoder()
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
TOO_LONG = f"longer than {LONGEST // 2**20} million characters, which no row may be"


class Unreadable(ValueError):
    "A file that cannot be imported: what is wrong, with its name, line and field"


def rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(where, value) of each row. Raises Unreadable, and OSError where there is no such file."""
    with path.open("rb") as file:
        head = file.read(4)
    if head == PARQUET:
        return of_parquet(path)
    return of_text(path, head[:2] == GZIP)


def of_text(path: Path, zipped: bool) -> Iterator[tuple[str, Any]]:
    with gzip.open(path) if zipped else path.open("rb") as raw:
        line = 0
        try:
            head = raw.read(4)
            raw.seek(0)
            encoding = next((name for bom, name in BOMS if head.startswith(bom)), "utf-8")
            pieces = Pieces(io.TextIOWrapper(raw, encoding, newline="\n"))
            first = pieces.peek()
            for line, value in array(pieces) if first == "[" else lines(pieces):
                yield f"line {line}", value
        except UnicodeDecodeError as error:
            raise Unreadable(f"{path.name}, after line {line}: no text in UTF-8 ({error.reason}); save it so") from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Unreadable(f"{path.name}, after line {line}: the gz file is cut off or damaged ({error})") from None
        except BadJson as error:
            raise Unreadable(f"{path.name}, line {error.line}: {error}") from None


class BadJson(ValueError):
    def __init__(self, why: str, line: int):
        super().__init__(why)
        self.line = line


class Pieces:
    """A text read piece by piece: `buffer` from `at` on is what was not taken yet, and begins in `line`."""

    def __init__(self, file: io.TextIOBase):
        self.file, self.buffer, self.at, self.line, self.ended = file, "", 0, 1, False

    @property
    def waiting(self) -> int:
        return len(self.buffer) - self.at

    def more(self, size: int = PIECE) -> bool:
        piece = "" if self.ended else self.file.read(size)
        self.ended = not piece
        self.buffer, self.at = self.buffer[self.at :] + piece, 0
        return bool(piece)

    def take_to(self, end: int) -> str:
        taken, self.at = self.buffer[self.at : end], end
        self.line += taken.count("\n")
        return taken

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            self.take_to(SPACE.match(self.buffer, self.at).end())
            if self.waiting or not self.more():
                return self.buffer[self.at : self.at + 1]


def parsed(text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadJson(f"no JSON ({error.msg} at character {error.pos + 1})", line) from None
    except RecursionError:
        raise BadJson("nested too deep", line) from None
    except ValueError as error:  # a number of thousands of digits
        raise BadJson(f"no JSON ({error})", line) from None


def lines(pieces: Pieces) -> Iterator[tuple[int, Any]]:
    """JSON Lines; or one object over several lines, which is one row."""
    while pieces.peek():
        seen = 0
        while (end := pieces.buffer.find("\n", pieces.at + seen)) < 0 and pieces.waiting <= LONGEST:
            seen = pieces.waiting
            if not pieces.more(max(PIECE, seen)):
                end = len(pieces.buffer)
                break
        if end - pieces.at > LONGEST or end < 0:
            raise BadJson(TOO_LONG, pieces.line)
        line = pieces.line
        if line == 1 and goes_on(pieces.buffer[pieces.at : end]):
            yield line, whole(pieces)
            return
        yield line, parsed(pieces.take_to(end), line)


def goes_on(text: str) -> bool:
    """Is it an object that goes on in the next line?"""
    return text.rstrip()[-1:] in ("{", "[", ",")


def whole(pieces: Pieces) -> Any:
    while pieces.more():
        if pieces.waiting > LONGEST:
            raise BadJson(TOO_LONG, pieces.line)
    return parsed(pieces.buffer[pieces.at :], pieces.line)


def array(pieces: Pieces) -> Iterator[tuple[int, Any]]:
    pieces.take_to(pieces.at + 1)
    next_one = pieces.peek()
    while next_one != "]":
        line = pieces.line
        yield line, element(pieces)
        next_one = pieces.peek()
        if next_one == ",":
            pieces.take_to(pieces.at + 1)
            next_one = pieces.peek()
            if next_one == "]":
                raise BadJson("a comma before the array's end", pieces.line)
        elif next_one != "]":
            raise BadJson(
                f"{next_one!r} between two rows of the array" if next_one else "the array has no end", pieces.line
            )
    pieces.take_to(pieces.at + 1)
    if pieces.peek():
        raise BadJson("more text after the array", pieces.line)


def element(pieces: Pieces) -> Any:
    """The next one, after as many pieces as it takes: twice as many each time, so that each is read twice at most."""
    if pieces.buffer[pieces.at : pieces.at + 1] not in ("{", "["):
        found = pieces.buffer[pieces.at : pieces.at + 10]
        raise BadJson(
            f"the array has {found!r} where a row's object should be" if found else "the array has no end", pieces.line
        )
    size = PIECE
    while True:
        try:
            value, end = DECODER.raw_decode(pieces.buffer, pieces.at)
        except json.JSONDecodeError as error:
            if pieces.waiting > LONGEST:
                raise BadJson(TOO_LONG, pieces.line) from None
            at = pieces.line + pieces.buffer[pieces.at : error.pos].count("\n")
            if not pieces.more(size):
                raise BadJson(f"no JSON ({error.msg}), or cut off", at) from None
            size *= 2
        except RecursionError:
            raise BadJson("nested too deep", pieces.line) from None
        except ValueError as error:
            raise BadJson(f"no JSON ({error})", pieces.line) from None
        else:
            if end - pieces.at > LONGEST:
                raise BadJson(TOO_LONG, pieces.line)
            pieces.take_to(end)
            return value


def of_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise Unreadable(f"{path.name} is Parquet: pip install pyarrow, or save it as JSON Lines") from None
    n = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                if batch.nbytes > BATCH * LONGEST:
                    raise Unreadable(f"{path.name}, row {n + 1} and following: {TOO_LONG}")
                for row in batch.to_pylist():
                    n += 1
                    yield f"row {n}", row
    except (pa.ArrowException, OSError) as error:
        raise Unreadable(f"{path.name}, after row {n}: no whole Parquet file ({str(error)[:200]})") from None
