"""`python -m kdloop doctor --student NAME_OR_DIR`: what a student can do here, before anything is trained.

Its config, its tokenizer and the headers of its weights are read, never the weights: a model of 70 billion parameters
answers in seconds. What does not fit is refused in numbers.
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from kdloop.student import identity
from kdloop.student.base import NoStudent

FILES = ["*.json", "*.jinja", "*.model", "*.txt"]  # no weights
OFFLINE = """{name} is no directory here, and its config and tokenizer cannot be had from the Hub ({why}). Do one of:
  - name a model directory, or a name that the Hub knows (OWNER/NAME)
  - connect this machine to the Hub, and log in (hf auth login) where the model asks for it"""
# What transformers raises at a config that is a stranger's: a number that is none, heads that do not divide, a rope
# that it does not know.
STRANGE = (
    OSError,
    ValueError,
    TypeError,
    RuntimeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    StrictDataclassError,
)
LAYERS = 1000  # more are no model, and take long to describe


class Unfit(NoStudent):
    "What is named as the student is no causal language model for chats, or not whole"


@dataclass(frozen=True)
class Files:
    """A student without its weights. `model` lies on the meta device; `stored` is {dtype: bytes} of the weights' files,
    empty where none are here."""

    directory: Path
    config: Any
    tokenizer: object
    model: Any
    stored: dict[str, int]


def read(student: str) -> Files:
    """Of a model directory or a Hub name. Raises Unfit, a sentence."""
    directory = find(student)
    known = described(directory)
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except STRANGE as error:
        raise Unfit(f"The config of {student} describes no causal language model: {first_line(error)}") from error
    writes_none(known, config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except STRANGE as error:
        raise Unfit(f"{student} has no tokenizer that can be read: {first_line(error)}") from error
    if not tokenizer.chat_template:
        raise Unfit(f"{student} has no chat template: it is a base model. Take the one that was made for chats")
    if len(tokenizer) > (most := config.get_text_config().vocab_size):
        raise Unfit(f"The tokenizer of {student} has {len(tokenizer)} tokens, its config {most}: not of one model")
    return Files(directory, config, tokenizer, model, weights(directory, model))


def find(student: str) -> Path:
    path = Path(student)
    if path.is_dir():
        return path
    if path.is_file():
        raise Unfit(f"{student} is a file: a student is a directory with config.json, a tokenizer and safetensors")
    if not identity.NAME.fullmatch(student):
        raise Unfit(f"There is no directory {student}, nor is that a name of the Hub (OWNER/NAME)")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(student, allow_patterns=FILES))
    except (OSError, ValueError) as error:  # offline, unknown, no access
        raise Unfit(OFFLINE.format(name=student, why=first_line(error))) from error


def described(directory: Path) -> dict:
    """config.json, as far as it is one."""
    if (directory / identity.ADAPTER_CONFIG).is_file() and not (directory / identity.CONFIG).is_file():
        raise Unfit(f"{directory} is an adapter: name the model that it is for")
    if not (directory / identity.CONFIG).is_file():
        raise Unfit(f"{directory} has no {identity.CONFIG}: it is no model directory")
    try:
        known = json.loads((directory / identity.CONFIG).read_text(encoding="utf-8"))
        layers = known.get("num_hidden_layers") or 0
    except (ValueError, AttributeError) as error:
        raise Unfit(f"{directory / identity.CONFIG} is no whole JSON object ({first_line(error)})") from error
    if isinstance(layers, int) and layers > LAYERS:
        raise Unfit(f"{directory / identity.CONFIG} describes {layers} layers, which no model has")
    return known


def writes_none(known: dict, config) -> None:
    """Raises Unfit for an encoder, which transformers makes a language model of all the same, and for weights that are
    stored in a way that no adapter can be added to."""
    named, writing = known.get("architectures") or [], set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    encoder = getattr(config, "is_decoder", None) is False and not writing & set(named)
    if config.is_encoder_decoder or encoder or (named and not writing & set(named)):
        kind = named[0] if named else config.model_type
        raise Unfit(f"It is a {kind}, which does not write on from a text: take a causal language model")
    if quantized := known.get("quantization_config"):
        how = quantized.get("quant_method", "some way") if isinstance(quantized, dict) else "some way"
        raise Unfit(f"Its weights are quantized ({how}); kdloop adds its adapters to plain ones: take the original")


def weights(directory: Path, model) -> dict[str, int]:
    """{dtype: bytes} by the headers of the files. Raises Unfit where they are cut off, or too few for the config."""
    stored: dict[str, int] = {}
    numbers = 0
    try:
        for file in sorted(directory.glob("*.safetensors")):
            for tensor in identity.header(file)[1].values():
                begin, end = tensor["data_offsets"]
                stored[tensor["dtype"]] = stored.get(tensor["dtype"], 0) + end - begin
                numbers += torch.Size(tensor["shape"]).numel()
    except identity.Incomplete as error:
        raise Unfit(str(error)) from error
    wanted = sum(p.numel() for p in model.parameters())
    if stored and numbers < 0.99 * wanted:
        raise Unfit(f"The weights in {directory} are {numbers:,} numbers, where its config describes {wanted:,}")
    return stored


def llamacpp_refuses(files: Files) -> str:
    """Why the llama.cpp engine does not take the student; "" where it does. By what writes the file (gguf.py)."""
    from gguf import GGUFWriter, get_tensor_name_map
    from gguf.constants import MODEL_ARCH_NAMES

    from kdloop.student import gguf
    from kdloop.student.vocabulary import NotConvertible, add_tokenizer

    config = files.model.config
    try:
        kind = gguf.family(config.model_type)
        writer = GGUFWriter(None, MODEL_ARCH_NAMES[kind.arch])
        gguf.add_shape(writer, config)
        add_tokenizer(writer, files.tokenizer, config.vocab_size)
    except NotConvertible as error:
        return str(error).partition(": set KDLOOP_ENGINE")[0].partition(". Set KDLOOP_ENGINE")[0]
    names = get_tensor_name_map(kind.arch, config.num_hidden_layers)
    for name in files.model.state_dict():
        if names.get_name(name, try_suffixes=(".weight", ".bias")) is None:
            return f"it has {name}, which a GGUF of a {config.model_type} has no place for"
    return "" if importlib.util.find_spec("xllamacpp") else "xllamacpp is not installed (requirements-embedded.txt)"


def first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
