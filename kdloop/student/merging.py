"""Adapters in the base's weights: replies carry no LoRA overhead, and what training patches never serves.

    W' = W + alpha / r  B A                                                              Hu et al. 2022, Eq. 3

A copy holds its own weights where the adapter changes them and shares all others with the base. kdloop's own adapters
are plain LoRA and are added here, from a file or from a model in training; any other goes through PEFT.
"""

import json
from copy import deepcopy
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn

from kdloop.student import AdapterRefused
from kdloop.student.identity import header

PREFIX = "base_model.model."
A, B = ".lora_A.weight", ".lora_B.weight"
SPECIAL = (  # what plain LoRA has none of
    *("alpha_pattern", "rank_pattern", "modules_to_save", "target_parameters", "trainable_token_indices", "use_dora"),
    *("use_rslora", "fan_in_fan_out", "lora_bias", "use_qalora", "layer_replication", "megatron_config"),
)
Update = tuple[Tensor, Tensor, float]  # A, B, scaling


def merged(untrained, adapter: Path | None):
    """For inference: a copy with the adapter in its weights, or the model itself where there is none. Raises
    AdapterRefused for an adapter of a model of another shape."""
    if adapter is None:
        return ready(untrained)
    config = json.loads((Path(adapter) / "adapter_config.json").read_text())
    updates = plain(untrained, config, adapter)
    if updates is None:
        return ready(adapted(deepcopy(untrained), adapter).merge_and_unload())
    return ready(updated(untrained, updates))


def adapted(model, adapter: Path) -> PeftModel:
    """PEFT leaves out what an adapter has for layers that are not there, and makes up what it lacks."""
    try:
        stored = {name for name in header(Path(adapter) / "adapter_model.safetensors")[1] if ".lora_" in name}
        found = PeftModel.from_pretrained(model, adapter)
    except (RuntimeError, ValueError, KeyError) as error:
        why = str(error).strip().partition("\n")[0][:200]
        raise AdapterRefused(f"The adapter in {adapter} does not fit the student ({why})") from error
    wanted = {name.replace(".default.", ".") for name, _ in found.named_parameters() if ".lora_" in name}
    if stored != wanted:
        odd = min(stored ^ wanted)
        raise AdapterRefused(f"The adapter in {adapter} is of a student with other layers: {odd}")
    return found


def merged_with(untrained, training: PeftModel):
    """The same of a model's `default` adapter as it is now."""
    modules = training.get_base_model().named_modules()
    layers = {name: m for name, m in modules if "default" in getattr(m, "lora_A", {})}
    lora = {name: (m.lora_A["default"].weight, m.lora_B["default"].weight) for name, m in layers.items()}
    return ready(updated(untrained, {name: (*ab, layers[name].scaling["default"]) for name, ab in lora.items()}))


def ready(model):
    return model.eval().requires_grad_(False)


def plain(untrained, config: dict, adapter: Path) -> dict[str, Update] | None:
    """{module: its update}; None where the adapter is more, or other, than matrices of linear layers."""
    file, kind = Path(adapter) / "adapter_model.safetensors", (config.get("peft_type"), config.get("bias"))
    if kind != ("LORA", "none") or any(config.get(name) for name in SPECIAL) or not file.exists():
        return None
    tensors, scaling = load_file(file), config["lora_alpha"] / config["r"]
    names = {key.removeprefix(PREFIX).removesuffix(A) for key in tensors if key.endswith(A)}
    known, linear = {PREFIX + name + end for name in names for end in (A, B)}, dict(untrained.named_modules())
    targets = config["target_modules"]
    ends = tuple(f".{target}" for target in targets)  # PEFT takes whole names and last parts of names
    wanted = {name for name, m in linear.items() if type(m) is nn.Linear and f".{name}".endswith(ends)}
    if isinstance(targets, str) or tensors.keys() != known or names != wanted:
        return None
    updates = {name: (tensors[PREFIX + name + A], tensors[PREFIX + name + B], scaling) for name in names}
    fits = all((b.size(0), a.size(1)) == linear[name].weight.shape for name, (a, b, _) in updates.items())
    return updates if fits else None


@torch.no_grad()
def updated(untrained, updates: dict[str, Update]):
    """A copy whose weights at `updates` are its own; all other tensors are the base's."""
    mine = {id(x): x for x in (*untrained.parameters(), *untrained.buffers())}
    for name, (a, b, scaling) in updates.items():
        weight = untrained.get_submodule(name).weight
        delta = b.to(weight.device) @ a.to(weight.device) * scaling
        mine[id(weight)] = nn.Parameter(weight + delta.to(weight.dtype), requires_grad=False)
    return deepcopy(untrained, mine)
