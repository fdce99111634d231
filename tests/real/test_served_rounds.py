"""Rounds whose student is sampled by a server with vLLM's or SGLang's protocol (vllm_server.py), and scored here."""

from dataclasses import replace
from threading import Event

import pytest
from parts import vote
from test_openai_engine import GREEDY, QUESTIONS, random_adapter, texts
from vllm_server import Small, served

from kdloop.recipes import VOTES
from kdloop.rounds.run import run
from kdloop.rounds.setup import untrained_student
from kdloop.settings import Settings
from kdloop.student import AdapterRefused, EngineUnavailable, Sampling
from kdloop.student.remote import RemoteSampling
from kdloop.student.servers import Adapter
from kdloop.student.serving import WrongWeights
from kdloop.student.transformers import TransformersEngine
from storage import checkpoints, rounds
from storage.conversations import as_prompt
from storage.database import connect, open_database

pytestmark = pytest.mark.usefixtures("fp32")  # as `Small`


@pytest.fixture(params=["vllm", "sglang"])
def small(request, tiny_student):
    return Small(tiny_student, request.param)


def settings_of(home, student: str, url: str = "", **values) -> Settings:
    served_by = {"engine": "openai", "engine_url": url} if url else {}
    return Settings(home=home, student=student, round_max_tokens=12, gate_prompts=8, **served_by | values)


def voted_round(settings: Settings, **values) -> rounds.Round:
    """A queued round of people's votes and, unless `values` of its recipe say otherwise, of the preference model's."""
    checkpoints.ensure_base(open_database(settings.db))
    vote(settings.db, 60)
    recipe = replace(VOTES, prompts=2, passes=4, **values).as_dict()
    return rounds.start_round(settings.db, requested="dpo", seed=3, started_by="test", owner="me", recipe=recipe)


def written(db) -> list[str]:
    """Completions that are not of the votes."""
    with connect(db) as c:
        theirs = "select text from completions where text not like 'Well, let me%' and text != 'Yes, gladly.'"
        return [text for (text,) in c.execute(theirs)]


def test_a_round_by_the_server_is_the_round_by_transformers(byte_student, tmp_path):
    """The same seeds, so the same completions, step size and verdict; and the server is left as it was. (What is
    elicited has seeds of more than the 32 bits that servers take.)"""
    small, ended = Small(byte_student, "vllm"), {}
    with served(small) as url:
        for where, address in (("here", ""), ("there", url)):
            settings = settings_of(tmp_path / where, byte_student, address, engine_at_once=5)
            begun = voted_round(settings, knowledge=())
            run(settings, begun)
            ended[where] = rounds.get_round(settings.db, begun.id)
    here, there = ended["here"], ended["there"]
    assert here.status == there.status in ("promoted", "on trial", "rejected"), there.error
    for verdict in (here.verdict, there.verdict):  # by the ids of votes, which are others in each home
        verdict["drift"]["pairs"] = [*verdict["drift"]["pairs"].values()]
    assert there.verdict["n"] and there.verdict == here.verdict
    assert there.metrics["step scale"] == here.metrics["step scale"]
    assert small.completed["student"] >= 8 + 12, "anchors, and the gate's completions of the base"
    assert sum(n for name, n in small.completed.items() if name != "student") >= 2 * 8, "style, and the candidate's"
    assert len(small.loaded) >= 2 and not small.adapters
    assert 2 <= small.most_at_once <= 5
    assert [p.name for p in (tmp_path / "there" / "checkpoints").iterdir()] == ["000001"]


@pytest.fixture
def student(small, tiny_student, tmp_path):
    """The round's untrained student, sampled by `small`."""
    with served(small) as url, untrained_student(settings_of(tmp_path, tiny_student, url)) as engine:
        yield engine


def test_it_is_sampled_there_and_scored_here(small, student, tiny_student, tmp_path):
    local = TransformersEngine(tiny_student, dtype=student.dtype)
    adapter = random_adapter(tiny_student, tmp_path / "adapter", std=2.0)
    for ours, theirs in ((student, local), (student.load(adapter), local.load(adapter))):
        assert texts(ours) == texts(theirs)
        assert texts(ours, 32, Sampling(8), seed=9) == texts(theirs, 32, Sampling(8), seed=9)
        streamed = list(ours.stream(as_prompt(QUESTIONS[0]), GREEDY, 1, Event()))[-1]
        assert streamed.text == texts(theirs, 1)[0]
        small.scores = False
        assert ours.logprobs([as_prompt(QUESTIONS[0])], [("By train, mostly.", True)])[0]
        small.scores = True
    assert small.completed.total() == 2 * (8 + 32 + 1)


def test_an_adapter_of_another_client_stays_on_the_server(small, tiny_student, tmp_path):
    theirs, ours = (random_adapter(tiny_student, tmp_path / str(n), seed=n, std=2.0) for n in (1, 2))
    with served(small) as url:
        settings = settings_of(tmp_path, tiny_student, url)
        small.load({"lora_name": Adapter.of(theirs).name, "lora_path": str(theirs)})
        with untrained_student(settings) as engine:
            assert len({*map(tuple, (texts(engine.load(a)) for a in (theirs, ours, None)))}) == 3
            assert len(small.adapters) == 2
        assert set(small.adapters) == {Adapter.of(theirs).name}


def test_a_server_of_another_model_is_refused_before_anything_is_elicited(tiny_teacher, tiny_student, tmp_path):
    with served(Small(tiny_teacher, "vllm")) as url:
        settings = settings_of(tmp_path, tiny_student, url)
        begun = voted_round(settings)
        with pytest.raises(WrongWeights, match="serve the model that KDLOOP_STUDENT names"):
            run(settings, begun)
    assert not written(settings.db)


def test_other_weights_under_the_candidates_name_are_never_sampled(small, student, tiny_student, tmp_path):
    adapter = random_adapter(tiny_student, tmp_path / "adapter", std=2.0)
    small.adapters[Adapter.of(adapter).name] = other = small.base.load(None)
    other.model.get_output_embeddings().weight.mul_(30)
    with pytest.raises(WrongWeights):
        texts(student.load(adapter))
    assert not small.completed


@pytest.mark.parametrize("during", ["eliciting", "training", "gating"])
def test_a_server_that_dies_fails_the_round_in_words_and_writes_no_completion(byte_student, tmp_path, during):
    """While training: as the size of the step is looked for."""
    small = Small(byte_student, "vllm")
    with served(small) as url:
        settings = settings_of(tmp_path, byte_student, url)
        begun = voted_round(settings)
        small.is_dead = lambda done: rounds.get_round(settings.db, begun.id).status == during
        with pytest.raises(EngineUnavailable, match=r"The student's server does not answer .*engine is dead"):
            run(settings, begun)
    assert not any("dead" in text for text in written(settings.db))
    assert rounds.get_round(settings.db, begun.id).status == during


def test_a_server_that_does_not_take_the_candidate_says_so(small, student, tiny_student, tmp_path):
    small.max_rank = 4
    with pytest.raises(AdapterRefused, match="greater than max_lora_rank 4"):
        texts(student.load(random_adapter(tiny_student, tmp_path / "adapter")))


def test_beside_a_llama_server_a_round_samples_with_transformers(tiny_student, tmp_path, capsys):
    small = Small(tiny_student, "llamacpp")
    with served(small) as url, untrained_student(settings_of(tmp_path, tiny_student, url)) as engine:
        assert texts(engine, 2) and not isinstance(engine, RemoteSampling)
    assert "takes adapters at its start only" in capsys.readouterr().out and not small.completed
