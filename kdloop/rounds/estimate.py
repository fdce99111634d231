"""How long a running round will still take: by the steps of its phase, and by what earlier rounds of the same recipe
took. All times are in seconds."""

from datetime import datetime
from functools import lru_cache
from pathlib import Path
from statistics import median

from kdloop.rounds.progress import SECONDS
from kdloop.rounds.schedule import seconds_since
from storage import rounds
from storage.rounds import Progress, Round

EARLIER = 5  # rounds of a recipe, the newest: how much they sample changes little, how fast the machine is may
LOOK_BACK = 200  # rounds, among which they are


@lru_cache(maxsize=64)
def usual(db: Path, recipe: str, before: int) -> dict[str, float]:
    """Phase -> the median of what it took, in rounds of this recipe ("" for people's votes) before round `before` that
    reached the gate; {} where none did. What has ended does not change, so it is read once."""
    known = [r for r in rounds.list_rounds(db, LOOK_BACK) if r.id < before and r.recipe.get("name", "") == recipe]
    whole = [r.seconds for r in known if set(SECONDS.values()) <= set(r.seconds)][:EARLIER]
    return {phase: median(took[key] for took in whole) for phase, key in SECONDS.items()} if whole else {}


def seconds_left(db: Path, running: Round) -> tuple[float | None, bool]:
    """(until its end, True) where earlier rounds say how long the later phases take, else (until the end of its phase,
    False); None where nothing says so yet."""
    usually, now = usual(db, running.recipe.get("name", ""), running.id), rounds.progress_now(db, running.id)
    if not now:
        return (sum(usually.values()), True) if usually else (None, False)
    at, began = now
    here = of_phase(at, began, usually.get(at.phase))
    later = list(SECONDS)[list(SECONDS).index(at.phase) + 1 :]
    if here is None or (later and not usually):
        return here, False
    return here + sum(usually[phase] for phase in later), True


def of_phase(at: Progress, began: str, usually: float | None) -> float | None:
    """By its steps, as they were counted when `at` was written; before the second one, by what it takes usually."""
    if at.eta_seconds is not None:
        return max(0.0, at.eta_seconds - seconds_since(at.at))
    return None if usually is None else max(0.0, usually - seconds_since(began))


def took(round: Round) -> float | None:
    """From its start to its end; None while it runs."""
    if not round.finished_at:
        return None
    return (datetime.fromisoformat(round.finished_at) - datetime.fromisoformat(round.created_at)).total_seconds()
