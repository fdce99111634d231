"""A student's thoughts: divided from its answer, trained as its template renders them, switched on and off."""

from functools import cache
from threading import Event

import pytest
import torch
from families import TEMPLATES, byte_level
from parts import thinker

from kdloop.methods import multi_turn
from kdloop.methods.objective import as_completion
from kdloop.settings import Settings
from kdloop.student import Sample, Sampling, Thought
from kdloop.student.gguf import write_student
from kdloop.student.llamacpp import LlamaCppEngine
from kdloop.student.probes import Row
from kdloop.student.serving import check, fingerprint
from kdloop.student.template import Template
from kdloop.student.transformers import TransformersEngine
from storage.checkpoints import Checkpoint
from storage.conversations import Completion, NotKept

ASKED = [{"role": "user", "content": "Where does the river end?"}]
THOUGHT, SAID = "It flows east,\n\nso: the sea. 😀", "In the sea, mostly."


@cache
def family(name: str, thinking: str = "on") -> Template:
    return Template(byte_level(TEMPLATES[name]), thinking)


THINKING = [name for name in TEMPLATES if family(name).thoughts and family(name).thoughts.rendered]
SWITCHED = [name for name in TEMPLATES if family(name).switch()]
OPENED = ("deepseek_r1_distill", "deepseekv3")  # by the prompt; their templates drop a thought from every message


def said(thought: str = THOUGHT) -> Completion:
    return Completion("", "", "student", 1, SAID, thought=thought)


def answer(thought: str = THOUGHT) -> dict:
    return {"role": "assistant", "content": SAID, "reasoning_content": thought}


def stripped(parts: tuple[str, str]) -> tuple[str, str]:
    thought, text = parts
    return thought.strip(), text.strip()


def test_the_families_that_think():
    assert {"qwen3", "gptoss", "deepseek_r1_distill", "glm4moe", "lfm2_2_5", "muse_glimmer"} <= set(THINKING)
    assert {"qwen3", "glm4moe", "nemotron_3_nano", "gemma4", "qwen3_8"} <= set(SWITCHED)


@pytest.mark.parametrize("name", THINKING)
def test_what_is_trained_is_what_the_template_renders_with_the_thought(name):
    template = family(name)
    prompt, completion = template.prompt_ids(ASKED), template.completion_ids(*said().written)
    rendered = template.rendered([*ASKED, answer()], False)
    if name in OPENED:
        opened = template.rendered(ASKED, True)
        rendered = f"{opened}{THOUGHT}\n</think>\n\n{SAID}{rendered.rpartition(SAID)[2]}"
    whole = template.encode(rendered + ("<|user|>" if name == "glm4moe" else ""))
    assert whole[: len(prompt + completion)] == prompt + completion
    assert completion[-1] == template.end
    begun = template.completion_ids("", False, THOUGHT)  # it was cut in its thought
    assert THOUGHT in template.tokenizer.decode(begun) and completion[: len(begun) - 1] == begun[:-1]


@pytest.mark.parametrize("name", THINKING)
def test_what_a_student_writes_is_divided_at_every_token(name):
    template = family(name)
    ids, ended = template.until_end(template.completion_ids(*said().written))
    assert ended and stripped(template.parts(ids, True)) == (THOUGHT, SAID)
    grown = [stripped(template.parts(ids[:n], False)) for n in range(len(ids) + 1)]
    assert all(THOUGHT.startswith(thought.rstrip("\ufffd").strip()) for thought, _ in grown)
    assert all(SAID.startswith(text) for _, text in grown), "no mark is shown as text"
    begun = next(i for i, (_, text) in enumerate(grown) if text)
    assert not any(text for _, text in grown[:begun]) and grown[begun][0] == THOUGHT
    plain, ended = template.until_end(template.completion_ids(SAID, True))
    assert ended and stripped(template.parts(plain, True)) == ("", SAID)


@pytest.mark.parametrize("name", [n for n in THINKING if n not in ("diffusion_gemma", "gemma4_v5")])
def test_a_servers_text_is_divided_the_same(name):
    """But where the marks are special tokens, which no text shows."""
    template = family(name)
    text = template.text(template.until_end(template.completion_ids(*said().written))[0])
    assert stripped(template.parts_of_text(text, True)) == (THOUGHT, SAID)
    for n in range(len(text) + 1):
        thought, answered = stripped(template.parts_of_text(text[:n], False))
        assert THOUGHT.startswith(thought) and SAID.startswith(answered)
    assert stripped(template.parts_of_text(template.text(template.completion_ids(SAID, False)), True)) == ("", SAID)


@pytest.mark.parametrize("name", THINKING)
def test_a_server_that_sends_special_tokens_is_read_too(name):
    template = family(name)
    ids = template.until_end(template.completion_ids(*said().written))[0]
    assert stripped(template.parts_of_text(template.tokenizer.decode(ids), True)) == (THOUGHT, SAID)


@pytest.mark.parametrize("name", THINKING)
def test_marks_that_are_spelled_out_are_text(name):
    """In people's messages, in a thought that is trained, and in an answer."""
    template = family(name)
    marks = [mark.strip() for mark in (template.thoughts.opening, template.thoughts.closing) if mark.strip()]
    controls = {id for id, t in template.tokenizer.added_tokens_decoder.items() if template.tokens.fullmatch(t.content)}

    def count(ids):
        return sum(id in controls for id in ids)

    for mark in marks:
        forged = [{"role": "user", "content": f"What is {mark} for?"}]
        assert count(template.prompt_ids(forged)) == count(template.prompt_ids(ASKED))
        ids = template.completion_ids(f"{mark} is a mark", True, f"They ask of {mark}, so")
        assert count(ids) == count(template.completion_ids(*said().written))
        divided = stripped(template.parts(template.until_end(ids)[0], True))
        assert divided == (f"They ask of {mark}, so", f"{mark} is a mark")


@pytest.mark.parametrize("name", SWITCHED)
def test_auto_is_off_where_the_template_has_a_switch(name):
    on, off, auto = (family(name, thinking) for thinking in ("on", "off", "auto"))
    assert on.thinks and not off.thinks and not auto.thinks
    assert auto.prompt_ids(ASKED) == off.prompt_ids(ASKED) != on.prompt_ids(ASKED)
    ((switch, value),) = auto.options.items()
    assert value is False and auto.rendered(ASKED, True) == Template(auto.tokenizer).rendered(
        ASKED, True, **{switch: False}
    )
    whole = auto.prompt_ids(ASKED) + auto.completion_ids(SAID, True)
    rendered = auto.rendered([*ASKED, {"role": "assistant", "content": SAID}], False)
    assert auto.encode(rendered + ("<|user|>" if name == "glm4moe" else ""))[: len(whole)] == whole


@pytest.mark.parametrize("name", ["deepseek_r1_distill", "gptoss", "muse_glimmer"])
def test_off_ends_the_thought_in_the_prompt_of_a_family_without_a_switch(name):
    auto, off = family(name, "auto"), family(name, "off")
    assert auto.thinks and not off.thinks
    one, other = (t.prompt_ids(ASKED) + t.completion_ids(SAID, True) for t in (auto, off))
    assert one == other and len(off.prompt_ids(ASKED)) > len(auto.prompt_ids(ASKED))
    assert off.completion_ids(*said().written) == off.completion_ids(SAID, True), "it has no place there"


def test_a_family_that_cannot_be_kept_from_thinking_says_so():
    assert family("lfm2_2_5", "off").thinks and not family("llama3", "on").thinks


@pytest.mark.parametrize("name", THINKING)
def test_history_is_what_the_template_renders_of_it(name):
    template = family(name)
    talk = [*ASKED, answer(), {"role": "user", "content": "And then?"}]
    ids = template.prompt_ids(talk)
    assert ids == template.encode(template.rendered(talk, True))
    kept = "in history" in Row.of(template.tokenizer).reasoning_content.how.split(", not in history")[0]
    assert (THOUGHT in template.tokenizer.decode(ids)) is kept
    asked_twice = template.prompts_ids([talk, [talk[0], answer("Another."), talk[2]], talk])
    assert asked_twice[0] == asked_twice[2] == ids and (asked_twice[1] != ids) is kept


@pytest.mark.parametrize("name", ["qwen3", "gptoss", "deepseek_r1_distill", "muse_glimmer"])
def test_whole_conversations_teach_each_thought_where_it_was_thought(name):
    template = family(name)
    Template.of(template.tokenizer, "on")
    talk = [*ASKED, answer("First."), {"role": "user", "content": "And then?"}, answer("Second.")]
    rows = multi_turn.rows(template.tokenizer, talk, 2048)
    learned = [template.tokenizer.decode([id for id in r["labels"] if id != -100]) for r in rows]
    assert "First." in learned[0] and "Second." in learned[-1] and SAID in learned[-1]
    last = template.prompt_ids(talk[:3]) + template.completion_ids(SAID, True, "Second.")
    assert rows[-1]["input_ids"] == last


TOOLS = [
    ({"role": "tool", "content": "21 °C", "tool_call_id": "1"}, "role 'tool'"),
    ({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}, "tool_calls"),
    ({"role": "user", "content": [{"type": "image", "image": "x"}]}, "no plain text"),
    ({"role": "user", "content": "Hi", "reasoning_content": "I am a thought"}, "reasoning_content"),
]


@pytest.mark.parametrize(("message", "words"), TOOLS)
def test_what_would_be_lost_on_the_way_is_refused_in_words(message, words):
    for name in ("qwen3", "llama3"):
        with pytest.raises(NotKept, match=words):
            family(name).prompt_ids([*ASKED, message, *ASKED])


@pytest.mark.parametrize("name", ["gemma4_v5", "diffusion_gemma"])
def test_a_text_without_its_marks_is_kept_whole(name):
    template = family(name)
    text = template.text(template.until_end(template.completion_ids(*said().written))[0])
    assert template.parts_of_text(text, True) == ("", text) and THOUGHT in text and SAID in text


@pytest.fixture(scope="module", params=["qwen3", "deepseek_r1_distill", "gptoss"])
def student(request, tmp_path_factory):
    """(a directory of a small student that thinks and answers as told, its family)."""
    directory = tmp_path_factory.mktemp(request.param)
    thinker(request.param, directory, ASKED, said())
    return str(directory), request.param


def test_an_engine_streams_the_thought_and_then_the_answer(student):
    engine = TransformersEngine(student[0], dtype=torch.float32, thinks="on")
    *pieces, sample = engine.stream(ASKED, Sampling(200, temperature=0), 1, Event())
    assert (sample.thought, sample.text, sample.status) == (THOUGHT, SAID, "finished")
    tokens = engine.template.until_end(engine.template.completion_ids(*said().written))[0]
    assert sample.completion_tokens == len(tokens), "its thought is counted"
    thoughts = [piece for piece in pieces if isinstance(piece, Thought)]
    answers = [piece for piece in pieces if not isinstance(piece, Thought) and piece]
    assert thoughts == sorted(thoughts, key=len) and thoughts[-1].strip() == THOUGHT and len(thoughts) > 5
    begun = next(i for i, piece in enumerate(pieces) if piece and not isinstance(piece, Thought))
    assert not any(isinstance(piece, Thought) for piece in pieces[begun:]) and answers[-1] == SAID
    (again,) = engine.complete([ASKED], Sampling(200, temperature=0), [1])
    assert (again.thought, again.text) == (THOUGHT, SAID)
    (scores,) = engine.logprobs([ASKED], [sample.written])
    assert len(scores) == len(tokens) + 1 and min(scores) > -1


def test_a_reply_that_is_cut_or_stopped_in_its_thought_has_no_answer(student):
    engine, stop = TransformersEngine(student[0], dtype=torch.float32, thinks="on"), Event()
    for n in (1, 5, 9, 14):
        (cut,) = engine.complete([ASKED], Sampling(n, temperature=0), [1])
        assert cut.status == "cut" and cut.text == "" and THOUGHT.startswith(cut.thought) and cut.completion_tokens == n
    for piece in engine.stream(ASKED, Sampling(200, temperature=0), 1, stop):
        if isinstance(piece, Thought) and len(piece) > 4:
            stop.set()
    assert isinstance(piece, Sample) and piece.status == "stopped" and piece.text == "" and piece.thought


def test_llamacpp_streams_the_same(student, tmp_path):
    file = write_student(student[0], tmp_path / "student.gguf")
    engine = LlamaCppEngine(student[0], file, 512, 2, thinks="on")
    *pieces, sample = engine.stream(ASKED, Sampling(200, temperature=0), 1, Event())
    assert (sample.thought, sample.text, sample.status) == (THOUGHT, SAID, "finished")
    assert sum(isinstance(piece, Thought) for piece in pieces) > 5 and pieces[-1] == SAID
    tokens = engine.template.until_end(engine.template.completion_ids(*said().written))[0]
    assert sample.completion_tokens == len(tokens)
    (cut,) = engine.complete([ASKED], Sampling(len(tokens) // 2, temperature=0), [1])
    assert cut.status == "cut" and cut.text == "" and THOUGHT.startswith(cut.thought) and cut.thought
    (scores,) = engine.load(None).logprobs([ASKED], [sample.written])
    assert len(scores) == len(tokens) + 1 and min(scores) > -1, "its adapters keep the setting"


def test_a_checkpoint_is_known_again_where_thoughts_were_switched_since(student):
    engines = [TransformersEngine(student[0], dtype=torch.float32, thinks=t) for t in ("", "on", "off", "auto")]
    published = fingerprint(engines[0])
    metrics = {"fingerprint": published}
    for engine in engines:
        assert fingerprint(engine) == published
        check(engine, Checkpoint(2, 1, None, None, "serving", None, None, None, metrics, "", None, None))


def test_sampled_ids_are_a_completion_with_its_thought(student):
    engine = TransformersEngine(student[0], dtype=torch.float32, thinks="on")
    ids = engine.template.completion_ids(*said().written)
    found = as_completion(engine.tokenizer, ids)
    assert found.written == (SAID, True, THOUGHT) and found.said == (SAID, True)


def test_the_setting_is_one_of_three_words(monkeypatch):
    for word in ("auto", "on", "off"):
        monkeypatch.setenv("KDLOOP_THINKING", word)
        assert Settings.from_environment().thinking == word
    monkeypatch.setenv("KDLOOP_THINKING", "sometimes")
    with pytest.raises(ValueError, match="KDLOOP_THINKING='sometimes': one of auto, on, off"):
        Settings.from_environment()
