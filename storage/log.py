"""What a process says of itself on stdout and stderr: a sentence a line, or, for collectors of logs, an object of JSON
a line, with `time`, `level`, `event`, `message`, and what else is known, as the round's id. No words of people's."""

import atexit
import io
import json
import logging
import sys
import threading
from datetime import UTC, datetime
from typing import Any, TextIO

KINDS = ("text", "json")
PRINTED = "printed"  # the event of what a library prints, or Python where it ends by an error
COMMON: dict[str, Any] = {}  # fields of every line of this process
LOCK = threading.Lock()
OUT: TextIO | None = None  # where objects go; None: sentences are printed


def begin(kind: str, **fields) -> None:
    """How this process talks from now on. With "json" each line is an object, whoever writes it by Python."""
    global OUT
    COMMON.update(fields)
    if kind != "json" or OUT:
        return
    OUT, before = sys.stdout, {sys.stdout, sys.stderr}
    sys.stdout, sys.stderr = Lines("info", sys.stdout), Lines("warning", sys.stderr)
    loggers = [logging.root, *(x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger))]
    for handler in (h for logger in loggers for h in logger.handlers):
        if isinstance(handler, logging.StreamHandler) and handler.stream in before:
            handler.setStream(sys.stderr)


def event(name: str, message: str = "", level: str = "info", **fields) -> None:
    """`message` is the sentence; an event without one is for JSON alone."""
    if OUT:
        write(name, message, level, **fields)
    elif message:
        print(f"kdloop: {message}", file=sys.stdout if level == "info" else sys.stderr, flush=True)


def write(name: str, message: str, level: str, **fields) -> None:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    said = {"time": at, "level": level, "event": name, "message": message} | COMMON
    text = json.dumps(said | {k: v for k, v in fields.items() if v is not None}, default=str)
    with LOCK:
        print(text, file=OUT, flush=True)


class Lines(io.TextIOBase):
    "A text stream whose lines become objects; each thread finishes its own"

    encoding, errors = "utf-8", "replace"

    def __init__(self, level: str, stream: TextIO):
        self.level, self.stream, self.begun = level, stream, threading.local()
        atexit.register(self.end)

    def end(self) -> None:
        """Of the main thread, what has no line end."""
        self.write("\n")

    def write(self, text: str) -> int:
        *lines, rest = (getattr(self.begun, "text", "") + text).split("\n")
        self.begun.text = rest
        for line in filter(str.strip, lines):
            write(PRINTED, line, self.level)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """A child process writes there by itself."""
        return self.stream.fileno()
