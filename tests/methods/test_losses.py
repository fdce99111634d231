"""Golden values by hand (p_T = [.7, .2, .1], p_S = [.5, .3, .2], natural log), and what must hold besides."""

import pytest
import torch
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

from kdloop.methods import lm_head, losses

T, S = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.5, 0.3, 0.2]).log()
DIVERGENCES = {
    losses.forward_kl: 0.085123,
    losses.reverse_kl: 0.092033,
    losses.gjsd: 0.021901,
    losses.total_variation: 0.2,
    losses.skew_kl: 0.069578,
    losses.adaptive_kl: 0.5 * 0.085123 + 0.5 * 0.092033,  # the head is the first token: .2 of .4 that are apart
    losses.sorted_l1: 0.4,
}


def number(x) -> float:
    return pytest.approx(float(x), abs=2e-6)


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda d: d.__name__)
def test_divergences_have_their_golden_value_and_are_zero_for_equal_models(divergence):
    assert number(divergence(T, S)) == DIVERGENCES[divergence]
    assert number(divergence(T, T)) == 0


@pytest.mark.parametrize(
    ("p", "q", "share"),
    [
        ([0.4, 0.3, 0.3], [0.35, 0.5, 0.15], 0.05 / 0.4),  # the second crosses 0.5 and is the tail's
        ([0.3, 0.4, 0.3], [0.5, 0.35, 0.15], 0.05 / 0.4),  # in any order
        ([0.25, 0.25, 0.25, 0.25], [0.4, 0.2, 0.3, 0.1], 0.2 / 0.4),  # two hold 0.5 exactly
        ([0.6, 0.3, 0.1], [0.2, 0.5, 0.3], 0.4 / 0.8),  # the first crosses it, and stays
    ],
)
def test_the_head_of_adaptive_kl_leaves_out_the_token_that_crosses(p, q, share):
    p, q = torch.tensor(p).log(), torch.tensor(q).log()
    expected = share * losses.forward_kl(p, q) + (1 - share) * losses.reverse_kl(p, q)
    assert number(losses.adaptive_kl(p, q)) == float(expected)


def test_skewed_and_weighted_forms():
    assert number(losses.gjsd(T, S, 0.1)) == 0.007695
    assert number(losses.gjsd(T, S, 0.9)) == 0.008185
    assert number(losses.cross_entropy(T, losses.mixture(T, S, 0.1))) == 0.871397
    assert number(losses.skew_reverse_kl(T, S)) == float(losses.skew_kl(S, T))
    assert number(losses.skew_reverse_kl(T, T)) == 0


@pytest.mark.parametrize("divergence", [*DIVERGENCES, losses.skew_reverse_kl], ids=lambda d: d.__name__)
def test_a_step_along_the_gradient_brings_the_student_nearer(divergence):
    z = S.clone().requires_grad_()
    before = divergence(T, z.log_softmax(-1))
    before.backward()
    assert divergence(T, (z - 0.1 * z.grad).log_softmax(-1)) < before


@pytest.mark.parametrize(
    ("t", "target", "ce", "kl"),
    [
        (0.0, [0.5, 0.3, 0.2], 1.029653, 0.0),
        (0.4, [0.584489, 0.260639, 0.154872], 0.968196, 0.014995),
        (1.0, [0.7, 0.2, 0.1], 0.886941, 0.085123),
    ],
)
def test_taid_goes_from_the_student_to_the_teacher(t, target, ce, kl):
    p = losses.Taid(t).target(T, S)
    assert p.exp().tolist() == pytest.approx(target, abs=1e-6)
    assert number(losses.cross_entropy(p, S)) == ce
    assert number(losses.forward_kl(p, S)) == kl


def test_the_schedule_of_taid_runs_ahead_of_the_line_never_back_and_ends_at_one():
    seen = losses.Taid(0.4, 0.0, 1.0)
    assert seen.after(0.9, 10, 100).t == pytest.approx(0.46)
    assert seen.after(0.9, 10, 100).momentum == pytest.approx(0.001)
    assert seen.after(0.9, 1, 100_000).t == pytest.approx(0.40015008, abs=1e-8)
    assert losses.Taid().after(2.0, 1, 10) == losses.Taid(loss=2.0)
    state, seen = losses.Taid(), []
    for step in range(1, 21):
        state = state.after(3 / step, step, 20, rate=0.3)
        seen.append(state.t)
    assert seen == sorted(seen) and seen[-1] == 1.0 and seen[9] > 0.4 + 0.6 * 10 / 20


def test_pairs():
    margin = torch.tensor([0.3, 0.0])
    assert losses.conservative(margin, 0.0).tolist() == pytest.approx([0.554355, 0.693147], abs=1e-6)
    flipped = losses.conservative(-margin, 1.0)
    assert flipped.tolist() == pytest.approx([0.554355, 0.693147], abs=1e-6)
    assert number(losses.simpo(torch.tensor(-1.0), torch.tensor(-1.6), 2, 1)) == 0.598139
    even = torch.tensor(-1.0)
    assert number(losses.odds_ratio(even, even)) == 0.693147
    p, q = torch.tensor(0.5), torch.tensor(0.2)  # odds 1 and 1/4
    assert number(losses.odds_ratio(p.log(), q.log())) == float(torch.tensor(1.25).log())


def test_a_noisy_vote_stops_pushing_at_the_margin_that_it_can_prove():
    margin = torch.tensor(0.9 / 0.1).log().requires_grad_()
    losses.conservative(margin, 0.1).backward()
    assert margin.grad == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        lambda y: losses.conservative(0.1 * (y[0] - y[1]), 0.1),
        lambda y: losses.simpo(y[0], y[1], 2, 1),
        lambda y: losses.odds_ratio(y[0], y[1]),
        losses.rrhf,
        losses.pro,
    ],
)
def test_the_gradient_makes_the_better_likelier_and_the_worse_less_likely(loss):
    better_last = torch.tensor([-1.5, -1.0], requires_grad=True)
    loss(better_last).backward()
    assert better_last.grad[0] < 0 < better_last.grad[1]


def test_rankings():
    assert number(losses.rrhf(torch.tensor([-1.2, -0.8, -1.0]))) == 0.6
    assert number(losses.rrhf(torch.tensor([-0.8, -1.0, -1.2]))) == 0
    assert number(losses.pro(torch.tensor([0.0, -0.4, -1.2]))) == 1.049903
    assert number(losses.pro(torch.tensor([-1.2, -0.4, 0.0]))) == 2.791817
    pair = torch.tensor([-1.0, -1.3])
    assert number(losses.pro(pair)) == float(losses.simpo(*pair, beta=1, gamma=0))


def test_kd_lora_mixes_soft_and_hard_targets():
    from kdloop.methods.distill.divergence import distillation_loss

    teacher, student = torch.tensor([[2.0, 0, -1]]), torch.tensor([[1.0, 0.5, 0]])
    both = {
        label: distillation_loss(losses.forward_kl, 2.0, label)(teacher, student, torch.tensor([0]), 0)
        for label in (0, 0.5, 1)
    }
    assert [float(both[k]) for k in both] == pytest.approx([0.365228, 0.522749, 0.68027], abs=1e-6)


def test_features():
    t, s = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    assert losses.l2(t, s).tolist() == pytest.approx([5.0, 2**0.5])
    assert losses.l1(t, s).tolist() == [7.0, 2.0]
    assert losses.cosine(t, s)[1] == 1.0
    apart = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    assert losses.mmd(apart, apart[torch.randperm(40)]) == pytest.approx(0.0, abs=1e-6)
    assert losses.mmd(apart, apart + 3) > 0.5
    assert losses.layer_map(2, 6) == [(1, 3), (2, 6)]
    assert losses.layer_map(3, 2) == [(1, 1), (2, 1), (3, 2)]


def test_vocabularies_of_different_size_are_compared_by_how_sure_they_are():
    shuffled = torch.tensor([0.1, 0.7, 0.2, 0.0]).clamp(min=1e-9).log()
    assert losses.sorted_l1(shuffled, T) == pytest.approx(0.0, abs=1e-6)


def test_another_version_of_trl_is_refused_before_its_private_names_are_replaced(monkeypatch):
    import trl.trainer.utils

    lm_head.score_label_positions_only()
    assert trl.trainer.utils._ChunkedLogProbFunction is lm_head.WholeLogits
    monkeypatch.delattr(trl.trainer.utils, "_use_triton")
    with pytest.raises(RuntimeError, match=r"replaces private names of 1\.16\.x"):
        lm_head.score_label_positions_only()
    assert not hasattr(trl.trainer.utils, "_use_triton"), "nothing was replaced"
    monkeypatch.undo()
    for version in ("1.15.3", "1.17.0", "2.0.0"):
        monkeypatch.setattr(trl, "__version__", version)
        with pytest.raises(RuntimeError, match=f"TRL {version} is installed"):
            lm_head.score_label_positions_only()


@pytest.mark.parametrize("softcap, scale, temperature", [(None, 1.0, 1.0), (30.0, 0.5, 0.7)])
def test_whole_logits_give_what_trls_tiles_give(softcap, scale, temperature):
    torch.manual_seed(0)
    hidden, weight = torch.randn(7, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    outputs = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
    found = []
    for head in (lm_head.WholeLogits, ChunkedLogProbFunction):
        scores = head.apply(hidden, weight, None, torch.arange(7), temperature, 16, softcap, scale, outputs)
        found.append([*scores, *torch.autograd.grad((scores[0] * torch.arange(7)).sum(), (hidden, weight))])
        assert head.apply(hidden, weight, None, torch.arange(7), 1.0, 16, None, 1.0, outputs[:1])[1:] == (None,) * 4
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
