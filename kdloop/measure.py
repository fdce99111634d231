"""Did it improve? The champion and the base answer the same held-out prompts of a pack, and its checks say who is
right.

The difference is paired: only prompts on which exactly one of the two is right say anything about it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from kdloop import confidence, packs
from kdloop.gate import Outcomes
from kdloop.packs import Task
from kdloop.raters import verifiers
from kdloop.settings import Settings
from kdloop.student import Engine, Sample, Sampling
from kdloop.student.base import find_student
from kdloop.student.transformers import TransformersEngine
from storage import checkpoints
from storage.conversations import as_prompt


@dataclass(frozen=True)
class Report:
    """`rows` are (task, base's completion, champion's completion), greedy; `sure` are the champion's mean token
    log-probabilities of its own."""

    pack: str
    champion: str
    rows: list[tuple[Task, Sample, Sample]]
    sure: list[float]

    def right(self, side: int) -> list[bool]:
        return [verifiers.passed(r[0], r[side].text) for r in self.rows]

    @property
    def outcomes(self) -> Outcomes:
        pairs = list(zip(self.right(1), self.right(2), strict=True))
        wins, losses = pairs.count((False, True)), pairs.count((True, False))
        return Outcomes(wins, losses, len(pairs) - wins - losses)

    @property
    def difference(self) -> tuple[float, float, float]:
        """Accuracy of the champion minus the base's, and its 95 % interval (Agresti & Min 2005, as in the gate)."""
        low, high = self.outcomes.ci95
        return (self.outcomes.wins - self.outcomes.losses) / len(self.rows), 2 * low - 1, 2 * high - 1

    @property
    def confidence(self) -> dict:
        """Does the champion know when it is right? Its error rate where the least sure answers are left out."""
        fitted = confidence.fit(self.sure, self.right(2))
        errors = {f"{share:.0%}": error for share, error in confidence.risk(self.sure, self.right(2))}
        return {"auroc": fitted.auroc, "p_value": fitted.p_value, "error where so many are left out": errors}

    def as_dict(self) -> dict:
        accuracy = [sum(self.right(side)) / len(self.rows) for side in (1, 2)]
        return {
            "pack": self.pack,
            "n": len(self.rows),
            "champion": self.champion,
            "accuracy": {"base": accuracy[0], "champion": accuracy[1]},
            "difference": self.difference[0],
            "ci95": list(self.difference[1:]),
            "only champion right": self.outcomes.wins,
            "only base right": self.outcomes.losses,
            "confidence": self.confidence,
        }


def against_base(settings: Settings, pack: str, n: int) -> Report:
    """Raises ValueError for a pack without checks: nothing could be measured."""
    tasks = [t for t in packs.tasks(pack, "heldout") if t.verifiable][:n]
    if not tasks:
        raise ValueError(f"The pack {pack!r} has no held-out prompts with checks")
    base = TransformersEngine(find_student(settings.student, settings.home))
    champion = checkpoints.serving(settings.db)
    adapter = checkpoints.adapter_dir(settings.db, champion)
    sampling = Sampling(packs.load(pack).max_tokens or settings.round_max_tokens, temperature=0.0)
    old = complete(base, tasks, sampling)
    engine = base.load(adapter) if adapter else base
    new = complete(engine, tasks, sampling) if adapter else old
    logprobs = engine.logprobs([as_prompt(t.prompt) for t in tasks], [k.said for k in new])
    sure = [sum(row) / len(row) for row in logprobs]
    return Report(pack, champion.name, list(zip(tasks, old, new, strict=True)), sure)


def complete(engine: Engine, tasks: list[Task], sampling: Sampling) -> list[Sample]:
    return engine.complete([as_prompt(t.prompt) for t in tasks], sampling, [0] * len(tasks))


def table(report: Report) -> str:
    r = report.as_dict()
    errors = ", ".join(f"{k} {v:.2f}" for k, v in r["confidence"]["error where so many are left out"].items())
    return (
        f"{r['pack']}, {r['n']} held-out prompts: {r['champion']} {r['accuracy']['champion']:.3f}, base "
        f"{r['accuracy']['base']:.3f}, difference {r['difference']:+.3f} (95 % interval {r['ci95'][0]:+.3f} to "
        f"{r['ci95'][1]:+.3f}; {r['only champion right']} only it has right, {r['only base right']} only the base)\n"
        f"Its confidence: AUROC {r['confidence']['auroc']:.2f}; error rate where so many answers are left out: {errors}"
    )


def write(report: Report, path: Path) -> None:
    rows = [
        {"prompt": t.prompt, "answer": t.answer, "base": old.text, "champion": new.text} for t, old, new in report.rows
    ]
    path.write_text(json.dumps(report.as_dict() | {"rows": rows}, indent=1, ensure_ascii=False))
