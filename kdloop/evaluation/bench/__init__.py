"""Benchmarks: each figure is a ratio to a baseline, both measured in alternating turns of the same run.

`python -m kdloop bench [--json FILE] [FIGURE ...]`; FIGURES is the list.
"""

import json
import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from storage import files

N = 5  # measurements per median


@dataclass(frozen=True)
class Figure:
    """`ours` and `baseline` are medians of `n` measurements in `unit`; the `bar` (">= 2", "<= 1", or "") is on `ratio`:
    ours / baseline, or its inverse for times."""

    name: str
    ours: float
    baseline: float
    unit: str
    ratio: float
    bar: str = ""
    n: int = N

    @property
    def held(self) -> bool | None:
        """Whether the ratio meets the bar; None without a bar."""
        sign, _, limit = self.bar.partition(" ")
        return {">=": self.ratio >= float(limit), "<=": self.ratio <= float(limit)}[sign] if self.bar else None


def within(name: str, ours: float, limit: float, unit: str, n: int = N) -> Figure:
    """A figure against a fixed limit instead of a baseline."""
    return Figure(f"{name} ÷ what may be", ours, limit, unit, ours / limit, "<= 1", n)


def in_turns(ours: Callable[[int], float], baseline: Callable[[int], float], n: int = N) -> tuple[float, float]:
    """Medians of `n` alternating turns after an unmeasured one: what slows the machine down affects both."""
    ours(0), baseline(0)
    pairs = [(ours(i), baseline(i)) for i in range(1, n + 1)]
    return tuple(map(statistics.median, zip(*pairs, strict=True)))


def machine() -> dict:
    info = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in cpuinfo())}
    flags = info.get("flags", "").split()
    return {
        "cpu": info.get("model name", platform.processor()),
        "cores": os.cpu_count(),
        "avx2": "avx2" in flags,
        "avx512_bf16": "avx512_bf16" in flags,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": platform.system(),
    }


def cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def run(names: list[str], json_file: Path | None) -> None:
    """Measure the named figures (all if none is named), print the table, write the JSON. Raises ValueError for unknown
    names."""
    from kdloop.evaluation.bench.figures import FIGURES

    if unknown := set(names) - set(FIGURES):
        raise ValueError(f"Unknown figures {sorted(unknown)}; there are: {', '.join(FIGURES)}")
    about, found = machine(), []
    print(table_head(about), flush=True)
    for name in names or FIGURES:
        for figure in FIGURES[name]():
            found.append(figure)
            print(line(figure), flush=True)
            if json_file:
                rows = [asdict(f) | {"held": f.held} for f in found]
                files.write(Path(json_file), json.dumps({"machine": about, "figures": rows}, indent=1))


def table_head(about: dict) -> str:
    description = ", ".join(f"{k} {v}" for k, v in about.items())
    return f"{description}\n\n| figure | kdloop | baseline | unit | ratio | bar | n |\n|---|---|---|---|---|---|---|"


def line(f: Figure) -> str:
    bar = f"{f.bar} {'held' if f.held else 'MISSED'}" if f.bar else ""
    return f"| {f.name} | {f.ours:.4g} | {f.baseline:.4g} | {f.unit} | {f.ratio:.3g} | {bar} | {f.n} |"
