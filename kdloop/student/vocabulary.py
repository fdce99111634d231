"""A student's tokenizer in its GGUF, from which llama.cpp decodes the ids that it samples and knows which end turns.

Two kinds: byte-level BPE (llama.cpp's "gpt2"), and SentencePiece with byte fallback (its "llama": Gemma, Llama 1 and 2,
TinyLlama). For the second llama.cpp has no merges but a score per piece, and merges the pair with the highest score:
the scores follow from the order of the merges.
"""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from gguf import GGUFWriter, SpecialVocab
from gguf.constants import TokenType

from kdloop.student.template import Template, UnknownTemplate

BYTE = re.compile("<0x[0-9A-F]{2}>")
REMEDY = "Set KDLOOP_ENGINE=transformers"


class NotConvertible(ValueError):
    "The adapter, or its student, cannot be written as GGUF"


def add_tokenizer(writer: GGUFWriter, tokenizer, size: int) -> None:
    """Write a vocabulary of `size` ids. Raises NotConvertible for a tokenizer of another kind."""
    kind = json.loads(tokenizer.backend_tokenizer.to_str())
    model, steps = kind["model"], json.dumps([kind["decoder"], kind["pre_tokenizer"]])
    tokens = {id: token for token, id in tokenizer.get_vocab().items()}
    if model["type"] == "BPE" and "ByteLevel" in steps:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm" if "Digits" in json.dumps(kind["pre_tokenizer"]) else "qwen2")
    elif model["type"] == "BPE" and model.get("byte_fallback") and "ByteFallback" in steps:
        if missing := {f"<0x{byte:02X}>" for byte in range(256)} - set(tokens.values()):
            raise NotConvertible(f"The student's tokenizer lacks {len(missing)} of 256 bytes. {REMEDY}")
        writer.add_tokenizer_model("llama")
        writer.add_token_scores(scores(model, tokens, size))
        writer.add_add_space_prefix(adds_space_prefix(kind))
    else:
        raise NotConvertible(
            f"The student's tokenizer is neither byte-level BPE nor SentencePiece with byte fallback. {REMEDY}"
        )
    writer.add_token_list([tokens.get(id, f"[unused {id}]") for id in range(size)])
    writer.add_token_types(token_types(tokenizer, tokens, size, model.get("byte_fallback")))
    add_special(writer, tokenizer, size)


def token_types(tokenizer, tokens: dict[int, str], size: int, has_bytes: bool) -> list[TokenType]:
    special = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}

    def kind(id: int) -> TokenType:
        if id not in tokens:
            return TokenType.UNUSED
        if has_bytes and BYTE.fullmatch(tokens[id]):
            return TokenType.BYTE
        return TokenType.CONTROL if id in special else TokenType.NORMAL

    return [kind(id) for id in range(size)]


def scores(model: dict, tokens: dict[int, str], size: int) -> list[float]:
    """Of each id, minus the rank of the first merge that gives its piece; lower than all of these where none does."""
    rank: dict[str, int] = {}
    for i, pair in enumerate(model["merges"]):
        rank.setdefault("".join(pair if isinstance(pair, list) else pair.split(" ")), i)
    return [-float(rank.get(tokens.get(id, ""), len(model["merges"]))) for id in range(size)]


def adds_space_prefix(kind: dict) -> bool:
    """Whether a tokenizer (as JSON) puts a space before a text, as SentencePiece's add_dummy_prefix."""
    steps = json.dumps([kind["normalizer"], kind["pre_tokenizer"]], ensure_ascii=False)
    return "Prepend" in steps or '"prepend_scheme": "first"' in steps or '"prepend_scheme": "always"' in steps


def add_special(writer: GGUFWriter, tokenizer, size: int) -> None:
    """The ids of special tokens, the template's end-of-turn token among them, and the chat template."""
    with TemporaryDirectory() as directory:  # also for a tokenizer that has a Hub name and no directory
        tokenizer.save_pretrained(directory)
        SpecialVocab(Path(directory), load_merges=True, n_vocab=size).add_to_gguf(writer, quiet=True)
    try:
        end = Template.of(tokenizer).end
    except UnknownTemplate:
        end = None
    if end not in (None, tokenizer.eos_token_id) and "tokenizer.ggml.eot_token_id" not in writer.kv_data[0]:
        writer.add_eot_token_id(end)
    writer.add_add_bos_token(False)
