"""JSON Lines: one record a line, for every reader.

Strings may hold characters that Python's `str.splitlines`, and readers in other languages, take for the end of a line:
U+0085, U+2028 and U+2029. JSON lets them stand as they are; here they are escaped. (It escapes control characters
anyway.)
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from storage import files

LINE_ENDS = re.compile("[\u0085\u2028\u2029]")


def dump(record: object, indent: int | None = None) -> str:
    """As JSON, on one line where there is no `indent`; reads back as the same value."""
    text = json.dumps(record, ensure_ascii=False, indent=indent)
    return LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def read(path: Path) -> Iterator[dict]:
    """The records of a file, whoever wrote it: only "\\n" ends a line."""
    lines = files.read_text(path).split("\n")
    return (json.loads(line) for line in lines if line.strip())
