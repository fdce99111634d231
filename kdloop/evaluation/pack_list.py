"""Every pack with what there is to know of it: for the command `pack list`, and for the Admin tab."""

from dataclasses import dataclass, field
from pathlib import Path

from kdloop import packs
from kdloop.evaluation import measure
from kdloop.packs import PARTS, Pack
from storage import checkpoints, measurements


@dataclass(frozen=True)
class Listed:
    """`sizes` are prompts by part, `checks` the names of all that its prompts have. `shares`, of the version that
    serves and of the base, are of its held-out prompts, as last measured; None where they were not. `error` says why
    it cannot be read here, as by a package that is not installed."""

    pack: Pack
    ours: bool
    sizes: dict[str, int] = field(default_factory=dict)
    checks: tuple[str, ...] = ()
    shares: tuple[float | None, float | None] = (None, None)
    error: str = ""


def every(db: Path | None = None) -> list[Listed]:
    """By name; without a database, nothing is known of measurements."""
    sides = (checkpoints.serving(db), checkpoints.base(db)) if db else ()
    known = [measurements.newest(db, version.id) for version in sides] or [{}, {}]
    return [listed(name, *known) for name in packs.names()]


def listed(name: str, of_champion: dict, of_base: dict) -> Listed:
    ours = name in packs.shipped()
    try:
        tasks = {part: packs.tasks(name, part) for part in PARTS}
    except ValueError as error:
        return Listed(Pack(name), ours, error=str(error))
    sizes = {part: len(own) for part, own in tasks.items()}
    checks = sorted({check["check"] for own in tasks.values() for task in own for check in task.checks})
    shares = measure.share(name, of_champion.get(name)), measure.share(name, of_base.get(name))
    return Listed(packs.load(name), ours, sizes, tuple(checks), shares)
