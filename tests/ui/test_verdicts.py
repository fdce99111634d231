"""Whatever the gate, a trial or a round says of a candidate is read in the reader's language, numbers and all."""

import re
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from gradio.context import LocalContext

from kdloop.feedback.examples import Split
from kdloop.gate import trial
from kdloop.gate.evidence import CONFIRM, ROLL_BACK, Evidence
from kdloop.gate.guards import Guard
from kdloop.gate.spending import Turn
from kdloop.gate.verdict import CannotDecide, Judgement, require_a_judge, require_agreement, verdict
from kdloop.methods import ALONE, SAMPLES, choose, enough
from kdloop.methods.lora import REMEDIES, NothingToLearn
from kdloop.methods.rl.reward_model import at_chance
from kdloop.methods.self_training.self_teaching import CAUTION
from kdloop.raters.judge import Calibration
from kdloop.raters.preference_model import PreferenceModel
from kdloop.rounds import replays
from kdloop.rounds.selection import TOO_LONG, too_long
from kdloop.settings import Settings
from kdloop.student import base
from kdloop.ui import greeting, verdicts
from kdloop.ui.verdicts import in_words

ENGLISH = re.compile(
    r"\b(the|of|by|with|not|too|few|wins?|losses|ties|limit|gate|since|held|guards|and|answering|votes|yet|comparisons|"
    r"is|are|it|that|this|there|one|than|needs?|has|at most|could|your|more|less|prompts?|terms|weight|choose)\b"
)
TURN = Turn(3, 2)
JUDGED = Judgement("preference model of 48 held-out votes", (0.2,) * 20 + (-0.1, None, 0.0), 0.05, prompts=128)
GUARDS = (Guard("mean words", 8.0, "27 to 80", False), Guard("prompts repeated, rise", 0.31, "<= 0.1", False))


@pytest.fixture(params=["de", "es"])
def reader(request):
    token = LocalContext.request.set(gr.Request(headers={"accept-language": f"{request.param}-XX,en;q=0.5"}))
    yield request.param
    LocalContext.request.reset(token)


def refusals():
    for act in (
        lambda: require_a_judge(None, Split([], []), TURN),
        lambda: require_agreement(SimpleNamespace(judge=SimpleNamespace(skill=Skill(accuracy=0.4, p_value=0.3))), TURN),
        lambda: enough(3, "dpo"),
    ):
        with pytest.raises((CannotDecide, NothingToLearn)) as raised:
            act()
        yield f"Rejected before training: {raised.value}"


class Skill(SimpleNamespace):
    def __str__(self):
        return "9 of 22.5 unseen votes predicted"


def written():
    """Sentences as they are stored."""
    held = tuple(replace(g, ok=True) for g in GUARDS)
    passed = verdict(replace(JUDGED, better=True), held, TURN).reason
    yield from (trial.announced(passed, mode) for mode in (*trial.ANNOUNCED,))
    yield verdict(replace(JUDGED, better=True), GUARDS, TURN).reason
    yield verdict(JUDGED, held, TURN).reason
    yield verdict(replace(JUDGED, gains=(0.2, None), by="checks of 9 prompts"), held, TURN).reason
    yield verdict(replace(JUDGED, by="log-probability margins on held-out pairs", better=True), held, TURN).reason
    yield from refusals()
    ends = (Evidence(3, 4.5, 2, better=CONFIRM), Evidence(3, 4.5, 2, worse=ROLL_BACK), Evidence(3, 4.5, 2, compared=99))
    yield from (f"{trial.announced(passed, 'trial')}. {trial.why(end)}" for end in ends)
    yield replays.told(SimpleNamespace(replays=4), passed, False)
    yield replays.NOT_GATED
    with pytest.raises(NothingToLearn):
        choose("sft", [])
    yield from (f"Rejected before training: taid {remedy}" for remedy in REMEDIES.values())
    yield f"Not gated: {at_chance(6, 12)}"
    alone = "which one process does, and the student does not fit one GPU"
    yield from (f"taid {why}, {alone}" for why in sorted(set(ALONE.values())))
    for counts in ((9, 9, 9, 0, 0), (40, 30, 15, 9, 0), (40, 3, 3, 0, 30)):
        refused = Calibration(*counts, longer=0.0).refusal
        yield f"Rejected before training: judge tess is refused for training: {refused}"
    left_out = too_long(SimpleNamespace(dropped={TOO_LONG: 3}), 2048)
    liked = ", ".join(PreferenceModel.strongest(SimpleNamespace(weights=np.arange(40) - 19.5)))
    why = f"8 pairs say which of two completions is better: dpo. People seem to like {liked}{left_out}"
    yield f"{why}; one process trains, as gkd {SAMPLES}"
    yield f"gkd was asked for: 8 of 9 examples fit it{CAUTION.format(method='gkd')}; 2 processes train"


def test_every_reason_is_told_in_the_readers_language_with_all_its_numbers(reader):
    sentences = list(written())
    assert len(sentences) == 27
    for text in sentences:
        said = in_words(text)
        assert not ENGLISH.search(said), (text, said)
        numbers = [re.findall(r"\d+(?:\.\d+)?", s) for s in (text, said)]
        assert sorted(numbers[0]) == sorted(numbers[1]), (text, said)
    assert in_words("candidate 3").endswith(" 3") and in_words("v2") == "v2"


@pytest.mark.parametrize("text", ["", "A {nobody}'s. }{", "Rejected in spite of: x" * 400, "<b>{score}</b>"])
def test_what_is_not_known_stays_as_it_is(reader, text):
    assert in_words(text) == text


def test_english_readers_get_what_is_stored():
    assert all(in_words(text) == text for text in written())


def test_a_reader_of_another_language_is_told_for_whom_the_student_is(reader, tmp_path):
    for language, told in (("en", True), (["en"], True), (["en", "de"], False), (None, False)):
        home = tmp_path / str(language)
        home.mkdir()
        (home / "README.md").write_text(f"---\nlanguage: {language}\n---\n" if language else "---\nlicense: mit\n---\n")
        known = greeting.properties(Settings(home=home, student=str(home)))
        assert (verdicts.LANGUAGES[reader][greeting.ENGLISH_ONLY] in known["placeholder"]) is told
    assert not {x["text"] for x in known["examples"]} & set(greeting.EXAMPLES)
    assert base.languages(str(tmp_path), tmp_path) == []
