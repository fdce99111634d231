"""Teachers' budgets: no call is made that could exceed one, however many ask at the same time in this process."""

from collections import defaultdict
from pathlib import Path
from threading import Lock

from storage import teachers as store

LOCK = Lock()
RESERVED: dict[tuple[Path, str], float] = defaultdict(float)  # (database, teacher) -> money set aside for calls


def reserve(db: Path, teacher: str, budget: float, cost: float) -> bool:
    """Set money aside for a call (or free it again, when negative); False where the budget has not so much left."""
    with LOCK:
        if cost > 0 and budget:
            spent = store.usage(db).get(teacher)
            if (spent.cost if spent else 0) + RESERVED[db, teacher] + cost > budget:
                return False
        RESERVED[db, teacher] += cost
        return True
