"""The comparisons of methods, on a random two-layer student and a rater that counts letters."""

import json

import pytest

from kdloop import packs
from kdloop.evaluation.bench import cost, divergence, methods
from kdloop.methods import page
from kdloop.methods.lora import Plan
from kdloop.student.transformers import TransformersEngine

RATER = "def letters(prompt, completion):\n    return sum('a' <= c <= 'z' for c in completion)\n"


@pytest.mark.slow
def test_two_methods_get_the_same_votes_and_a_line_each_and_a_second_call_goes_on(byte_student, tmp_path):
    rater, out = tmp_path / "rater.py", tmp_path / "cells.jsonl"
    rater.write_text(RATER)
    base, budget = TransformersEngine(byte_student), methods.Budget(8, 3, 6, 8, anchor=0.0, trust_region=True)
    methods.run(base, ["dpo"], [f"{rater}:letters"], [1], budget, out)
    cells = methods.run(base, ["dpo", "simpo"], [f"{rater}:letters"], [1], budget, out)
    assert cells == [json.loads(line) for line in out.read_text().splitlines()]
    assert [c["method"] for c in cells] == ["dpo", "simpo"]
    for c in cells:
        assert c["votes"] == 8 and c["wins"] + c["losses"] + c["ties"] == 6
        assert c["seconds"] > 0 and c["peak MB"] > 100 and c["displacement"] != 0
        assert c["anchor"] == 0.0 and c["step scale"] > 0
    assert methods.table(cells).count("\n") == 3


def test_cells_that_were_trained_otherwise_are_not_in_one_table(tmp_path):
    """An earlier table had neither in its cells."""
    out, budget = tmp_path / "cells.jsonl", methods.Budget()
    for cell in ({"method": "dpo"}, {"method": "dpo", "anchor": 0.0, "trust_region": False}):
        out.write_text(json.dumps(cell))
        with pytest.raises(ValueError, match="another anchor or trust region"):
            methods.run(None, ["dpo"], [], [1], budget, out)


def test_divergences_are_compared_from_the_same_start(tiny_student):
    plan = Plan(1, epochs=4, learning_rate=1e-2, max_tokens=6, system="End with DONE.")
    held_out = packs.prompts("general", "gate")[:2]
    lines = divergence.run(tiny_student, ["forward_kl", "bake"], 4, held_out, plan)
    lines += divergence.run(tiny_student, ["bake"], 4, held_out, plan, rule=".")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [c[0] for c in cells] == ["`forward_kl`", "`bake`", "`bake`"]
    assert len({c[1].split(" to ")[0] for c in cells}) == 1
    assert [c[4] for c in cells] == ["", "", "1.000 to 1.000"]


def test_methods_are_measured_beside_sft_and_the_page_tells_it(tiny_student, tmp_path, monkeypatch):
    names = ["dpo", "forward_kl", "rloo", "bake", "self_rewarding"]
    found = cost.run(tiny_student, names, n=4, repeats=1, tokens=4)
    assert found["self_rewarding"] is None
    measured = {name for name, costs in found.items() if costs and costs["seconds"] > 0 and costs["ratio"] > 0}
    assert measured == {"sft", *names} - {"self_rewarding"}
    said = {"student": "a student", "examples": 4, "repeats": 1, "tokens": 4, "cpu": "c", "cores": 2}
    cost.keep(tmp_path / "costs.json", said, {"sft": {"ratio": 1.0, "seconds": 76.0}, "self_rewarding": None})
    cost.keep(tmp_path / "costs.json", said, {"dpo": {"ratio": 2.25, "seconds": 171.0}})
    monkeypatch.setattr(page, "COSTS", tmp_path / "costs.json")
    lines = page.page().split("\n")
    (dpo,), (refused,) = ([row for row in lines if row.startswith(f"| `{n}` |")] for n in ("dpo", "self_rewarding"))
    assert dpo.endswith("| 2.2 | 171 |") and refused.endswith("| refused |  |")
    assert any(row.startswith("| `sft` |") and "| 1.0 |" in row for row in lines), "the second call keeps the first's"
    cost.keep(tmp_path / "costs.json", said | {"cores": 4}, {"dpo": {"ratio": 2.25, "seconds": 171.0}})
    assert "1.0" not in page.page().split("## Supervised")[0], "what was measured elsewhere is not mixed in"
