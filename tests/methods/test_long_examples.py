"""Examples longer than what the student reads: each method leaves them out whole and counted, and learns the others."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from test_methods import REWARDED, full, student

from kdloop import recipes
from kdloop.feedback.examples import Example, Split
from kdloop.methods import FAMILIES, METHODS, NothingToLearn, lora, step_size
from kdloop.methods.lora import Plan
from kdloop.methods.objective import sequence
from kdloop.rounds.selection import readable, select, too_long
from storage.conversations import Completion

MOST = 200  # tokens
NEVER = {"self_rewarding", "star"}  # a random student's samples pass no judgement: refused before anything is trained


def long(i: int, words: int = 400) -> Example:
    e = full(i)
    page = {"role": "user", "content": f"{'word ' * words} and number {i}?"}
    return replace(e, prompt=[page], conversation=f"long {i}")


def plan(tiny_teacher, **values) -> Plan:
    known = {"epochs": 1, "learning_rate": 1e-3, "batch": 4, "max_tokens": 4, "max_length": MOST, "system": "Be brief."}
    reward = lambda *said: float(len(str(said[1])))  # noqa: E731
    return Plan(1, **known | {"teachers": (tiny_teacher,), "reward": reward} | values)


@pytest.mark.parametrize("name", sorted({name for family in FAMILIES for name in [*family.METHODS][:2]} - NEVER))
def test_a_long_example_beside_others_is_left_out_and_the_round_goes_on(
    name, tiny_student, talker, tiny_teacher, capsys
):
    examples = [*map(full, range(8)), long(9)]
    model, tokenizer = student(talker if name in REWARDED else tiny_student)  # what never ends has no reward
    before = step_size.parameters(model)
    metrics = METHODS[name].train(model, tokenizer, examples, plan(tiny_teacher), lambda *_: None)
    assert all(value == value for value in metrics.values()), metrics
    assert any(not torch.equal(p, before[n]) for n, p in step_size.parameters(model).items())
    assert f"left out: over {MOST} tokens" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["dpo", "sft", "kto", "cdpo", "multi_turn", "sdft", "rloo", "jsd", "online_dpo"])
def test_where_all_are_too_long_there_is_nothing_to_learn_and_it_is_said(name, tiny_student, tiny_teacher):
    model, tokenizer = student(tiny_student)
    with pytest.raises(NothingToLearn, match=f"longer than the {MOST} tokens"):
        METHODS[name].train(model, tokenizer, [long(i) for i in range(8)], plan(tiny_teacher), lambda *_: None)


@pytest.mark.parametrize("name", ["dpo", "sft", "kto", "forward_kl"])
def test_a_page_of_text_that_the_chat_takes_is_learned_from(name, tiny_student, tiny_teacher):
    """Its activations are computed again: in the same steps."""
    examples, ends = [long(i, 850) for i in range(2)], []
    for whole in (lora.RECOMPUTE_ABOVE, 10**6):
        model, tokenizer = student(tiny_student)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(lora, "RECOMPUTE_ABOVE", whole)
            METHODS[name].train(
                model, tokenizer, examples, plan(tiny_teacher, max_length=2048, batch=2), lambda *_: None
            )
        ends.append(step_size.parameters(model))
    start = step_size.parameters(student(tiny_student)[0])
    moved, other = (torch.cat([(end[n] - p).flatten() for n, p in start.items()]) for end in ends)
    assert moved.norm() > 1e-3 and (moved - other).norm() < 0.05 * moved.norm()
    assert all((ends[0][n] != p).any() for n, p in start.items() if "lora_B" in n and "layers.0" in n)


def test_only_long_rows_are_computed_again(tiny_student):
    model, seen = student(tiny_student)[0], {}
    with lora.long_rows_recomputed(model):
        layers = [m for m in model.modules() if type(m).__name__ == "LlamaDecoderLayer"]
        for n in (lora.RECOMPUTE_ABOVE, lora.RECOMPUTE_ABOVE + 1):
            model(torch.ones(1, n, dtype=torch.long), use_cache=False)
            seen[n] = {m.gradient_checkpointing for m in layers}
        with torch.no_grad():
            model(torch.ones(1, n, dtype=torch.long))
        assert not any(m.gradient_checkpointing for m in layers), "what is sampled needs its cache"
    assert list(seen.values()) == [{False}, {True}]


def test_what_just_fits_is_kept_whole_and_one_token_more_is_counted(tiny_student):
    _, tokenizer = student(tiny_student)
    fits, other = full(1), long(2)
    exactly = max(len(p) + len(c) for p, c in (sequence(tokenizer, fits.prompt, k) for k in fits.ranking))
    split = Split([fits, other], [long(3)], Counter(ties=2))
    kept = readable(split, tokenizer, exactly)
    assert (kept.train, kept.held_out) == ([fits], [])
    assert kept.dropped == Counter({"ties": 2, "longer than the student reads": 2})
    assert too_long(kept, exactly) == f"; 2 left out, longer than the {exactly} tokens that the student reads"
    assert not readable(split, tokenizer, exactly - 1).train and too_long(split, 9) == ""
    assert select("dpo", kept.train, recipes.VOTES, 1, None, None) == [fits]


def test_a_long_correction_counts_as_the_prompt_does(tiny_student):
    _, tokenizer = student(tiny_student)
    wordy = Completion("w", "t", "human", None, "a word more " * 200)
    e = replace(full(1), chosen=wordy, ranking=())
    assert not readable(Split([e], []), tokenizer, MOST).train
    assert readable(Split([replace(e, chosen=None)], []), tokenizer, MOST).train
