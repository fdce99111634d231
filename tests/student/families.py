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
TEXTS = ["the mill stood by the river until the flood came, and what the user said of it [INST] [/INST] <|user|>"] * 9


def byte_level(template: str) -> PreTrainedTokenizerFast:
    """Thoughts' tags are added tokens that are not special, as in Qwen's and DeepSeek's tokenizers."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, show_progress=False, initial_alphabet=alphabet)
    )
    named = {"bos_token": "<BOS>", "eos_token": "<EOS>", "pad_token": "<PAD>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **named, chat_template=template)
    found = dict.fromkeys(CONTROL.findall(template or ""))
    tokenizer.add_tokens([AddedToken(token, special="think" not in token) for token in found])
    return tokenizer


def sentencepiece(template: str, *, space_first: bool = False) -> PreTrainedTokenizerFast:
    """With byte fallback: as Gemma's, or with a space before the text as Llama 2's. Merges as transformers makes them
    of a SentencePiece model: all ways to make a piece, the most frequent piece first."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trained.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=200, show_progress=False))
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += sorted(trained.get_vocab(), key=trained.get_vocab().get)
    vocabulary = {piece: id for id, piece in enumerate(dict.fromkeys(pieces))}
    splits = [(piece[:at], piece[at:]) for piece in list(vocabulary)[259:] for at in range(1, len(piece))]
    merges = [pair for pair in splits if set(pair) <= vocabulary.keys()]
    backend = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    replaced = normalizers.Replace(" ", "\u2581")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), replaced]) if space_first else replaced
    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*parts, *([decoders.Strip(" ", 1, 0)] if space_first else [])])
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named, chat_template=template)
