"""The LM head in training: label positions only, and their logits whole, on a CPU and on a GPU.

TRL 1.16 projects prompt and padding through the head too where there is no Triton, and folds the logits tile by tile,
to save memory that a small student does not need: a quarter of a training step (docs/log.md).
"""

import torch
import trl.trainer.utils
from torch.nn.functional import linear
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

WHOLE = 2**27  # logits at once, half a gigabyte; more go by TRL's tiles


class WholeLogits:
    """TRL's ChunkedLogProbFunction, same arguments and results; only the log-probabilities have gradients."""

    @staticmethod
    def apply(hidden, weight, bias, targets, temperature, chunk, softcap, scale, outputs):
        """(N, H) hidden states, (V, H) weights, (N,) targets -> five of (N,), None where `outputs` does not ask."""
        if len(hidden) * len(weight) > WHOLE:
            arguments = (hidden, weight, bias, targets, temperature, chunk, softcap, scale, outputs)
            return ChunkedLogProbFunction.apply(*arguments)
        logits = linear(hidden, weight, bias).float()
        logits = logits if scale == 1 else logits * scale
        logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
        logits = logits if temperature == 1 else logits / temperature
        logp = torch.log_softmax(logits, -1)
        with torch.no_grad():
            known = {name: MEASURES[name](logits, logp, targets) for name in outputs if name != "log_probs"}
        return logp.gather(-1, targets[:, None])[:, 0], *(known.get(name) for name in MEASURES)


MEASURES = {  # in the order of TRL's results
    "entropy": lambda logits, logp, targets: -torch.einsum("nv,nv->n", logp.exp(), logp),
    "log_sum_sq_probs": lambda logits, logp, targets: torch.logsumexp(2 * logp, -1),
    "mean_logits": lambda logits, logp, targets: logits.mean(-1),
    "is_top1": lambda logits, logp, targets: logits.argmax(-1) == targets,
}


def score_label_positions_only() -> None:
    """Have TRL's trainers do so: the compact branch of add_fused_lm_head (trl/trainer/utils.py), and the head above."""
    trl.trainer.utils._use_triton = lambda device: True
    trl.trainer.utils._ChunkedLogProbFunction = WholeLogits
