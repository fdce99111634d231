"""Small tokenizers of every family whose chat template TRL ships: bytes, and the control tokens of the template."""

import re
from pathlib import Path

import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

FOLDER = Path(trl.__file__).parent / "chat_templates"
TEMPLATES = {p.stem: p.read_text(encoding="utf-8") for p in FOLDER.glob("*.jinja") if not p.stem.endswith("_training")}
CONTROL = re.compile(
    r"<\|[^|>\s']+\|?>|<\w+\|>|<｜[^｜]+｜>|\[/?INST\]|\[gMASK\]|<sop>|</?think>|<(?:start|end)_of_\w+>|</s>"
)
TEXTS = ["the mill stood by the river until the flood came, and what the user said of it"] * 9


def byte_level(template: str) -> PreTrainedTokenizerFast:
    """Thoughts' tags are added tokens that are not special, as in Qwen's and DeepSeek's tokenizers."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    return with_template(backend, template, "<BOS>", "<EOS>")


def sentencepiece(template: str, *, space_first: bool = False) -> PreTrainedTokenizerFast:
    """With byte fallback: as Gemma's, or with a space before the text as Llama 2's."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    replaced = normalizers.Replace(" ", "\u2581")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), replaced]) if space_first else replaced
    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*parts, *([decoders.Strip(" ", 1, 0)] if space_first else [])])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=500, special_tokens=special))
    return with_template(backend, template, "<s>", "</s>", unk_token="<unk>")


def with_template(backend: Tokenizer, template: str, bos: str, eos: str, **more) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=eos, **more)
    found = dict.fromkeys(CONTROL.findall(template))
    tokenizer.add_tokens([AddedToken(token, special="think" not in token) for token in found])
    tokenizer.chat_template = template
    return tokenizer
