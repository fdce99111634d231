"""The OpenAI-compatible engine: against llama.cpp's own server with the real student, and against vLLM's and SGLang's
protocols over the 2-layer student (vllm_server.py)."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import Event
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from parts import randomized
from vllm_server import Small, served

from kdloop import __main__ as cli
from kdloop import packs
from kdloop.chat.turn import Place, say
from kdloop.methods.lora import trainable_student
from kdloop.settings import Settings
from kdloop.student import AdapterRefused, EngineUnavailable, NoLogprobs, Sampling
from kdloop.student.base import embedded_gguf
from kdloop.student.engines import open_engine
from kdloop.student.gguf import write_adapter
from kdloop.student.llamacpp import LlamaCppEngine
from kdloop.student.servers import Adapter
from kdloop.student.serving import Serving, WrongWeights, check, fingerprint
from storage import checkpoints, conversations, rounds
from storage.conversations import as_prompt
from storage.database import connect, open_database

QUESTIONS = packs.prompts("general", "heldout")
STORY = as_prompt("Tell me a long story about the sea.")
GREEDY = Sampling(16, temperature=0)


def random_adapter(student: str, directory: Path, seed: int = 1, std: float = 0.05) -> Path:
    randomized(trainable_student(student, None, torch.float32, seed=seed), std).save_pretrained(directory)
    return directory


def publish(db, adapter: Path, engine) -> checkpoints.Checkpoint:
    """Publish the adapter as a round would, and promote it."""
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    metrics = {"fingerprint": fingerprint(engine)}

    def save(directory: Path):
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (directory / name).write_bytes((adapter / name).read_bytes())

    candidate = checkpoints.publish(db, round.id, save, parent_id=1, method="dpo", seed=1, metrics=metrics)
    rounds.release_lease(db, "me")
    return checkpoints.promote(db, candidate.id, round.id)


def texts(engine, n=8, sampling=GREEDY, seed=1):
    return [s.text for s in engine.complete(list(map(as_prompt, QUESTIONS[:n])), sampling, list(range(seed, seed + n)))]


def last(stream):
    *growing, end = stream
    assert growing[-1].strip() == end.text and end.first_token_seconds > 0
    return end


# vLLM's and SGLang's protocols


@pytest.fixture(params=["vllm", "sglang"])
def small(request, tiny_student):
    return Small(tiny_student, request.param)


@pytest.fixture
def url(small):
    with served(small) as address:
        yield address


@pytest.fixture
def engine(tiny_student, url):
    return open_engine(Settings(student=tiny_student, engine="openai", engine_url=url))


@pytest.fixture(scope="module")
def tiny_adapter(tiny_student, tmp_path_factory):
    return random_adapter(tiny_student, tmp_path_factory.mktemp("tiny") / "adapter", std=2.0)


def test_completions_and_log_probabilities_are_those_of_the_model_behind_the_server(small, engine):
    assert texts(engine) == texts(small.base)
    assert texts(engine, sampling=Sampling(16)) == texts(small.base, sampling=Sampling(16))
    prompt = as_prompt(QUESTIONS[0])
    for text, end in (("Boil it for seven minutes.", True), ("word " * 140, False), ("", True), ("", False)):
        ours, theirs = (e.logprobs([prompt], [(text, end)])[0] for e in (engine, small.base))
        assert ours == pytest.approx(theirs, abs=1e-4)
    streamed = last(engine.stream(prompt, Sampling(16), 7, Event()))
    (whole,) = small.base.complete([prompt], Sampling(16), [7])
    assert (streamed.text, streamed.status) == (whole.text, whole.status)
    assert (streamed.prompt_tokens, streamed.completion_tokens) == (whole.prompt_tokens, whole.completion_tokens)


def test_a_checkpoint_is_a_name_on_the_server_that_is_loaded_once(small, engine, tiny_adapter):
    adapted = engine.load(tiny_adapter)
    assert small.loaded == [Adapter.of(tiny_adapter).name]
    assert texts(adapted) == texts(small.base.load(tiny_adapter)) != texts(engine)
    again = engine.load(tiny_adapter)  # as another app that shares the server does
    assert texts(again) == texts(adapted) and len(small.loaded) == 1


def test_a_server_that_was_started_again_gets_the_adapter_again(small, engine, tiny_adapter):
    adapted = engine.load(tiny_adapter)
    said, heard = texts(adapted), last(adapted.stream(STORY, GREEDY, 1, Event())).text
    for ask in (lambda: texts(adapted) == said, lambda: last(adapted.stream(STORY, GREEDY, 1, Event())).text == heard):
        small.adapters.clear()
        assert ask()


def test_an_adapters_name_says_what_is_in_it(tiny_student, tiny_adapter, tmp_path):
    other = random_adapter(tiny_student, tmp_path / "other", seed=2)
    assert Adapter.of(tiny_adapter).name != Adapter.of(other).name
    config = json.loads((other / "adapter_config.json").read_text())
    before = Adapter.of(other).name
    (other / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 1}))
    assert Adapter.of(other).name != before


def test_a_promoted_checkpoint_answers_and_one_that_the_server_does_not_take_does_not(
    db, small, engine, tiny_student, tiny_adapter, tmp_path, capsys
):
    serving = Serving(db, lambda: engine)
    first = publish(db, tiny_adapter, small.base.load(tiny_adapter))
    assert serving.current()[1].id == first.id
    small.max_rank = 4
    other = random_adapter(tiny_student, tmp_path / "other", seed=2)
    publish(db, other, small.base.load(other))
    answering, checkpoint = serving.current()
    assert checkpoint.id == first.id and texts(answering) == texts(small.base.load(tiny_adapter))
    assert "greater than max_lora_rank 4" in capsys.readouterr().err
    with pytest.raises(AdapterRefused, match=r"does not exist.*must see this path"):
        engine.server.load(Adapter(tmp_path / "nowhere", "kdloop-0"))


def test_other_weights_under_the_name_are_refused(db, small, engine, tiny_adapter):
    published = publish(db, tiny_adapter, small.base.load(tiny_adapter))
    check(engine.load(tiny_adapter), published)
    other = small.base.load(None)
    other.model.get_output_embeddings().weight.mul_(30)  # a random head says nearly the same of all hidden states
    small.adapters[Adapter.of(tiny_adapter).name] = other
    with pytest.raises(WrongWeights):
        check(engine.load(tiny_adapter), published)


def test_a_server_without_log_probabilities_is_said_so_and_no_checkpoint_is_taken_unproven(
    db, small, engine, tiny_adapter, capsys
):
    published = publish(db, tiny_adapter, small.base.load(tiny_adapter))
    small.scores = False
    with pytest.raises(NoLogprobs, match="log-probabilities of 0 of 4 tokens"):
        engine.logprobs([STORY], [("The sea.", True)])
    assert Serving(db, lambda: engine).current()[1].version == 0
    assert f"v0 answers instead of {published.name}" in capsys.readouterr().err


def test_the_engine_needs_a_known_server_that_answers(tiny_student):
    settings = Settings(student=tiny_student, engine="openai")
    with pytest.raises(ValueError, match="KDLOOP_ENGINE_URL"):
        open_engine(settings)
    refused = pytest.raises(EngineUnavailable, match="is nobody-knows's; there are: vllm, sglang, llamacpp")
    with served(Small(tiny_student, "nobody-knows")) as address, refused:
        open_engine(replace(settings, engine_url=address))
    with pytest.raises(EngineUnavailable, match="APIConnectionError"):
        open_engine(replace(settings, engine_url=address))  # it was closed


def test_a_reply_that_the_server_breaks_off_is_no_completion(small, engine):
    small.breaks_off = True
    with pytest.raises(EngineUnavailable, match="broke off"):
        list(engine.stream(STORY, GREEDY, 1, Event()))


def test_a_server_that_fails_leaves_no_completion_and_the_person_is_told(tmp_path, tiny_student):
    settings = Settings(home=tmp_path, student=tiny_student, engine="openai")
    checkpoints.ensure_base(open_database(settings.db))
    with served(Small(tiny_student, "vllm")) as address:
        serving = Serving(settings.db, lambda: open_engine(replace(settings, engine_url=address)))
    serving.base.server.client.max_retries = 0
    conversation = conversations.start_conversation(settings.db, "ann")
    with pytest.raises(ValueError, match="server does not answer"):
        list(say(settings, serving, Place(conversation), "ann", "Hello?", Event()))
    with connect(settings.db) as c:
        assert [tuple(r) for r in c.execute("select text, status from completions")] == [("", "failed")]


# llama.cpp's own server, the real student


@pytest.fixture(scope="module")
def adapter(student_home, tmp_path_factory):
    return random_adapter(str(student_home / "student"), tmp_path_factory.mktemp("real") / "adapter")


def llama_server(lora: Path | None = None):
    """llama.cpp's server with the embedded student. It runs until the object is let go."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(embedded_gguf(""))
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora), 1.0)] if lora else []
    params.lora_init_without_apply = params.endpoint_slots = True
    params.n_ctx, params.n_parallel, params.verbosity = 4096, 4, -1
    return xllamacpp.Server(params)


def engine_of(server, home: Path):
    url = f"{server.listening_address}/v1"
    return open_engine(Settings(home=home, engine="openai", engine_url=url, engine_at_once=4))


def of_our_own(home: Path):
    return LlamaCppEngine(str(home / "student"), embedded_gguf(""), 1024, 4)


@pytest.fixture(scope="module")
def server(student_home, adapter, tmp_path_factory):
    file = tmp_path_factory.mktemp("gguf") / f"{Adapter.of(adapter).name}.gguf"
    return llama_server(write_adapter(adapter, student_home / "student", file))


@pytest.fixture(scope="module")
def remote(student_home, server):
    return engine_of(server, student_home)


@pytest.fixture(scope="module")
def here(student_home):
    """The same GGUF in the engine that starts its own server."""
    return of_our_own(student_home)


@pytest.fixture
def just_started(student_home):
    """A server, and the engine that starts its own, with the same GGUF. They agree to the last bit where both read one
    text at a time: what is decoded beside it, and what a slot keeps from before, change the rounding."""
    server = llama_server()
    yield engine_of(server, student_home), of_our_own(student_home)


@pytest.mark.slow
def test_llama_server_says_what_the_engine_of_llama_cpp_says(just_started, remote):
    said, same = ([e.complete([as_prompt(q)], GREEDY, [1])[0].text for q in QUESTIONS[:8]] for e in just_started)
    assert said == same
    one, two = (last(e.stream(STORY, Sampling(24), 5, Event())) for e in just_started)
    assert (one.text, one.status, one.completion_tokens) == (two.text, two.status, two.completion_tokens)
    again, other = (last(just_started[0].stream(STORY, Sampling(24), seed, Event())).text for seed in (5, 6))
    assert one.text == again != other
    assert sum(a == b for a, b in zip(said, texts(remote), strict=True)) >= 5  # of 8, four at once


@pytest.mark.slow
def test_llama_server_scores_as_the_engine_of_llama_cpp_does(just_started):
    completions = [("Boil it for seven minutes.", True), ("I would not, zebra 7!", False), ("", True), ("", False)]
    asked = [([as_prompt(q)], [said]) for q, said in zip(QUESTIONS, completions, strict=False)]
    theirs, ours = ([e.logprobs(*one)[0] for one in asked] for e in just_started)
    assert ours == theirs and list(map(len, ours)) == [8, 8, 1, 0]


@pytest.mark.slow
def test_a_request_says_which_adapter_it_wants(remote, here, adapter):
    adapted = remote.load(adapter)
    before = texts(remote)
    with ThreadPoolExecutor(2) as both:
        base, lora = both.map(texts, (remote, adapted))
    assert sum(a == b for a, b in zip(base, before, strict=True)) >= 5
    assert sum(a == b for a, b in zip(lora, texts(here.load(adapter)), strict=True)) >= 5
    assert sum(a == b for a, b in zip(lora, base, strict=True)) <= 1
    distance = np.abs(np.subtract(fingerprint(adapted), fingerprint(here.load(adapter)))).mean()
    assert distance < 0.2 < np.abs(np.subtract(fingerprint(adapted), fingerprint(remote))).mean()


@pytest.mark.slow
def test_an_adapter_that_the_server_was_not_started_with_is_refused_and_written_by_a_command(
    tmp_path, monkeypatch, capsys, student_home, remote, here, adapter
):
    db = open_database(tmp_path / "kdloop.db")
    checkpoints.ensure_base(db)
    (tmp_path / "student").symlink_to(student_home / "student")
    other = random_adapter(str(student_home / "student"), tmp_path / "other", seed=2)
    published = publish(db, other, here.load(other))
    assert (
        Serving(db, lambda: remote).current()[1].version == 0 and "python -m kdloop adapter" in capsys.readouterr().err
    )
    monkeypatch.setenv("KDLOOP_HOME", str(tmp_path))
    assert cli.main(["adapter", "--out", str(tmp_path / "out")]) == 0
    (written,) = (tmp_path / "out").iterdir()
    assert written.stem == Adapter.of(checkpoints.adapter_dir(db, published)).name


@pytest.mark.slow
def test_stop_and_leaving_close_the_request_and_free_the_servers_slot(remote, server):
    """Another reply is the clock: before it has a few tokens more, the server writes that one alone."""
    stop, seen = Event(), []
    for piece in remote.stream(STORY, Sampling(900), 1, stop):
        seen.append(piece)
        if len(seen) == 3:
            stop.set()
    assert seen[-1].status == "stopped" and 0 < seen[-1].completion_tokens <= 6
    left = remote.stream(STORY, Sampling(900), 2, Event())
    next(left)
    left.close()
    another = remote.stream(STORY, Sampling(40), 3, Event())
    assert any(busy(server) == 1 for _ in islice(another, 30)), "what nobody listens to is still written"


def busy(server) -> int:
    return sum(slot["is_processing"] for slot in json.loads(urlopen(f"{server.listening_address}/slots").read()))


@pytest.mark.slow
def test_several_people_are_answered_at_the_same_time(remote):
    def talk(i):
        return last(remote.stream(as_prompt(QUESTIONS[i]), Sampling(32), i, Event()))

    with ThreadPoolExecutor(4) as people:
        together = list(people.map(talk, range(4)))
    assert len({s.text for s in together}) == 4
    assert max(s.first_token_seconds for s in together) < min(s.seconds for s in together)
