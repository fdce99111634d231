"""`bench gate`: it goes on where it was killed, its modelled candidates are what it says, its bad ones are blocked."""

import numpy as np
import pytest

from kdloop.evaluation.bench import camps, cells, gate, gate_candidates, gate_raters
from kdloop.evaluation.bench.gate_pool import Pool
from kdloop.feedback.examples import Split
from kdloop.raters.preference_model import fit
from kdloop.student import Sample


def pool(prompts=30, texts=4):
    draw = np.random.default_rng(1)
    words = ["sky", "sea", "tree", "house", "light", "rain", "road", "bread", "river", "stone"]

    def sample() -> Sample:
        text = " ".join(draw.choice(words, draw.integers(3, 40))) + "."
        return Sample(text, "finished", 1, 1, 0.0, 0.0)

    return Pool(
        [f"What about {i}?" for i in range(prompts)], [[sample() for _ in range(texts)] for _ in range(prompts)]
    )


def test_a_killed_bench_goes_on_where_it_was(tmp_path):
    asked, path = [], tmp_path / "bench" / "cells.jsonl"

    def cell(name):
        return lambda seed: asked.append((name, seed)) or {"stage": "judge"}

    rows = {name: cell(name) for name in ("a", "b")}
    cells.run(rows, [1], path)
    path.write_bytes(path.read_bytes()[:-9])  # killed while it wrote the second one
    cells.run(rows, [1, 2], path)
    assert asked == [("a", 1), ("b", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert set(cells.done(path)) == {("a", 1), ("b", 1), ("a", 2), ("b", 2)}
    cells.run(rows, [1, 2], path)
    assert len(asked) == 5


def test_a_rows_whole_name_asks_for_it_alone():
    names = ("concise", "concise, 20 % flips", "verbose")

    def chosen(*asked):
        return list(cells.chosen({name: lambda seed: {} for name in names}, [*asked]))

    assert chosen("concise") == ["concise"] and chosen("") == [*names]
    assert chosen("concise,", "verbose") == [*names[1:]] and chosen() == []


def test_the_tables_say_where_rounds_ended_and_are_written_between_their_marks(tmp_path):
    refused = {"row": "coins", "seed": 1, "stage": "before training", "why": ""}
    promoted = {"row": "coins", "seed": 2, "stage": "promoted", "gate": 0.8, "true": 0.7, "why": ""}
    blocked = {"row": "bad: noise", "seed": 1, "stage": "judge", "guards": ["entropy"], "true": 0.2, "why": ""}
    passes = {"row": "bad: noise", "seed": 2, "stage": "judge", "guards": [], "true": 0.4, "why": ""}
    passes |= {"trial": {"outcome": "rolled back", "compared": 9}}
    line = {"row": "in a row: coins", "seed": 1, "rounds": [refused, promoted | {"true": 0.4}]}
    text = gate.tables([refused, promoted, blocked, passes, line])
    assert "| coins | 2 | 1 | 0 | 0 | 0 | 0.500 (" in text and "| 0.60 ± 0.10 | 0.70 | 0.10 |" in text
    assert "| noise | 2 | 2 | 0 | 0 | entropy (1) | 1 | rolled back 1, after at most 9 | 0.30 |" in text
    assert "| coins | 1 | 1, 0, 0, 0 | 1 | 1.000 (" in text
    page = tmp_path / "page.md"
    page.write_text(f"before\n{gate.MARKS[0]}old\n{gate.MARKS[1]}after\n", encoding="utf-8")
    for _ in range(2):
        cells.write_page(page, text, gate.MARKS)
    said = page.read_text(encoding="utf-8")
    assert said.startswith("before\n") and said.endswith("after\n") and "old" not in said and said.count(text) == 1
    with pytest.raises(ValueError, match="no place"):
        page.write_text("nothing")
        cells.write_page(page, text, gate.MARKS)


def test_a_modelled_candidates_true_win_rate_is_that_of_its_draws():
    known, rng = pool(), np.random.default_rng(2)
    values = known.within(rng.normal(size=len(known.samples)))
    old, new = known.tilted(values, 0.0), known.tilted(values, 1.5)
    candidate = gate_raters.Candidate(new, old, values)
    raters = gate_raters.Raters("", (gate_raters.Group("t", 3), gate_raters.Group("u", 1, busy=True)))
    said = candidate.true_win_rate(raters, known, {"t": values, "u": -values}, range(30))
    drawn = candidate.draw(known, rng.choice(30, 4000), rng)
    wins = [gate_raters.said("t", values, *pair, 0.0, rng) for pair in drawn]
    assert said == pytest.approx(np.mean(wins), abs=0.03) and said > 0.65, "and who floods decides nothing"
    assert candidate.true_win_rate(raters, known, {"t": -values}, range(30)) == pytest.approx(1 - said)
    equal = gate_raters.Candidate(old, old, values)
    assert equal.true_win_rate(raters, known, {"t": values}, range(30)) == pytest.approx(0.5)


def test_votes_are_split_as_stored_ones_and_a_taste_is_learned_through_all_stages():
    known, rng = pool(40), np.random.default_rng(3)
    liked = {"concise": known.within(known.rated(lambda q, text: -len(text.split()))), "verbose": np.zeros(160)}
    votes = gate_raters.voted(gate_raters.ROWS[0], known, liked, np.arange(40), 80, rng)
    assert all(liked["concise"][int(e.chosen.id)] > liked["concise"][int(e.rejected.id)] for e in votes)
    assert 25 < sum(e.held_out for e in votes) < 55 and len({e.rater for e in votes}) == 8
    assert {e.conversation for e in votes if e.held_out}.isdisjoint(e.conversation for e in votes if not e.held_out)
    found = gate_raters.cell(gate_raters.ROWS[0], 1, known, liked)
    assert found["stage"] in gate.STAGES[1:] and found["true"] > 0.7


def test_a_broken_candidate_is_blocked_even_where_the_judge_is_fooled(tiny_student, tmp_path):
    bench = gate_candidates.Bench(tmp_path, tiny_student, pool())
    votes = gate_raters.voted(
        gate_raters.ROWS[0], bench.pool, {"concise": np.arange(120.0)}, np.arange(30), 24, np.random.default_rng(4)
    )
    bench.votes = Split([e for e in votes if not e.held_out], [e for e in votes if e.held_out])
    bench.rater = fit(bench.votes.train, bench.votes.held_out)
    found = gate_candidates.cell("NaN", 2, bench)
    assert found["stage"] in ("judge", "guard", "crash") and found["guards"]


def test_camps_are_counted_and_who_is_in_the_wrong_one(monkeypatch):
    monkeypatch.setattr(camps, "VOTES", (8, 40))
    known = pool(40)
    liked = {"concise": known.within(known.rated(lambda q, text: -len(text.split())))}
    two = gate_raters.Raters("two", (gate_raters.Group("concise", 1), gate_raters.Group("verbose", 1)))
    found = camps.cell(two, 1, known, liked | {"verbose": -liked["concise"]})
    assert found["8"] is None and sorted(found["40"]) == [["concise"], ["verbose"]]
    other = {"8": None, "40": [["concise", "concise", "verbose"], ["verbose"]]}
    (*_, row) = camps.table([{"row": "two"} | found, {"row": "two"} | other]).splitlines()
    assert row.startswith("| two | 0.000 (") and "| 1.000 (" in row and row.endswith("| 1 of 6 |")
