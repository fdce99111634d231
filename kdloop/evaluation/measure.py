"""Accuracy of the champion and of the base on the same held-out prompts of a pack, by its checks.

The difference is paired: only prompts that exactly one of the two solves carry information about it.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import comb
from pathlib import Path

from kdloop import packs
from kdloop.chat import confidence
from kdloop.gate.outcomes import Outcomes
from kdloop.knowledge.self_knowledge import SPREAD, vote
from kdloop.packs import Task
from kdloop.raters import verifiers
from kdloop.settings import Settings
from kdloop.student import Engine, Sample, Sampling, engines
from kdloop.student.identity import identity
from storage import checkpoints, measurements
from storage.conversations import as_prompt
from storage.measurements import Measurement


@dataclass(frozen=True)
class Report:
    """`rows` are (task, base's sample, champion's sample), greedy; `logprobs` the champion's mean token
    log-probabilities of its own samples, in nats; `several` as from `coverage`."""

    pack: str
    champion: str
    rows: list[tuple[Task, Sample, Sample]]
    logprobs: list[float]
    several: dict = field(default_factory=dict)

    @cached_property
    def solved(self) -> tuple[list[bool], ...]:
        """Which tasks the base solves, and which the champion; a check may run tests in the sandbox, so once."""
        return tuple([verifiers.passed(task, both[i].text) for task, *both in self.rows] for i in (0, 1))

    def right(self, side: int) -> list[bool]:
        """Which tasks the base (1) or the champion (2) solves."""
        return self.solved[side - 1]

    @property
    def outcomes(self) -> Outcomes:
        return Outcomes.of([champion - base for base, champion in zip(self.right(1), self.right(2), strict=True)])

    @property
    def difference(self) -> tuple[float, float, float]:
        """Accuracy of the champion minus the base's, with its 95 % interval (Agresti & Min 2005, as in the gate)."""
        low, high = self.outcomes.ci95
        return (self.outcomes.wins - self.outcomes.losses) / len(self.rows), 2 * low - 1, 2 * high - 1

    def accuracy(self, side: int) -> tuple[float, float, float]:
        """The share of tasks that the base (1) or the champion (2) solves, with its 95 % Wilson interval."""
        from scipy.stats import binomtest

        right = sum(self.right(side))
        low, high = binomtest(right, len(self.rows)).proportion_ci(method="wilson")
        return right / len(self.rows), float(low), float(high)

    @property
    def groups(self) -> dict[str, int]:
        """Where tasks are groups (one thing asked in several ways): how many there are whole, and of how many base and
        champion solve every task."""
        found: dict[str, list[int]] = defaultdict(list)
        for i, (task, *_) in enumerate(self.rows):
            found[task.group].append(i)
        whole = [at for group, at in found.items() if group and len(at) > 1]
        if not whole:
            return {}
        solved = zip(("base", "champion"), self.solved, strict=True)
        return {"n": len(whole)} | {name: sum(all(right[i] for i in at) for at in whole) for name, right in solved}

    @property
    def confidence(self) -> dict:
        """Calibration of the champion's confidence, and its error rate without the least confident completions."""
        fitted = confidence.fit(self.logprobs, self.right(2))
        errors = {f"{share:.0%}": error for share, error in confidence.risk(self.logprobs, self.right(2))}
        return {"auroc": fitted.auroc, "p_value": fitted.p_value, "error by share left out": errors}

    def as_dict(self) -> dict:
        accuracy = {name: self.accuracy(side) for side, name in ((1, "base"), (2, "champion"))}
        return {
            "pack": self.pack,
            "disclaimer": packs.load(self.pack).disclaimer,
            "n": len(self.rows),
            "champion": self.champion,
            "accuracy": {name: share for name, (share, *_) in accuracy.items()},
            "accuracy ci95": {name: list(interval) for name, (_, *interval) in accuracy.items()},
            "difference": self.difference[0],
            "ci95": list(self.difference[1:]),
            "only champion right": self.outcomes.wins,
            "only base right": self.outcomes.losses,
            "confidence": self.confidence,
            "several samples": self.several,
            "groups": self.groups,
        }


def against_base(settings: Settings, pack: str, n: int, samples: int = 0) -> Report:
    """Compare on `n` held-out prompts, and record it; with `samples` per prompt, also by `coverage`. Raises ValueError
    for a pack without checks."""
    tasks = asked(pack, n)
    if not tasks:
        raise ValueError(f"The pack {pack!r} has no held-out prompts with checks")
    base = engines.transformers(settings)
    champion = checkpoints.serving(settings.db)
    adapter = checkpoints.adapter_dir(settings.db, champion, identity(base.source))
    sampling = Sampling(packs.load(pack).max_tokens or settings.round_max_tokens, temperature=0.0)
    old = complete(base, tasks, sampling)
    engine = base.load(adapter) if adapter else base
    new = complete(engine, tasks, sampling) if adapter else old
    logprobs = engine.logprobs([as_prompt(t.prompt) for t in tasks], [k.written for k in new])
    mean_logprobs = [sum(row) / len(row) for row in logprobs]
    several = coverage(engine, tasks, samples, sampling.max_tokens) if samples else {}
    report = Report(pack, champion.name, list(zip(tasks, old, new, strict=True)), mean_logprobs, several)
    record(settings.db, report, champion.id, identity(base.source))
    return report


def asked(pack: str, n: int) -> list[Task]:
    """The prompts of a measurement. Raises ValueError for an unknown pack."""
    return [t for t in packs.tasks(pack, "heldout") if t.verifiable][:n]


def digest(tasks: Sequence[Task]) -> str:
    return hashlib.sha256(repr([(t.prompt, t.answer, t.checks) for t in tasks]).encode()).hexdigest()


def record(db: Path, report: Report, champion: int, student: str) -> None:
    n, of = len(report.rows), digest([task for task, *_ in report.rows])
    sides = {checkpoints.base(db).id: 1} | {champion: 2}  # where the base serves, both are one
    rows = [Measurement(report.pack, id, of, n, sum(report.right(side))) for id, side in sides.items()]
    measurements.record(db, student, rows)


def share(pack: str, found: Measurement | None) -> float | None:
    """What was measured, where it was on the prompts that the pack has now."""
    if found is None or digest(asked(pack, found.n)) != found.digest:
        return None
    return found.solved / found.n


def pass_at_k(n: int, right: int, k: int) -> float:
    """Unbiased estimate of pass@k from n >= k samples of which `right` are (Chen et al. 2021)."""
    return 1 - comb(n - right, k) / comb(n, k)


def coverage(engine: Engine, tasks: Sequence[Task], n: int, max_tokens: int) -> dict:
    """pass@k for k up to `n`, and the share of tasks whose majority answer is right, which needs no checks to
    choose."""
    sampling = Sampling(max_tokens, temperature=SPREAD)
    samples = engine.complete(
        [as_prompt(t.prompt) for t in tasks for _ in range(n)], sampling, list(range(n * len(tasks)))
    )
    groups = [samples[i * n : i * n + n] for i in range(len(tasks))]
    right = [sum(verifiers.passed(t, s.text) for s in g) for t, g in zip(tasks, groups, strict=True)]
    agreed = [vote(g, 0.0)[0][:1] for g in groups]
    voted = [bool(a) and verifiers.passed(t, a[0].text) for t, a in zip(tasks, agreed, strict=True)]
    best_of = {k: sum(pass_at_k(n, c, k) for c in right) / len(tasks) for k in range(1, n + 1)}
    return {"tasks": len(tasks), "best of": best_of, "majority": sum(voted) / len(tasks)}


def complete(engine: Engine, tasks: list[Task], sampling: Sampling) -> list[Sample]:
    return engine.complete([as_prompt(t.prompt) for t in tasks], sampling, [0] * len(tasks))


def table(report: Report) -> str:
    r = report.as_dict()
    errors = ", ".join(f"{k} {v:.2f}" for k, v in r["confidence"]["error by share left out"].items())
    best = ", ".join(f"{k}: {share:.3f}" for k, share in report.several.get("best of", {}).items())
    several = f"\nBest of k samples, by the checks: {best}; majority {report.several['majority']:.3f}" if best else ""
    shares = {
        name: f"{share:.3f} ({low:.3f} to {high:.3f})"
        for (name, share), (low, high) in zip(r["accuracy"].items(), r["accuracy ci95"].values(), strict=True)
    }
    whole = "\nOf {n} groups it solves {champion} whole, the base {base}".format(**r["groups"]) if r["groups"] else ""
    said = f"\nBeside its answers belongs: {r['disclaimer']}" if r["disclaimer"] else ""
    return (
        f"{r['pack']}, {r['n']} held-out prompts: {r['champion']} {shares['champion']}, base {shares['base']}, "
        f"difference {r['difference']:+.3f} (95 % interval {r['ci95'][0]:+.3f} to "
        f"{r['ci95'][1]:+.3f}; {r['only champion right']} only it has right, {r['only base right']} only the base)\n"
        f"Its confidence: AUROC {r['confidence']['auroc']:.2f}; error rate by share of answers left out: {errors}"
        f"{several}{whole}{said}"
    )
