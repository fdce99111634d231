"""Students and LoRA adapters as GGUF, which llama.cpp reads: Llama, Qwen and Gemma families.

For the Llama family llama.cpp has the rows of each head of q and k interleaved, as its rotary embedding reads them;
transformers has them in two halves. Gemma's norm weights are added to 1 in transformers; a GGUF has the sum.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, get_tensor_name_map
from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFType
from safetensors.numpy import load_file

from kdloop.student.base import read_weights
from kdloop.student.identity import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG, PEFT_PREFIX
from kdloop.student.vocabulary import NotConvertible, add_tokenizer

PLAIN_LORA = {"use_dora": False, "bias": "none", "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {}}


@dataclass(frozen=True)
class Family:
    """How llama.cpp stores a family's weights."""

    arch: MODEL_ARCH
    interleaved: bool = False
    norms_add_to_one: bool = False


FAMILIES = {
    "llama": Family(MODEL_ARCH.LLAMA, interleaved=True),
    "qwen2": Family(MODEL_ARCH.QWEN2),
    "qwen3": Family(MODEL_ARCH.QWEN3),
    "gemma": Family(MODEL_ARCH.GEMMA, norms_add_to_one=True),
    "gemma3_text": Family(MODEL_ARCH.GEMMA3, norms_add_to_one=True),
}


def family(model_type: str) -> Family:
    """Raises NotConvertible for a model_type that is not in FAMILIES."""
    if model_type not in FAMILIES:
        raise NotConvertible(
            f"The student is a {model_type}; GGUF is written for {', '.join(FAMILIES)}: set KDLOOP_ENGINE=transformers"
        )
    return FAMILIES[model_type]


def write_adapter(adapter: Path, student: Path, out: Path) -> Path:
    """Write the adapter directory `adapter`, trained on the model directory `student`, as the GGUF file `out`.

    Raises NotConvertible for a student of another family, and for adapters that are more than plain LoRA.
    """
    base, lora = (json.loads((d / f).read_text()) for d, f in ((student, CONFIG), (adapter, ADAPTER_CONFIG)))
    kind = family(base["model_type"])
    for option, plain in PLAIN_LORA.items():
        if lora.get(option, plain) != plain:
            raise NotConvertible(f"{adapter.name} has {option}={lora[option]!r}; a GGUF adapter holds plain LoRA only")
    names = get_tensor_name_map(kind.arch, base["num_hidden_layers"])
    writer = GGUFWriter(out, MODEL_ARCH_NAMES[kind.arch])
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    add_base(writer, lora.get("base_model_name_or_path") or "")
    writer.add_float32("adapter.lora.alpha", lora["lora_alpha"] * (lora["r"] ** 0.5 if lora["use_rslora"] else 1))
    for name, tensor in load_file(adapter / ADAPTER_WEIGHTS).items():
        layer, _, side = name.removeprefix(PEFT_PREFIX).removesuffix(".weight").rpartition(".")
        target = names.get_name(layer)
        if target is None or side not in ("lora_A", "lora_B"):
            raise NotConvertible(f"{adapter.name} trains {layer}, which a GGUF adapter has no place for")
        if side == "lora_B" and kind.interleaved:
            tensor = interleaved(tensor, layer, base)
        writer.add_tensor(f"{target}.weight.{side.lower()}", tensor.astype(np.float32))
    return finish(writer, out)


def write_student(student: str | Path, out: Path, dtype: type = np.float16) -> Path:
    """Write the model directory or Hub name `student` as the GGUF file `out`; matrices in `dtype`, vectors in fp32.

    Its tokenizer serves to decode completions alone: prompts are sent as token ids. Raises NotConvertible for another
    family, for scaled rotary embeddings and for tokenizers that llama.cpp would read differently (vocabulary.py).
    """
    import torch
    from transformers import AutoTokenizer

    model = read_weights(student, torch.float32)
    config, kind = model.config, family(model.config.model_type)
    names = get_tensor_name_map(kind.arch, config.num_hidden_layers)
    writer = GGUFWriter(out, MODEL_ARCH_NAMES[kind.arch])
    add_shape(writer, config)
    add_tokenizer(writer, AutoTokenizer.from_pretrained(student), config.vocab_size)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        rows, target = tensor.numpy(), names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise NotConvertible(f"{student} has {name}, which a GGUF of a {config.model_type} has no place for")
        if kind.interleaved:
            rows = interleaved(rows, name.rpartition(".")[0], config.to_dict())
        if kind.norms_add_to_one and name.endswith("norm.weight"):
            rows = rows + 1
        writer.add_tensor(target, rows.astype(dtype if rows.ndim > 1 else np.float32))
    return finish(writer, out)


def add_base(writer: GGUFWriter, name: str) -> None:
    """The base model's name; nothing where it is a path of this machine."""
    if not name or os.path.isabs(name):
        return
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, name.rpartition("/")[2])
    if "/" in name:
        writer.add_base_model_organization(0, name.partition("/")[0])
        writer.add_base_model_repo_url(0, f"https://huggingface.co/{name}")


def add_shape(writer: GGUFWriter, config) -> None:
    """The sizes of the architecture by llama.cpp's keys. Raises NotConvertible for scaled rotary embeddings, and for
    another scale of attention than that of the heads' size."""
    rope = config.rope_parameters
    ropes = {"": rope} if "rope_type" in rope else {"full_attention": {}, **rope}  # by kind of layer
    if any(r.get("rope_type", "default") != "default" for r in ropes.values()):
        raise NotConvertible(f"GGUF is written for plain rotary embeddings; the student has {rope}")
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    if getattr(config, "query_pre_attn_scalar", size) != size:
        raise NotConvertible("llama.cpp scales this family's attention by the heads' size; the student does not")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(ropes.get("", ropes.get("full_attention"))["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if "sliding_attention" in ropes:
        writer.add_rope_freq_base_swa(ropes["sliding_attention"]["rope_theta"])
        writer.add_sliding_window(config.sliding_window)


def finish(writer: GGUFWriter, out: Path) -> Path:
    """Write the file."""
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return out


def interleaved(rows: np.ndarray, layer: str, base: dict) -> np.ndarray:
    """(out, ...) with the rows of each head of q and k from two halves to pairs; other layers unchanged."""
    heads = {"q_proj": base["num_attention_heads"], "k_proj": base["num_key_value_heads"]}.get(layer.split(".")[-1])
    if heads is None:
        return rows
    return rows.reshape(heads, 2, len(rows) // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)
