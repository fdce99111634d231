"""Keys of the API: named, kept as a hash alone, and revocable. Whoever reads the database cannot use them."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from storage import audit
from storage.database import connect, insert, now, transaction

PREFIX = "kd-"  # by which a key of ours is told from what clients send where none is needed
A_MINUTE = 60  # requests of each kind, where the owner says nothing else
MOST_A_MINUTE = 100_000
MAX_NAME = 80  # characters
NOTED_EVERY = timedelta(seconds=60)  # at most, `used_at` is written: not at each request
FIELDS = "id, name, a_minute, owner, created_at, used_at, revoked_at"


@dataclass(frozen=True)
class Key:
    """`owner`: 1 where it may read the metrics, too."""

    id: int
    name: str
    a_minute: int
    owner: int
    created_at: str
    used_at: str | None
    revoked_at: str | None


def hashed(key: str) -> str:
    """Of 32 random bytes, so no salt and no slow hash is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key(db: Path, name: str, a_minute: int = A_MINUTE, owner: bool = False, who: str = "this computer") -> str:
    """The key, which nobody can read again. Raises ValueError for a name that is empty, over-long or in use."""
    name = " ".join(str(name or "").split())
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"A key's name has 1 to {MAX_NAME} characters")
    if type(a_minute) is not int or not 1 <= a_minute <= MOST_A_MINUTE:
        raise ValueError(f"A key's limit is a whole number of requests a minute, from 1 to {MOST_A_MINUTE}")
    key = PREFIX + secrets.token_urlsafe(32)
    with transaction(db) as c:
        if c.execute("select 1 from keys where name = ? and revoked_at is null", [name]).fetchone():
            raise ValueError(f"There is a key of the name {name!r} already: revoke it first, or choose another name")
        insert(c, "keys", name=name, hash=hashed(key), a_minute=a_minute, owner=int(owner), created_at=now())
        audit.note(c, who, "made an API key", name)
    return key


def find_key(db: Path, key: str) -> Key | None:
    """The one that is not revoked."""
    with connect(db) as c:
        row = c.execute(f"select {FIELDS} from keys where hash = ? and revoked_at is null", [hashed(key)]).fetchone()
    return row and Key(*row)


def note_use(db: Path, key: Key) -> None:
    if key.used_at is None or datetime.fromisoformat(key.used_at) < datetime.now(UTC) - NOTED_EVERY:
        with transaction(db) as c:
            c.execute("update keys set used_at = ? where id = ?", [now(), key.id])


def all_keys(db: Path) -> list[Key]:
    """Oldest first, revoked ones as well."""
    with connect(db) as c:
        return [Key(*r) for r in c.execute(f"select {FIELDS} from keys order by id")]


def revoke(db: Path, name: str, who: str = "this computer") -> None:
    """At once and for good. Raises ValueError where no key of this name is in use."""
    with transaction(db) as c:
        found = c.execute("update keys set revoked_at = ? where name = ? and revoked_at is null", [now(), name])
        if not found.rowcount:
            raise ValueError(f"No key of the name {name!r} is in use")
        audit.note(c, who, "revoked an API key", name)
