"""A home belongs to one app at a time: a second one would take the first one's replies for leftovers of a kill.

The lock is the kernel's, on a file in the home. It ends with its process, however that ends, so there is never one to
remove by hand. It is of the kind that SQLite uses, so it holds wherever a database does; a forked process has none.
"""

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from storage.database import UnusableHome

LOCK = "app.lock"  # what is in it is for people: which process that is
LOOK_AGAIN_SECONDS = 0.5
HELD: dict[Path, int] = {}  # home -> descriptor, of this process: closing any other one of the file would end the lock


class OccupiedHome(ValueError):
    "Another app uses the home"


def occupy(home: Path, patience: float = 0.0) -> None:
    """Until this process ends, the home is its own. Waits `patience` seconds for another one to end. Raises
    OccupiedHome, and UnusableHome where no file can be written there."""
    home = home.resolve()
    if home in HELD:
        return
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UnusableHome(
            f"Nothing can be written in {home} ({error}): set KDLOOP_HOME to a directory that can be written to"
        ) from error
    until = time.monotonic() + patience
    while not taken(lock):
        if time.monotonic() >= until:
            who = os.pread(lock, 100, 0).decode(errors="replace").strip()
            os.close(lock)
            raise OccupiedHome(
                f"Another kdloop uses {home}{f' ({who})' if who else ''}, and two would end each other's replies and "
                "rounds. Stop that one first, or set KDLOOP_HOME to another directory"
            )
        time.sleep(LOOK_AGAIN_SECONDS)
    HELD[home] = lock
    with suppress(OSError):  # a full disk
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()}\n".encode(), 0)


def taken(lock: int) -> bool:
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise UnusableHome(
            f"The file system of this home knows no locks ({error}): SQLite needs a real disk"
        ) from error
    return True
