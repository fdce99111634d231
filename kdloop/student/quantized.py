"""A student in 4 bits, where a device has no room for its weights in 16: NF4 by bitsandbytes.

Trained so it is QLoRA (Dettmers et al. 2023): the base stays frozen in 4 bits, the adapter is an ordinary one in fp32,
and nothing is merged, as 4 bits could not hold the sum; so each reply computes the adapter beside the base. Other than
in the paper, norms and LM head keep their dtype, and optimizer states are not paged.
"""

import importlib.util
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from peft import PeftModel

BYTES = 0.5 + 4 / 64  # of a weight: half a byte, and an fp32 scale for each block of 64


class NoQuantization(ValueError):
    "The student cannot be had in so many bits here"


def loading(bits: int, dtype: torch.dtype, device: str) -> dict:
    """Options of `from_pretrained` for a student in so many bits; {} for 16. Raises NoQuantization, saying what to
    do."""
    if bits == 16:
        return {}
    if bits != 4:
        raise NoQuantization(f"KDLOOP_BITS={bits}: there are 4 and 16")
    if not importlib.util.find_spec("bitsandbytes"):
        raise NoQuantization("KDLOOP_BITS=4 needs bitsandbytes: pip install bitsandbytes; or unset KDLOOP_BITS")
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return {"quantization_config": config, "device_map": {"": device}}


def keep_as_read(model):
    """The model, whose 4 bits an evaluation leaves as they are. On a CPU with AVX512-BF16 bitsandbytes 0.50 repacks a
    layer at its first one: no gradient flows through it from then on, and its scales come back in another order
    (findings/bitsandbytes_evaluates_once.sh)."""
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return model


def is_quantized(model) -> bool:
    return getattr(model, "quantization_method", None) is not None


def beside(base, training: "PeftModel"):
    """`base` with the current `default` adapter of a model in training, in tensors of its own."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    model = get_peft_model(base, training.peft_config["default"])
    now = get_peft_model_state_dict(training, adapter_name="default")
    set_peft_model_state_dict(model, {name: tensor.detach().clone() for name, tensor in now.items()})
    return model.get_base_model()
