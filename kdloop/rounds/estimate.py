"""How long a running round will still take: by the steps of its phase, and by what earlier rounds of the same recipe
took, or before there are any by a guess. All times are in seconds."""

from datetime import datetime
from functools import lru_cache
from pathlib import Path
from statistics import median

from kdloop.recipes import VOTES
from kdloop.rounds.progress import SECONDS
from kdloop.rounds.schedule import seconds_since
from storage import rounds
from storage.rounds import Progress, Round

EARLIER = 5  # rounds of a recipe, the newest: how much they sample changes little, how fast the machine is may
LOOK_BACK = 200  # rounds, among which they are
START = 30.0  # PyTorch and TRL are imported
A_COMPLETION, A_PASS, GATE = 0.14, 1.4, 98.0  # on two CPU cores: people's votes took 80, 268 and 98 (docs/log.md)


@lru_cache(maxsize=64)
def usual(db: Path, recipe: str, before: int) -> dict[str, float]:
    """Phase -> the median of what it took, in rounds of this recipe ("" for people's votes) before round `before` that
    reached the gate; {} where none did. What has ended does not change, so it is read once."""
    known = [r for r in rounds.list_rounds(db, LOOK_BACK) if r.id < before and r.recipe.get("name", "") == recipe]
    whole = [r.seconds for r in known if set(SECONDS.values()) <= set(r.seconds)][:EARLIER]
    return {phase: median(took[key] for took in whole) for phase, key in SECONDS.items()} if whole else {}


def guessed(recipe: dict) -> dict[str, float]:
    """Phase -> what it would take two CPU cores, by what the recipe, as its round stores it, samples and trains; {} is
    people's votes."""
    plan = VOTES.as_dict() | recipe
    sampled = sum(plan["prompts"] * step.get("n", 1) for step in plan["knowledge"])
    return dict(zip(SECONDS, (sampled * A_COMPLETION, plan["passes"] * A_PASS, GATE), strict=True))


def seconds_left(db: Path, running: Round) -> tuple[float, bool]:
    """(until its end, whether earlier rounds say so: else it is a guess, and by this round's own pace)."""
    usually, now = usual(db, running.recipe.get("name", ""), running.id), rounds.progress_now(db, running.id)
    known = usually or guessed(running.recipe)
    if not now:
        return sum(known.values()) + START, bool(usually)
    at, began = now
    phases = list(SECONDS)
    before, later = phases[: phases.index(at.phase)], phases[phases.index(at.phase) + 1 :]
    pace = 1.0 if usually else own_pace(running, at, began, START + sum(known[p] for p in before), known[at.phase])
    here = of_phase(at, began, known[at.phase] * pace)
    return here + sum(known[phase] for phase in later) * pace, bool(usually)


def own_pace(running: Round, at: Progress, began: str, before: float, here: float) -> float:
    """How many times longer than guessed: by the phases before this one, of `before` guessed seconds, and by this one,
    of `here`, once its steps have a pace."""
    took = seconds_since(running.created_at) - seconds_since(began)
    if at.eta_seconds is None:
        return took / before if at.phase != next(iter(SECONDS)) else 1.0
    return (took + seconds_since(began) + of_phase(at, began, here)) / (before + here)


def of_phase(at: Progress, began: str, usually: float) -> float:
    """By its steps, as they were counted when `at` was written; before the second one, by what it takes usually."""
    if at.eta_seconds is not None:
        return max(0.0, at.eta_seconds - seconds_since(at.at))
    return max(0.0, usually - seconds_since(began))


def took(round: Round) -> float | None:
    """From its start to its end; None while it runs."""
    if not round.finished_at:
        return None
    return (datetime.fromisoformat(round.finished_at) - datetime.fromisoformat(round.created_at)).total_seconds()
