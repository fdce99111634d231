"""Our losses are TRL's, in value and gradient, wherever TRL has them too; and TRL's have their golden values here."""

import math

import pytest
import torch
from datasets import Dataset
from test_methods import example, full, nll, student, trained
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.modeling_outputs import CausalLMOutput, SequenceClassifierOutput
from trl import RewardConfig, RewardTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.gkd import GKDTrainer
from trl.experimental.gold import GOLDConfig
from trl.experimental.gold.gold_trainer import ULDLoss
from trl.experimental.iw_opd.iw_opd_trainer import _jsd_divergence
from trl.experimental.orpo import ORPOConfig, ORPOTrainer
from trl.experimental.sdft import loss_utils as sdft
from trl.experimental.sdpo import loss_utils as sdpo
from trl.experimental.tpo import TPOConfig, TPOTrainer
from trl.trainer.distillation_trainer import _chunked_divergence_loss

from kdloop.knowledge import feature
from kdloop.methods import dpo, kto, losses, ranking
from kdloop.methods.distill import uld
from kdloop.methods.lora import Plan, common_arguments
from kdloop.methods.objective import reference_logps, sequence

CHOSEN, REJECTED = (torch.randn(5, generator=torch.Generator().manual_seed(s)).sub(3) for s in (1, 2))
TEACHER, STUDENT = torch.randn(2, 6, 11, generator=torch.Generator().manual_seed(3))
P = TEACHER.log_softmax(-1)


def same(ours, theirs, *inputs):
    """Both are functions of the inputs: the same sum and the same gradients, to 1e-5."""
    seen = []
    for loss in (ours, theirs):
        leaves = [x.clone().requires_grad_() for x in inputs]
        value = loss(*leaves).sum()
        seen.append([value.detach(), *torch.autograd.grad(value, leaves)])
    for mine, other in zip(*seen, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)
    assert all(gradient.abs().max() > 1e-3 for gradient in seen[0][1:]), "nothing was compared"


TEXT = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])


def common(directory) -> dict:
    return {"output_dir": str(directory), "use_cpu": True, "bf16": False, "gradient_checkpointing": False}


@pytest.fixture
def cpo(tiny_student, tmp_path):
    """`cpo(loss_type, ...)`: the loss of TRL's trainer, a function of log-probabilities (n,) of chosen and rejected."""

    def made(loss_type, beta, gamma=0.0, smoothing=0.0):
        said = {"cpo_alpha": 0.0, "beta": beta, "simpo_gamma": gamma, "label_smoothing": smoothing}
        model, tokenizer = student(tiny_student)
        args = CPOConfig(**common(tmp_path), **said, loss_type=loss_type)
        trainer = CPOTrainer(model, args=args, train_dataset=TEXT, processing_class=tokenizer)
        return lambda chosen, rejected: trainer.cpo_loss(chosen, rejected)[0]

    return made


def test_pairs_are_cpos_and_simpos(cpo):
    same(lambda c, r: losses.simpo(c, r, 2, 1), cpo("simpo", 2.0, 1.0), CHOSEN, REJECTED)
    same(lambda c, r: losses.conservative(0.1 * (c - r), 0.2), cpo("sigmoid", 0.1, smoothing=0.2), CHOSEN, REJECTED)


def test_pairs_are_orpos(tiny_student, tmp_path):
    model, tokenizer = student(tiny_student)
    args = ORPOConfig(**common(tmp_path), beta=0.1)
    orpo = ORPOTrainer(model, args=args, train_dataset=TEXT, processing_class=tokenizer)
    same(lambda c, r: 0.1 * losses.odds_ratio(c, r), lambda c, r: -orpo.odds_ratio_loss(c, r)[0], CHOSEN, REJECTED)


def test_pro_of_two_is_simpo_with_beta_one_and_gamma_zero(cpo):
    pairs = lambda c, r: torch.stack([losses.pro(p) for p in torch.stack([c, r], 1)])  # noqa: E731
    same(pairs, lambda c, r: losses.simpo(c, r, beta=1, gamma=0), CHOSEN, REJECTED)
    same(pairs, cpo("simpo", 1.0), CHOSEN, REJECTED)


# TRL's ends of beta are the KLs, ours are losses of their own: beta -> the loss
BETAS = {0: losses.forward_kl, 0.1: None, 0.5: None, 0.9: None, 1: losses.reverse_kl}


@pytest.mark.parametrize("beta", BETAS)
def test_divergences_are_gkds_iw_opds_sdfts_sdpos_and_the_distillation_trainers(beta):
    def ours(z):
        q = z.log_softmax(-1)
        return BETAS[beta](P, q) if BETAS[beta] else losses.gjsd(P, q, beta)

    def gkd(z):
        return GKDTrainer.generalized_jsd_loss(z[None], TEACHER[None], beta=beta, reduction="sum")

    def iw_opd(z):
        return _jsd_divergence(z.log_softmax(-1), P, beta)

    def distillation(z):
        head, every = torch.eye(11), torch.ones(1, 6)
        return 6 * _chunked_divergence_loss(z[None], TEACHER[None], head, head, every, float(beta))[0]

    same(ours, gkd, STUDENT)
    same(ours, iw_opd, STUDENT)
    same(ours, distillation, STUDENT)
    for trl in (sdft, sdpo):
        theirs = trl.compute_full_logit_self_distillation_loss
        same(ours, lambda z, f=theirs: f(z, TEACHER, distillation_alpha=float(beta)), STUDENT)


@pytest.mark.parametrize("divergence", [losses.forward_kl, losses.reverse_kl, losses.gjsd], ids=lambda d: d.__name__)
def test_a_stored_top_k_gives_what_trl_makes_of_k_tokens_and_a_tail_bucket(divergence):
    """TRL takes the student's top k, a stored distribution has the teacher's: here they are the same tokens."""
    student = 0.5 * TEACHER
    ids = student.topk(4).indices
    assert torch.equal(ids.sort().values, TEACHER.topk(4).indices.sort().values)
    logprobs = P.gather(-1, ids)
    tail = torch.log1p(-logprobs.exp().sum(-1))
    kept = feature.Features(ids.numpy(), logprobs.numpy(), tail.numpy())
    alpha = {losses.forward_kl: 0.0, losses.reverse_kl: 1.0, losses.gjsd: 0.5}[divergence]
    options = {"distillation_topk": 4, "distillation_alpha": alpha, "distillation_add_tail": True}
    same(
        lambda z: divergence(feature.completed(kept, z), z.log_softmax(-1)),
        lambda z: sdft.compute_topk_self_distillation_loss(z, TEACHER, **options),
        student,
    )


@pytest.mark.parametrize("labels", [0.0, 1.0])
def test_uld_is_golds_where_both_tokenizers_cut_alike(labels, tmp_path):
    """The distance alone, and with the labels' NLL."""
    said = {
        "uld_crossentropy_weight": labels,
        "uld_distillation_weight": uld.DISTANCE_WEIGHT,
        "use_extended_uld": False,
    }
    said |= {"uld_skip_student_eos": False, "uld_skip_teacher_eos": False, "uld_token_merge_strategy": "bayesian"}
    gold = ULDLoss(GOLDConfig(**common(tmp_path), **said))
    ids, prompt, n = torch.arange(6)[None], 2, 4
    labels_of = torch.tensor([[-100] * prompt + [2, 3, 4, 5]])

    class Reads(torch.nn.Module):
        """A model that has these logits, whatever it reads: the last n + 1 positions, as `completion_logits` asks."""

        def __init__(self, z):
            super().__init__()
            self.z = torch.nn.Parameter(z)

        def forward(self, **_):
            return CausalLMOutput(logits=self.z[None, -n - 1 :])

    rows = [
        {
            "sequences": [([0, 1], [2, 3, 4, 5])],
            "teacher_sequence": ([0, 1], [2, 3, 4, 5]),
            "pairs": [(i, i) for i in range(n)],
        }
    ]
    taught = TEACHER[:, :7]  # a smaller vocabulary
    model, teacher = Reads(STUDENT), Reads(taught)
    ours, _ = uld.objective(teacher, labels)(model, rows, 0.0)
    z = STUDENT.clone().requires_grad_()
    theirs = gold(z[None], taught[None], labels_of, labels_of, ids, ids)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5) and ours.item() > 0.1
    mine, other = torch.autograd.grad(ours, [model.z])[0], torch.autograd.grad(theirs, [z])[0]
    assert torch.allclose(mine, other, atol=1e-5) and mine.abs().max() > 1e-3


class TokenizedTPOTrainer(TPOTrainer):
    def _prepare_dataset(self, dataset, *_):
        return dataset


def test_tpo_is_trls_on_a_model(tiny_student):
    model, tokenizer = student(tiny_student)
    e = full(1)
    said = [sequence(tokenizer, e.prompt, k) for k in e.ranking]
    names = ("reference_ids", "chosen_ids", "rejected_ids")  # TRL calls the best one of three the reference
    row = {"prompt_ids": said[0][0]} | {name: ids for name, (_, ids) in zip(names, said, strict=True)}
    args = TPOConfig(**common_arguments(Plan(1), 1), beta=0.01, tpo_alpha=1.0)
    trainer = TokenizedTPOTrainer(model, args=args, train_dataset=Dataset.from_list([row]), processing_class=tokenizer)
    ours, _ = ranking.objective(ranking.tpo)(model, [{"sequences": said, "weight": 1.0}], 0.0)
    theirs = trainer.compute_loss(model, trainer.data_collator([row]))
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    learned = [p for n, p in model.named_parameters() if "lora_B" in n]
    mine, other = (torch.autograd.grad(loss, learned) for loss in (ours, theirs))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(mine, other, strict=True))
    assert max(g.abs().max() for g in mine) > 1e-3


# --- survey, Appendix A, by the trainers that TRL brings: references planted so that the log-ratios are known ---------


@pytest.mark.parametrize(
    ("name", "apart", "golden"), [("dpo", lambda tokens: 3.0, 0.554355), ("ipo", lambda tokens: 0.6 * tokens, 19.36)]
)
def test_dpo_and_ipo_have_their_golden_value(name, apart, golden, tiny_student, monkeypatch):
    """Each chosen completion is by `apart(tokens)` likelier than in the reference, the rejected one as likely."""
    real = dpo.reference_logps

    def planted(model, sides):
        logps = real(model, sides)
        return [p - apart(len(ids)) * (i % 2 == 0) for i, (p, (_, ids)) in enumerate(zip(logps, sides, strict=True))]

    monkeypatch.setattr(dpo, "reference_logps", planted)
    examples = [example(i) for i in range(8)]
    seen, _ = trained(name, tiny_student, examples, Plan(seed=1, epochs=1))
    assert seen[0] == pytest.approx(golden + 4.0 * nll(*student(tiny_student), examples), abs=2e-3)


@pytest.mark.parametrize(("liked", "ratio", "first"), [(True, 2.0, 300), (False, -1.0, 400)])
def test_kto_has_its_golden_value(liked, ratio, first, tiny_student, monkeypatch):
    def planted(model, sides):
        """Of each row its own completion, then the mismatched one."""
        return [p - (0.5 if i % 2 else ratio) for i, p in enumerate(reference_logps(model, sides))]

    monkeypatch.setattr(kto, "reference_logps", planted)
    examples = [example(first + i, both=False, liked=liked) for i in range(8)]
    seen, _ = trained("kto", tiny_student, examples, Plan(seed=1, epochs=1))
    assert seen[0] == pytest.approx(0.46257, abs=1e-4)


@pytest.mark.parametrize(("margin", "golden"), [(None, 0.474077), (0.3, 0.598139)])
def test_the_reward_models_loss_has_its_golden_value(margin, golden, tiny_student, tmp_path):
    logits = torch.tensor([[0.8], [0.3]])
    model = AutoModelForSequenceClassification.from_pretrained(tiny_student, num_labels=1)
    rows = Dataset.from_list([{"chosen_ids": [1, 2], "rejected_ids": [1, 3]}])
    tokenizer = AutoTokenizer.from_pretrained(tiny_student)
    args = RewardConfig(**common(tmp_path))
    trainer = RewardTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
    inputs = {"attention_mask": torch.ones(2, 1)} | ({"margin": torch.tensor([margin])} if margin else {})
    loss = trainer.compute_loss(lambda **_: SequenceClassifierOutput(logits=logits), inputs)
    assert loss.item() == pytest.approx(golden, abs=1e-6)
    assert math.isclose(losses.simpo(*logits[:, 0], beta=1, gamma=margin or 0.0), golden, abs_tol=1e-6)
