"""A student's tokenizer in its GGUF: there llama.cpp reads how the ids that it samples are spelled and which end turns.

Two kinds: byte-level BPE (its "gpt2"), and SentencePiece with byte fallback (its "llama": Gemma, Llama 1 and 2,
TinyLlama). The second has no merges there but a score for each piece, and joins the pair with the highest one: the
order of the merges says what it is.
"""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from gguf import GGUFWriter, SpecialVocab
from gguf.constants import TokenType

from kdloop.student.template import Template, UnknownTemplate

BYTE = re.compile("<0x[0-9A-F]{2}>")
OTHERWISE = "Set KDLOOP_ENGINE=transformers"


class NotConvertible(ValueError):
    "The adapter, or the student under it, has a shape that is not written as GGUF"


def add_tokenizer(writer: GGUFWriter, tokenizer, size: int) -> None:
    """Raises NotConvertible for a tokenizer of another kind."""
    kind = json.loads(tokenizer.backend_tokenizer.to_str())
    model, steps = kind["model"], json.dumps([kind["decoder"], kind["pre_tokenizer"]])
    known = {id: token for token, id in tokenizer.get_vocab().items()}
    if model["type"] == "BPE" and "ByteLevel" in steps:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm" if "Digits" in json.dumps(kind["pre_tokenizer"]) else "qwen2")
    elif model["type"] == "BPE" and model.get("byte_fallback") and "ByteFallback" in steps:
        if missing := {f"<0x{byte:02X}>" for byte in range(256)} - set(known.values()):
            raise NotConvertible(f"The student's tokenizer lacks {len(missing)} of 256 bytes. {OTHERWISE}")
        writer.add_tokenizer_model("llama")
        writer.add_token_scores(scores(model, known, size))
        writer.add_add_space_prefix(puts_a_space_first(kind))
    else:
        raise NotConvertible(
            f"The student's tokenizer is neither byte-level BPE nor SentencePiece with byte fallback. {OTHERWISE}"
        )
    writer.add_token_list([known.get(id, f"[unused {id}]") for id in range(size)])
    writer.add_token_types(token_types(tokenizer, known, size, model.get("byte_fallback")))
    add_special(writer, tokenizer, size)


def token_types(tokenizer, known: dict[int, str], size: int, has_bytes: bool) -> list[TokenType]:
    special = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}

    def kind(id: int) -> TokenType:
        if id not in known:
            return TokenType.UNUSED
        if has_bytes and BYTE.fullmatch(known[id]):
            return TokenType.BYTE
        return TokenType.CONTROL if id in special else TokenType.NORMAL

    return [kind(id) for id in range(size)]


def scores(model: dict, known: dict[int, str], size: int) -> list[float]:
    """Minus the place of the first merge that makes a piece; of what no merge makes, less than of all that one does."""
    first: dict[str, int] = {}
    for place, pair in enumerate(model["merges"]):
        first.setdefault("".join(pair if isinstance(pair, list) else pair.split(" ")), place)
    return [-float(first.get(known.get(id, ""), len(model["merges"]))) for id in range(size)]


def puts_a_space_first(kind: dict) -> bool:
    steps = json.dumps([kind["normalizer"], kind["pre_tokenizer"]], ensure_ascii=False)
    return "Prepend" in steps or '"prepend_scheme": "first"' in steps or '"prepend_scheme": "always"' in steps


def add_special(writer: GGUFWriter, tokenizer, size: int) -> None:
    """Which ids begin and end, and the chat template; the end that the template gives a turn beside the tokenizer's."""
    with TemporaryDirectory() as directory:  # a Hub name is none
        tokenizer.save_pretrained(directory)
        SpecialVocab(Path(directory), load_merges=True, n_vocab=size).add_to_gguf(writer, quiet=True)
    try:
        end = Template.of(tokenizer).end
    except UnknownTemplate:
        end = None
    if end not in (None, tokenizer.eos_token_id) and "tokenizer.ggml.eot_token_id" not in writer.kv_data[0]:
        writer.add_eot_token_id(end)
    writer.add_add_bos_token(False)
