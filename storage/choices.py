"""What owners have set on the page, by the setting's name. A change and the line about it are one transaction."""

from pathlib import Path

from storage import audit
from storage.database import connect, now, transaction

TAKEN_BACK = "default"


def chosen(db: Path) -> dict[str, str]:
    """name -> value, as text; only what an owner has set. Empty where there is no database yet."""
    if not db.exists():
        return {}
    with connect(db) as c:
        return dict(tuple(r) for r in c.execute("select name, value from choices"))


def choose(db: Path, values: dict[str, str | None], who: str) -> None:
    """Set each name to its value; None takes it back. All or nothing, with a line each in the audit log."""
    with transaction(db) as c:
        for name, value in values.items():
            row = c.execute("select value from choices where name = ?", [name]).fetchone()
            if value is None:
                c["choices"].delete_where("name = ?", [name])
            else:
                c["choices"].insert({"name": name, "value": value, "at": now(), "who": who}, replace=True)
            before, after = row[0] if row else TAKEN_BACK, TAKEN_BACK if value is None else value
            audit.note(c, who, f"set {name}", f"{before} → {after}")
