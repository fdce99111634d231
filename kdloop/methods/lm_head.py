"""The LM head in training: logits at label positions only, of all of them at once, on a CPU and on a GPU.

Where there is no Triton, TRL 1.16 projects prompt and padding through the head, too, and computes log-probabilities
tile by tile, to save memory that a small student does not need. Eight steps of RLOO took 17.4 s that way and take 2.2 s
(2 layers); the steps of DPO on 32 pairs 37.1 s and 25.7 s (docs/log.md). There is no option for it, so two private
names of TRL are replaced, and only in the version that they were read in: another one is refused.
"""

import torch
import trl.trainer.utils
from torch.nn.functional import linear
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

TRL_VERSION = "1.16."  # whose private names are replaced; requirements.txt pins it
PRIVATE = "_use_triton", "_ChunkedLogProbFunction"
MAX_LOGITS = 2**27  # computed at once: half a gigabyte in fp32; more of them go by TRL's tiles


class WholeLogits:
    """TRL's ChunkedLogProbFunction with the same arguments and results; only the log-probabilities have gradients."""

    @staticmethod
    def apply(hidden, weight, bias, targets, temperature, chunk, softcap, scale, outputs):
        """(N, H) hidden states, (V, H) weights, (N,) targets -> log-probabilities of the targets and the four MEASURES,
        each (N,), None for those that `outputs` does not name."""
        if len(hidden) * len(weight) > MAX_LOGITS:
            arguments = (hidden, weight, bias, targets, temperature, chunk, softcap, scale, outputs)
            return ChunkedLogProbFunction.apply(*arguments)
        logits = linear(hidden, weight, bias).float()
        logits = logits if scale == 1 else logits * scale
        logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
        logits = logits if temperature == 1 else logits / temperature
        logp = torch.log_softmax(logits, -1)
        with torch.no_grad():
            measures = {name: MEASURES[name](logits, logp, targets) for name in outputs if name != "log_probs"}
        return logp.gather(-1, targets[:, None])[:, 0], *(measures.get(name) for name in MEASURES)


MEASURES = {  # of (N, V) logits and log-probabilities and (N,) targets, in the order of TRL's results
    "entropy": lambda logits, logp, targets: -torch.einsum("nv,nv->n", logp.exp(), logp),
    "log_sum_sq_probs": lambda logits, logp, targets: torch.logsumexp(2 * logp, -1),
    "mean_logits": lambda logits, logp, targets: logits.mean(-1),
    "is_top1": lambda logits, logp, targets: logits.argmax(-1) == targets,
}


def score_label_positions_only() -> None:
    """Have TRL's trainers do so: the compact branch of add_fused_lm_head (trl/trainer/utils.py), and the head above.

    Raises RuntimeError for another version of TRL, whose private names may mean something else.
    """
    missing = [name for name in PRIVATE if not hasattr(trl.trainer.utils, name)]
    if missing or not trl.__version__.startswith(TRL_VERSION):
        names = ", ".join(PRIVATE)
        raise RuntimeError(
            f"TRL {trl.__version__} is installed; kdloop replaces private names of {TRL_VERSION}x ({names}): "
            "install what requirements.txt says, or read add_fused_lm_head again and adapt kdloop/methods/lm_head.py"
        )
    trl.trainer.utils._use_triton = lambda device: True
    trl.trainer.utils._ChunkedLogProbFunction = WholeLogits
