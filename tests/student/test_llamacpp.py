"""The llama.cpp engine against the transformers one, on the real student.

Over Q4_1 weights llama.cpp rounds activations to 8 bits, which changes near-ties: what must be equal to the token is
therefore compared over the same weights written as 16-bit floats, where nothing is rounded so.
"""

import gc
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread, Timer

import gguf
import numpy as np
import pytest
import torch
from openai import OpenAI
from parts import randomized

from kdloop import packs
from kdloop.chat import turn
from kdloop.methods.lora import trainable_student
from kdloop.settings import Settings
from kdloop.student import EngineUnavailable, Sampling
from kdloop.student.base import embedded_gguf
from kdloop.student.engines import chosen, open_engine
from kdloop.student.gguf import NotConvertible, write_adapter
from kdloop.student.llamacpp import LlamaCppEngine
from kdloop.student.serving import Serving, WrongWeights, check, fingerprint
from kdloop.student.transformers import TransformersEngine
from storage import checkpoints, conversations, rounds
from storage.conversations import as_prompt
from storage.database import open_database

pytestmark = pytest.mark.slow
QUESTIONS = packs.prompts("general", "heldout")
STORY = as_prompt("Tell me a long story about the sea.")


@pytest.fixture(scope="module")
def llama(student_home):
    return open_engine(Settings(home=student_home, engine="llamacpp"))


@pytest.fixture(scope="module")
def reference(student_home):
    """In fp32: what llama.cpp is compared with must not round more than it does."""
    return TransformersEngine(str(student_home / "student"), dtype=torch.float32)


@pytest.fixture(scope="module")
def exact(student_home, tmp_path_factory):
    """The engine over the embedded GGUF with its weights as 16-bit floats."""
    file = tmp_path_factory.mktemp("exact") / "F16.gguf"
    read, write = gguf.GGUFReader(embedded_gguf("")), gguf.GGUFWriter(file, "llama")
    for key, field in read.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kind, *sub = field.types[0], *field.types[1:][-1:]
            write.add_key_value(key, field.contents(), kind, *sub)
    for t in read.tensors:
        weights = gguf.quants.dequantize(t.data, t.tensor_type)
        write.add_tensor(t.name, weights.astype(np.float16) if weights.ndim > 1 else weights)
    for part in (write.write_header_to_file, write.write_kv_data_to_file, write.write_tensors_to_file, write.close):
        part()
    return LlamaCppEngine(str(student_home / "student"), file, 512, 4)


@pytest.fixture(scope="module")
def adapter(student_home, tmp_path_factory):
    """A LoRA adapter of random weights, strong enough to change what the student says."""
    directory = tmp_path_factory.mktemp("adapter")
    model = trainable_student(str(student_home / "student"), None, torch.float32, seed=1)
    randomized(model, 0.05).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def adapted(llama, adapter):
    return llama.load(adapter)


def greedy(engine, n, tokens=24):
    return [
        s.text for s in engine.complete(list(map(as_prompt, QUESTIONS[:n])), Sampling(tokens, temperature=0), [1] * n)
    ]


def test_an_engine_is_chosen_by_name(student_home):
    settings = Settings(home=student_home)
    with pytest.raises(ValueError, match="there are: transformers, llamacpp"):
        open_engine(replace(settings, engine="vllm"))


def test_llamacpp_answers_where_nobody_chose_and_there_is_a_gguf_and_no_gpu(student_home, llama, monkeypatch):
    settings = Settings(home=student_home)
    assert chosen(settings) == llama.name and chosen(replace(settings, engine="transformers")) == "transformers"
    assert chosen(replace(settings, student=str(student_home / "student"))) == "transformers", "it would need a file"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen(settings) == "transformers"


def test_greedy_texts_are_those_of_transformers(exact, reference):
    ours, theirs = greedy(exact, 10), greedy(reference, 10)
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= 9


def test_an_adapter_says_what_peft_says_and_not_what_the_base_says(exact, reference, adapter):
    ours, theirs = greedy(exact.load(adapter), 4), greedy(reference.load(adapter), 4)
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= 3
    assert sum(a == b for a, b in zip(ours, greedy(exact, 4), strict=True)) <= 1


def test_log_probabilities_are_those_of_transformers_token_by_token(exact, llama, reference):
    prompts = list(map(as_prompt, QUESTIONS[:4]))
    completions = [("Boil it for seven minutes.", True), ("I would not, zebra 7!", False), ("", True), ("", False)]
    ours, theirs = exact.logprobs(prompts, completions), reference.logprobs(prompts, completions)
    assert list(map(len, ours)) == list(map(len, theirs)) and ours[3] == []
    assert np.abs(np.concatenate(ours) - np.concatenate(theirs)).max() < 0.05
    own = [s.said for s in reference.complete(prompts, Sampling(24, temperature=0), [1] * 4)]
    rounded, theirs = llama.logprobs(prompts, own), reference.logprobs(prompts, own)
    assert np.abs(np.concatenate(rounded) - np.concatenate(theirs)).mean() < 0.08


@pytest.mark.parametrize(
    "text", ["Sure! 😀", "a\0b 😀", "😀😀 ok €", "สวัสดีครับ", "水は高い所から流れる。", "a" * 90 + "你好吗" * 20 + "!"]
)
def test_characters_of_several_tokens_are_scored_token_by_token(exact, reference, text):
    """llama.cpp lists a token only where no character is half there, and its grammar fails on a NUL; the last text is
    longer than one request."""
    prompt = as_prompt(QUESTIONS[0])
    for said in ((text, True), (text, False)):
        (ours,), (theirs,) = (engine.logprobs([prompt], [said]) for engine in (exact, reference))
        assert len(ours) == len(exact.template.completion_ids(*said))
        assert np.abs(np.subtract(ours, theirs)).max() < 0.05


def test_a_seed_repeats_a_completion_streamed_or_not_and_another_does_not(exact):
    """Nearly always: what else is decoded at the time changes the rounding, and so a near-tie here and there. With
    4-bit weights, whose activations are rounded to 8 bits, it is 7 to 11 of 12."""
    prompts, sampling = list(map(as_prompt, QUESTIONS[:8])), Sampling(12, temperature=0.8)
    batch, others = (exact.complete(prompts, sampling, list(range(at, at + 8))) for at in (0, 100))
    streamed = [last(exact.stream(prompt, sampling, i, Event())) for i, prompt in enumerate(prompts)]
    assert sum(a.text == b.text for a, b in zip(batch, streamed, strict=True)) >= 6
    assert sum(a.text == b.text for a, b in zip(batch, others, strict=True)) <= 2


def test_asked_for_one_text_at_a_time_the_student_with_4_bit_weights_repeats_itself(llama):
    prompts, sampling = list(map(as_prompt, QUESTIONS[:4])), Sampling(24, temperature=0.8)
    first, again = (
        [engine.complete([p], sampling, [i])[0].text for i, p in enumerate(prompts)]
        for engine in (llama.load(None), llama.load(None))
    )
    assert first == again and len(set(first)) == 4


def last(stream):
    *growing, end = stream
    assert growing[-1].strip() == end.text and end.first_token_seconds > 0
    return end


def test_a_completion_is_finished_or_cut_and_counts_its_tokens(llama, reference):
    (short,), (long,) = (llama.complete([as_prompt("Say yes.")], Sampling(n, temperature=0), [1]) for n in (200, 3))
    assert short.status == "finished" and (long.status, long.completion_tokens) == ("cut", 3)
    assert short.completion_tokens == len(reference.tokenizer(short.text)["input_ids"])


def test_stop_ends_the_stream_within_two_tokens_and_frees_its_slot(llama):
    stop, seen = Event(), []
    for piece in llama.stream(STORY, Sampling(400), 1, stop):
        seen.append(piece)
        if len(seen) == 3:
            stop.set()
    assert seen[-1].status == "stopped" and seen[-1].completion_tokens <= 5
    for _ in range(2 * llama.at_once):
        reply = llama.stream(STORY, Sampling(400), 1, Event())
        next(reply)
        reply.close()
    assert llama.complete([as_prompt("Say yes.")], Sampling(8), [1])[0].text


def test_four_people_are_answered_at_the_same_time(llama):
    def talk(i):
        return last(llama.stream(as_prompt(QUESTIONS[i]), Sampling(32, temperature=0.8), i, Event()))

    with ThreadPoolExecutor(4) as people:
        together = list(people.map(talk, range(4)))
    assert len({s.text for s in together}) == 4 and all(s.status in ("finished", "cut") for s in together)
    assert max(s.first_token_seconds for s in together) < min(s.seconds for s in together), (
        "nobody waits for another's end"
    )


def test_a_swap_leaves_the_reply_in_flight_alone(tmp_path, llama, reference, adapter):
    settings = Settings(home=tmp_path, max_tokens=60)
    checkpoints.ensure_base(open_database(settings.db))
    serving = Serving(settings.db, lambda: llama)
    before = say(settings, serving)
    first = next(before)
    promote(settings.db, adapter, reference)
    loading = Thread(target=serving.current)
    loading.start()
    *_, end = before
    loading.join()
    assert first.checkpoint.version == end.checkpoint.version == 0 and end.status in ("finished", "cut")
    *_, after = say(settings, serving)
    assert after.checkpoint.version == 1 and after.text
    assert serving.current()[0].logprobs([STORY], [("The sea.", True)]) != llama.logprobs([STORY], [("The sea.", True)])


def test_this_process_goes_on_while_another_engine_starts(llama):
    """xllamacpp holds Python's lock while it loads: started here, this thread would not come to its second look."""
    starting, looks = Thread(target=llama.load, args=(None,)), 0
    starting.start()
    while starting.is_alive():
        looks += 1
        time.sleep(0.01)
    assert looks > 10


def test_a_server_that_died_breaks_its_reply_off_and_is_started_again(llama, adapter):
    engine = llama.load(adapter)
    (before,) = greedy(engine, 1)
    reply = engine.stream(STORY, Sampling(400), 1, Event())
    next(reply)
    engine.server.child.kill()
    with pytest.raises(EngineUnavailable, match="Try again"):
        list(reply)
    assert greedy(engine, 1) == [before], "with its adapter"


def test_a_server_that_is_about_to_be_gone_is_started_again(llama):
    """The system closes the connections of a killed process before it tells that the process ended."""
    engine = llama.load(None)
    (before,) = greedy(engine, 1)
    engine.server.connected = OpenAI(base_url="http://127.0.0.1:9/v1", api_key="nobody listens there")
    Timer(0.1, engine.server.child.kill).start()
    assert greedy(engine, 1) == [before]


def test_a_server_ends_with_its_engine_and_with_this_process(llama):
    let_go, orphan = llama.load(None), llama.load(None)
    child = let_go.server.child
    del let_go
    gc.collect()
    assert child.poll() is not None
    orphan.server.child.stdin.close()  # as the system does when this process ends, however it does
    assert orphan.server.child.wait(20) == 0


def say(settings, serving):
    conversation = conversations.start_conversation(settings.db, "ann")
    return turn.say(settings, serving, turn.Place(conversation), "ann", "Tell me a story", Event())


def promote(db, adapter, engine):
    """Publish the adapter as a round would, and promote it."""
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    metrics = {"fingerprint": fingerprint(engine.load(adapter))}

    def save(directory: Path):
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (directory / name).write_bytes((adapter / name).read_bytes())

    candidate = checkpoints.publish(db, round.id, save, parent_id=1, method="dpo", seed=1, metrics=metrics)
    return checkpoints.promote(db, candidate.id, round.id)


def test_what_a_round_published_is_recognised_and_other_weights_are_refused(
    tmp_path, llama, adapted, reference, adapter
):
    db = open_database(tmp_path / "kdloop.db")
    checkpoints.ensure_base(db)
    published = promote(db, adapter, reference)
    check(adapted, published)
    with pytest.raises(WrongWeights):
        check(llama, published)


def test_what_a_gguf_adapter_cannot_hold_is_refused(tmp_path, student_home, adapter):
    other, dora = tmp_path / "other", tmp_path / "dora"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "gemma3"}))
    with pytest.raises(NotConvertible, match="gemma3"):
        write_adapter(adapter, other, tmp_path / "x.gguf")
    shutil.copytree(adapter, dora)
    config = json.loads((dora / "adapter_config.json").read_text()) | {"use_dora": True}
    (dora / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(NotConvertible, match="use_dora"):
        write_adapter(dora, student_home / "student", tmp_path / "x.gguf")
