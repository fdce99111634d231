"""A trial, from its votes to its end: people confirm the challenger, or it is rolled back.

Who watches is the supervisor, once a second (rounds/supervisor.py). The decision is a function of the stored votes
alone, so a restart changes nothing.
"""

from pathlib import Path

from kdloop.gate.evidence import CONFIRM, ROLL_BACK, Evidence, trail
from storage import ancestry, checkpoints, trials
from storage.checkpoints import BrokenCheckpoint, Checkpoint
from storage.trials import Trial

ANNOUNCED = {  # in place of the verdict's "Promoted", by mode
    "trial": "On trial, and answering already",
    "confirm": "On trial, not answering yet",
    "judge": "Promoted by the judge alone",
}


def announced(reason: str, mode: str) -> str:
    """The reason of a verdict that passed, saying what becomes of the candidate."""
    return reason.replace("Promoted", ANNOUNCED[mode], 1) if reason.startswith("Promoted") else reason


def evidence(db: Path, trial: Trial, shared: bool) -> list[Evidence]:
    """After each comparison, from none on. `shared`: can others than the owner open the page (Settings.shared)?"""
    return trail(trials.votes(db, trial.id), shared)


def settle(db: Path, shared: bool) -> Trial | None:
    """End the running trial if its votes decide it; the trial that was ended."""
    if not (trial := trials.running(db)):
        return None
    now = evidence(db, trial, shared)[-1]
    if now.decision == "running":
        return None
    back_to = fit_to_serve(db, checkpoints.get_checkpoint(db, trial.champion))
    told = now.as_dict() | {"shared": shared}
    if not checkpoints.end_trial(db, trial, now.decision, told, why(now), back_to.id):
        return None
    return next(t for t in trials.all_trials(db) if t.id == trial.id)


def fit_to_serve(db: Path, champion: Checkpoint) -> Checkpoint:
    """The champion, or where its files are damaged its newest ancestor that is whole: what people have voted down does
    not go on answering because of that. The base has no files."""
    for k in reversed(ancestry.ancestors(db, champion)):
        try:
            checkpoints.adapter_dir(db, k)
            return k
        except BrokenCheckpoint:
            continue
    return checkpoints.base(db)


def why(now: Evidence) -> str:
    """One sentence, for the round's verdict."""
    score = f"{now.wins:g} to {now.losses:g}, {now.ties:g} ties"
    if now.decision == "confirmed":
        return f"Confirmed by people: {score}, evidence {now.better:.0f} of {CONFIRM:g}"
    if now.worse >= ROLL_BACK:
        return f"Rolled back by people: {score}, evidence against it {now.worse:.1f} of {ROLL_BACK:g}"
    return f"Rolled back: not shown to be preferred after {now.compared:g} comparisons ({score})"
