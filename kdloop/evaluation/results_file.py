"""A measurement in the shape of lm-eval's results file (0.4.13), which its readers take: the champion under the pack's
name, the base beside it. What has no place there, such as intervals, is under `kdloop`."""

from collections.abc import Sequence
from pathlib import Path

from kdloop import packs
from kdloop.evaluation.measure import Report
from storage import files, json_lines

VERSION = 1  # of the tasks


def results(report: Report) -> dict:
    asked = {"original": len(packs.tasks(report.pack, "heldout")), "effective": len(report.rows)}
    sides = sides_of(report)
    return {
        "results": {name: scores(name, report.right(side)) for name, side in sides.items()},
        "group_subtasks": {name: [] for name in sides},
        "configs": {name: {"task": name, "output_type": "generate_until", "num_fewshot": 0} for name in sides},
        "versions": dict.fromkeys(sides, VERSION),
        "n-shot": dict.fromkeys(sides, 0),
        "higher_is_better": {name: {"acc": True} for name in sides},
        "n-samples": dict.fromkeys(sides, asked),
        "config": {"model": "kdloop", "model_args": {"version": report.champion}},
        "kdloop": report.as_dict(),
    }


def sides_of(report: Report) -> dict[str, int]:
    """Task -> the side of the report's rows."""
    return {report.pack: 2, f"{report.pack} (base)": 1}


def scores(name: str, right: Sequence[bool]) -> dict:
    """With the standard error of a mean, by n - 1, as lm-eval's; of one task there is none."""
    n, share = len(right), sum(right) / len(right)
    error = (share * (1 - share) / (n - 1)) ** 0.5 if n > 1 else "N/A"
    return {"alias": name, "sample_len": n, "acc,none": share, "acc_stderr,none": error}


def samples(report: Report) -> dict[str, list[dict]]:
    """Every completion by task, as lm-eval logs them."""
    return {
        name: [
            {
                "doc_id": i,
                "doc": {"prompt": task.prompt, "answer": task.answer},
                "target": task.answer,
                "resps": [[both[side - 1].text]],
                "filtered_resps": [both[side - 1].text],
                "filter": "none",
                "metrics": ["acc"],
                "acc": float(right),
            }
            for i, ((task, *both), right) in enumerate(zip(report.rows, report.right(side), strict=True))
        ]
        for name, side in sides_of(report).items()
    }


def write(report: Report, path: Path) -> None:
    files.write(path, json_lines.dump(results(report) | {"samples": samples(report)}, indent=1))
