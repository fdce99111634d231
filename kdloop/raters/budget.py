"""Teachers' budgets: a call is made only if it cannot exceed one, however many threads of this process call at once."""

from collections import defaultdict
from pathlib import Path
from threading import Lock

from storage import teachers as store

LOCK = Lock()
RESERVED: dict[tuple[Path, str], float] = defaultdict(float)  # (database, teacher) -> money reserved for open calls


def reserve(db: Path, teacher: str, budget: float, cost: float) -> bool:
    """Reserve money for a call, or release it (a negative cost). False if the call could exceed the budget."""
    with LOCK:
        if cost > 0 and budget:
            spent = store.usage(db).get(teacher)
            if (spent.cost if spent else 0) + RESERVED[db, teacher] + cost > budget:
                return False
        RESERVED[db, teacher] += cost
        return True
