"""The bench's machinery, on databases made small. Its numbers are for quiet machines: docs/log.md."""

import json

import pytest

from kdloop import bench
from kdloop.bench import Figure, data, figures, raters


def test_a_run_writes_every_figure_and_refuses_unknown_names(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "SIZES", (20, 40))
    for name, small in {"VOTES": 310, "TEXTS": 20, "RATERS": (2,)}.items():
        monkeypatch.setattr(raters, name, small)
    bench.run(["pages", "examples", "refit"], str(tmp_path / "out.json"))
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["machine"]["cores"] and [f["name"].split(":")[0] for f in out["figures"][:2]] == [
        "page p95 at 20 votes",
        "page p95 at 40 votes",
    ]
    assert all(f["ours"] > 0 and f["baseline"] > 0 for f in out["figures"])
    assert capsys.readouterr().out.count("\n| ") == 1 + len(out["figures"])
    with pytest.raises(ValueError, match=f"there are: {', '.join(figures.FIGURES)}"):
        bench.run(["speed"], None)


def test_a_bar_is_held_on_its_own_side():
    held = [Figure("x", 1, 1, "s", ratio, bar).held for ratio, bar in ((2, ">= 2"), (1, ">= 2"), (1, "<= 2"), (1, ""))]
    assert held == [True, False, True, None]
    assert bench.within("x", 40, 50, "ms").held and not bench.within("x", 60, 50, "ms").held


def test_turns_alternate_and_the_first_is_not_measured():
    seen = []
    found = bench.in_turns(lambda i: seen.append("ours") or i, lambda i: seen.append("theirs") or 10 * i, n=3)
    assert found == (2, 20) and seen == ["ours", "theirs"] * 4
