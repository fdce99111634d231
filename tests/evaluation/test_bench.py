"""The bench's machinery, on databases made small. Its numbers are for quiet machines: docs/log.md."""

import json
from dataclasses import replace

import pytest

from kdloop.__main__ import main
from kdloop.evaluation import bench
from kdloop.evaluation.bench import Figure, chatting, data, figures, raters, rounds, sampling
from kdloop.evaluation.bench.generate import generate
from kdloop.evaluation.bench.gpu_sections import common_prefix
from kdloop.student import Sampling
from kdloop.student.transformers import TransformersEngine


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


def test_without_a_gpu_its_bench_says_so_in_a_sentence(capsys):
    assert main(["bench", "gpu"]) == 2
    assert capsys.readouterr().out.startswith("No GPU: PyTorch")
    with pytest.raises(SystemExit):
        main(["bench", "gpu", "speed"])
    assert "there are: round, sampling" in capsys.readouterr().err


@pytest.mark.parametrize(("a", "b", "share"), [("", "", 1), ("", "ab", 0), ("abcd", "abXd", 0.5), ("ab", "abcd", 0.5)])
def test_equal_texts_agree_wholly_even_empty_ones(a, b, share):
    assert common_prefix(a, b) == common_prefix(b, a) == share


@pytest.mark.slow
def test_what_people_notice_of_a_round_is_measured_while_it_trains(tiny_student, monkeypatch, capsys):
    monkeypatch.setenv("KDLOOP_STUDENT", tiny_student)
    for name, small in {"SYNTHETIC_VOTES": 200, "REPLIES": 3, "PAUSE": 0.1, "WRITERS": 4, "VOTES": 5}.items():
        monkeypatch.setattr(chatting, name, small)
    monkeypatch.setattr(chatting, "ROUND", replace(chatting.ROUND, examples=200, passes=300))
    bench.run(["votes", "chatting", "swap"], None)
    said = capsys.readouterr().out
    assert "vote p99, 4 writers and a round (0 of 20 lost)" in said and "(0 of 12 replies failed)" in said
    assert "first token during a round" in said and "decode during a round" in said


@pytest.mark.slow
def test_sampling_is_compared_with_generate_on_the_same_prompts(tiny_student, monkeypatch):
    monkeypatch.setenv("KDLOOP_STUDENT", tiny_student)
    monkeypatch.setenv("KDLOOP_ROUND_MAX_TOKENS", "16")
    monkeypatch.setattr(sampling, "PROMPTS", 2)
    engine = TransformersEngine(tiny_student)
    asked = sampling.prompts(3)
    assert len(asked) == 2 * sampling.N
    for how in (Sampling(16), Sampling(16, temperature=0)):
        ids = generate(engine.model, engine.tokenizer, asked, how)
        assert len(ids) == len(asked) and 0 < ids.size(1) <= 16
    [figure] = sampling.sampling()
    assert figure.ours > 0 and figure.baseline > 0 and figure.bar == ">= 1.3"


@pytest.mark.slow
def test_both_halves_of_a_round_do_the_same_work(tiny_student, tmp_path, monkeypatch):
    for name, small in {"PROMPTS": 2, "HELD_OUT": 2}.items():
        monkeypatch.setattr(rounds, name, small)
    pairs = [{"prompt": f"On {i}?", "chosen": f"Take {i}.", "rejected": f"It is {i}, or not."} for i in range(8)]
    path = tmp_path / "job.json"
    path.write_text(json.dumps(rounds.job(tiny_student, 8, pairs)))
    ours, plain = (rounds.measured(f"kdloop.evaluation.bench.{half}", path) for half in ("rounds", "plain_trl"))
    assert ours.keys() == plain.keys() == {*rounds.PHASES, "loss"} and min(*ours.values(), *plain.values()) > 0
    assert ours["loss"] == pytest.approx(plain["loss"], rel=0.02)
