"""A PEFT LoRA adapter as a GGUF one, which llama.cpp lays over the base's own GGUF.

llama.cpp keeps the rows of q and k of each head interleaved, the way its rotary embedding reads them; transformers
keeps them in two halves. The rows of these two layers' lora_B are put in that order, everything else stays as it is.
"""

import json
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, get_tensor_name_map
from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFType
from safetensors.numpy import load_file

PREFIX = "base_model.model."
PLAIN = {"use_dora": False, "bias": "none", "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {}}


class NotConvertible(ValueError):
    "The adapter, or the student under it, has a shape that this file does not write"


def write_adapter(adapter: Path, student: Path, out: Path) -> Path:
    """Write the adapter directory `adapter`, trained on the model directory `student`, as the GGUF file `out`.

    Raises NotConvertible for a student that is no llama, and for adapters that are more than plain LoRA.
    """
    base, lora = (json.loads((d / f).read_text()) for d, f in ((student, "config.json"), (adapter, CONFIG)))
    arch = architecture(base["model_type"])
    for option, plain in PLAIN.items():
        if lora.get(option, plain) != plain:
            raise NotConvertible(f"{adapter.name} has {option}={lora[option]!r}; a GGUF adapter holds plain LoRA only")
    names = get_tensor_name_map(arch, base["num_hidden_layers"])
    writer = GGUFWriter(out, MODEL_ARCH_NAMES[arch])
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", lora["lora_alpha"] * (lora["r"] ** 0.5 if lora["use_rslora"] else 1))
    for name, tensor in load_file(adapter / "adapter_model.safetensors").items():
        layer, _, side = name.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
        target = names.get_name(layer)
        if target is None or side not in ("lora_A", "lora_B"):
            raise NotConvertible(f"{adapter.name} trains {layer}, which a GGUF adapter has no place for")
        if side == "lora_B":
            tensor = interleaved(tensor, layer, base)
        writer.add_tensor(f"{target}.weight.{side.lower()}", tensor.astype(np.float32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return out


CONFIG = "adapter_config.json"


def architecture(model_type: str) -> MODEL_ARCH:
    if model_type != "llama":
        raise NotConvertible(
            f"The student is a {model_type}; a GGUF adapter is written for a llama only: set KDLOOP_ENGINE=transformers"
        )
    return MODEL_ARCH.LLAMA


def interleaved(rows: np.ndarray, layer: str, base: dict) -> np.ndarray:
    """(out, rank) with the rows of each head of q and k from two halves to pairs; other layers unchanged."""
    heads = {"q_proj": base["num_attention_heads"], "k_proj": base["num_key_value_heads"]}.get(layer.split(".")[-1])
    if heads is None:
        return rows
    return rows.reshape(heads, 2, len(rows) // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)
