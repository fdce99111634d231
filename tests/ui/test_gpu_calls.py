"""A reply on a lent GPU, by a student that thinks: as the settings say, and whole where it is stopped.

The calls are the functions themselves, as `spaces` leaves them where there is no ZeroGPU."""

from threading import Event

import pytest
from parts import thinker
from transformers import AutoTokenizer

from kdloop.settings import Settings
from kdloop.student import Sample, Sampling, Thought
from kdloop.student.template import Template
from kdloop.student.transformers import TransformersEngine
from kdloop.ui import gpu_calls
from storage.conversations import Completion, as_prompt

ASKED = as_prompt("Who keeps the mill?")
THOUGHT, SAID = "The flood took the old miller, so his daughter.", "His daughter does."


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    told = Completion("", "", "student", 1, SAID, thought=THOUGHT)
    return thinker("qwen3", tmp_path_factory.mktemp("lent"), ASKED, told)


@pytest.fixture
def lent(student, monkeypatch):
    """A reply, stopped once `until` is true of a piece of it: its pieces."""
    calls = gpu_calls.Calls(gpu_calls.train_a_part, gpu_calls.reply)
    monkeypatch.setattr(gpu_calls, "calls", lambda: calls)

    def reply(thinking, until=lambda piece: False):
        settings, stop, pieces = Settings(student=student, thinking=thinking), Event(), []
        here = TransformersEngine(student, thinks=thinking)
        engine = gpu_calls.LentGpu(settings, here, None, told=lambda error: pytest.fail(str(error)))
        for piece in engine.stream(ASKED, Sampling(200, temperature=0), 1, stop):
            pieces.append(piece)
            if not isinstance(piece, Sample) and until(piece):
                stop.set()
        return pieces

    return reply


def test_a_lent_reply_thinks_as_the_settings_say(student, lent):
    read = {}
    for thinking in ("on", "off", "auto"):
        *_, sample = lent(thinking)
        template = Template(AutoTokenizer.from_pretrained(student), thinking)
        read[thinking] = sample.prompt_tokens
        assert sample.prompt_tokens == len(template.prompt_ids(ASKED)), thinking
        assert thinking != "on" or (sample.thought, sample.text) == (THOUGHT, SAID)
    assert read["on"] < read["off"] == read["auto"], "an empty thought is in the prompt"


def test_a_lent_reply_that_is_stopped_keeps_its_thought_apart(lent):
    *_, sample = lent("on", lambda piece: isinstance(piece, Thought) and len(piece) > 9)
    assert (sample.status, sample.text) == ("stopped", "")
    assert len(sample.thought) > 8 and THOUGHT.startswith(sample.thought)
    *_, sample = lent("on", lambda piece: not isinstance(piece, Thought) and len(piece) > 3)
    assert sample.status == "stopped" and sample.thought == THOUGHT
    assert SAID.startswith(sample.text) and 2 < len(sample.text) < len(SAID)
