"""A LoRA adapter as mlx-lm reads it: adapters.safetensors with its names, and its adapter_config.json.

PEFT holds A as (r, in) and B as (out, r); mlx-lm holds `lora_a` as (in, r) and `lora_b` as (r, out), and multiplies by
`scale`, which is PEFT's alpha / r (mlx_lm/tuner/lora.py). `num_layers` counts from the last layer; -1 is all.
"""

import json
import re
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from kdloop.student.identity import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PEFT_PREFIX
from kdloop.student.vocabulary import NotConvertible

PLAIN = {"use_dora": False, "bias": "none", "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {}}
LAYER = re.compile(r"(?:.*\.)?layers\.\d+\.(.+)")


def write_adapter(adapter: Path, out: Path) -> Path:
    """Write PEFT's directory `adapter` as the directory `out`. Raises NotConvertible for more than plain LoRA."""
    config = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    for option, plain in PLAIN.items():
        if config.get(option, plain) not in (plain, None):
            raise NotConvertible(f"{adapter.name} has {option}={config[option]!r}; mlx-lm takes plain LoRA")
    tensors, keys = {}, set()
    for name, tensor in load_file(adapter / ADAPTER_WEIGHTS).items():
        module, _, side = name.removeprefix(PEFT_PREFIX).removesuffix(".weight").rpartition(".")
        inside = LAYER.fullmatch(module)
        if side not in ("lora_A", "lora_B") or not inside:
            raise NotConvertible(f"{adapter.name} trains {module}, for which mlx-lm has no place")
        tensors[f"{module}.{side.lower()}"] = np.ascontiguousarray(tensor.T)
        keys.add(inside[1])
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    parameters = {"rank": rank, "scale": scale, "dropout": 0.0, "keys": sorted(keys)}
    out.mkdir(parents=True, exist_ok=True)
    about = {"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": parameters}
    about |= {"model": config.get("base_model_name_or_path") or ""}
    save_file(tensors, out / "adapters.safetensors", metadata={"format": "mlx"})
    (out / ADAPTER_CONFIG).write_text(json.dumps(about, indent=1), encoding="utf-8")
    return out
