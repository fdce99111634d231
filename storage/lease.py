"""The lease that lets one round run at a time, and how its holder is known to be gone although clocks go back and jump.

A holder is a process, by its number and when it began; the kernel knows whether it is there. Where that cannot be asked
(another container, no /proc), its last beat decides, by the clock since the machine's start, which nobody sets. A beat
of another start of the machine is a dead one's.
"""

import os
import re
import time
from pathlib import Path
from sqlite3 import Row

from sqlite_utils import Database

from storage.database import new_id

LEASE_SECONDS = 30  # a lease not renewed for so long belongs to a dead process
PROCESS = re.compile(r"process (?P<pid>\d+) since (?P<since>\d+) in (?P<space>\S*) ")


def take(c: Database, owner: str, round_id: int) -> None:
    c["lease"].insert({"id": 1, "owner": owner, "round_id": round_id} | beat(), replace=True)


def renew(c: Database, owner: str) -> bool:
    now = beat()
    values = [now["beat"], now["boot"], now["tick"], owner]
    return c.execute("update lease set beat = ?, boot = ?, tick = ? where owner = ?", values).rowcount == 1


def held(c: Database) -> Row | None:
    """The lease, whether or not its holder lives."""
    return c.execute("select owner, round_id, beat, boot, tick from lease").fetchone()


def beat() -> dict:
    return {"beat": time.time(), "boot": boot(), "tick": time.monotonic()}


def lives(lease: Row) -> bool:
    """Its holder is there. A beat from the future, by either clock, is of one who died before the clock went back."""
    if lease["boot"] != boot():
        return False
    holder = PROCESS.match(lease["owner"])
    if holder and holder["space"] == space():
        return began(int(holder["pid"])) == holder["since"]
    return 0 <= time.monotonic() - lease["tick"] < LEASE_SECONDS and lease["beat"] - time.time() < LEASE_SECONDS


def new_owner() -> str:
    """A name for this process as a holder, which others can tell alive from dead."""
    known = began(os.getpid())
    return f"process {os.getpid()} since {known} in {space()} {new_id()[:6]}" if known else new_id()


def began(pid: int) -> str:
    """When a process began, in ticks since the machine's start; "" where there is none, or no telling."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else rest[18]


def boot() -> str:
    """The machine's start, by a random id; "" where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def space() -> str:
    """Where numbers of processes mean the same."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
