"""Adapters merged into the base's weights: no LoRA overhead in replies, and a model that training patches never serves.

    W' = W + alpha / r  B A                                                              Hu et al. 2022, Eq. 3

A merged copy has its own weights where the adapter changes them and shares all others with the base. kdloop's own
adapters are plain LoRA and are merged here, from a file or from a model in training: PEFT's `merge_and_unload` changes
its model, of which it would need a whole copy. Any other adapter goes through PEFT.
"""

import json
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kdloop.student import AdapterRefused, quantized
from kdloop.student.identity import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PEFT_PREFIX, header

if TYPE_CHECKING:
    from peft import PeftModel

A, B = ".lora_A.weight", ".lora_B.weight"
NOT_PLAIN = (  # options of PEFT's LoraConfig that plain LoRA leaves unset
    *("alpha_pattern", "rank_pattern", "modules_to_save", "target_parameters", "trainable_token_indices", "use_dora"),
    *("use_rslora", "fan_in_fan_out", "lora_bias", "use_qalora", "layer_replication", "megatron_config"),
)
Update = tuple[Tensor, Tensor, float]  # A, B, scaling


def merged(untrained, adapter: Path | None):
    """For inference: a copy with the adapter in its weights, or the model itself where there is none. Raises
    AdapterRefused for an adapter of another architecture."""
    if adapter is None:
        return for_inference(untrained)
    if quantized.is_quantized(untrained):
        return for_inference(with_peft(updated(untrained, {}), adapter).get_base_model())
    config = json.loads((Path(adapter) / ADAPTER_CONFIG).read_text())
    updates = plain_updates(untrained, config, adapter)
    if updates is None:
        return for_inference(with_peft(deepcopy(untrained), adapter).merge_and_unload())
    return for_inference(updated(untrained, updates))


def with_peft(model, adapter: Path) -> "PeftModel":
    """The model with the adapter by PEFT. Raises AdapterRefused where its tensors are not those of the model's layers:
    PEFT ignores additional ones without an error, and initializes missing ones."""
    from peft import PeftModel  # seconds, with all that it imports; kdloop's own adapters are served without it

    try:
        stored = {name for name in header(Path(adapter) / ADAPTER_WEIGHTS)[1] if ".lora_" in name}
        adapted = PeftModel.from_pretrained(model, adapter)
    except (RuntimeError, ValueError, KeyError) as error:
        why = str(error).strip().partition("\n")[0][:200]
        raise AdapterRefused(f"The adapter in {adapter} does not fit the student ({why})") from error
    wanted = {name.replace(".default.", ".") for name, _ in adapted.named_parameters() if ".lora_" in name}
    if stored != wanted:
        odd = min(stored ^ wanted)
        raise AdapterRefused(f"The adapter in {adapter} is of a student with other layers: {odd}")
    return adapted


def merged_with(untrained, training: "PeftModel"):
    """`merged` with the current `default` adapter of a model in training."""
    if quantized.is_quantized(untrained):
        return for_inference(quantized.beside(updated(untrained, {}), training))
    modules = training.get_base_model().named_modules()
    layers = {name: m for name, m in modules if "default" in getattr(m, "lora_A", {})}
    lora = {name: (m.lora_A["default"].weight, m.lora_B["default"].weight) for name, m in layers.items()}
    updates = {name: (*ab, layers[name].scaling["default"]) for name, ab in lora.items()}
    return for_inference(updated(untrained, updates))


def for_inference(model):
    return model.eval().requires_grad_(False)


def plain_updates(untrained, config: dict, adapter: Path) -> dict[str, Update] | None:
    """{module: its update}; None where the adapter is not plain LoRA of linear layers."""
    file, kind = Path(adapter) / ADAPTER_WEIGHTS, (config.get("peft_type"), config.get("bias"))
    if kind != ("LORA", "none") or any(config.get(name) for name in NOT_PLAIN) or not file.exists():
        return None
    tensors, scaling = load_file(file), config["lora_alpha"] / config["r"]
    names = {key.removeprefix(PEFT_PREFIX).removesuffix(A) for key in tensors if key.endswith(A)}
    pairs, modules = {PEFT_PREFIX + name + end for name in names for end in (A, B)}, dict(untrained.named_modules())
    targets = config["target_modules"]
    suffixes = tuple(f".{target}" for target in targets)  # PEFT matches whole names and their last parts
    wanted = {name for name, m in modules.items() if type(m) is nn.Linear and f".{name}".endswith(suffixes)}
    if isinstance(targets, str) or tensors.keys() != pairs or names != wanted:
        return None
    updates = {name: (tensors[PEFT_PREFIX + name + A], tensors[PEFT_PREFIX + name + B], scaling) for name in names}
    fits = all((b.size(0), a.size(1)) == modules[name].weight.shape for name, (a, b, _) in updates.items())
    return updates if fits else None


@torch.no_grad()
def updated(untrained, updates: dict[str, Update]):
    """A copy with weights of its own at `updates`; all other tensors are shared with `untrained`."""
    memo = {id(x): x for x in (*untrained.parameters(), *untrained.buffers())}
    for name, (a, b, scaling) in updates.items():
        weight = untrained.get_submodule(name).weight
        delta = b.to(weight.device) @ a.to(weight.device) * scaling
        memo[id(weight)] = nn.Parameter(weight + delta.to(weight.dtype), requires_grad=False)
    return deepcopy(untrained, memo)
