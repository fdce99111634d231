"""What owners did: who, when, which action, about what. Written beside the deed, never changed."""

from pathlib import Path

from sqlite_utils import Database

from storage.database import connect, now, transaction


def record(db: Path, who: str, action: str, about: str = "") -> None:
    with transaction(db) as c:
        note(c, who, action, about)


def note(c: Database, who: str, action: str, about: str = "") -> None:
    """Within a transaction that does the deed."""
    c["audit"].insert({"at": now(), "who": who, "action": action, "about": about})


def has(db: Path, action: str, about: str) -> bool:
    with connect(db) as c:
        return c.execute("select 1 from audit where action = ? and about = ?", [action, about]).fetchone() is not None


def entries(db: Path, limit: int = 100) -> list[tuple[str, str, str, str]]:
    """(at, who, action, about), newest first."""
    with connect(db) as c:
        rows = c.execute("select at, who, action, about from audit order by id desc limit ?", [limit]).fetchall()
    return [tuple(r) for r in rows]
