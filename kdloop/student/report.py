"""The audit as a page of text: the template's row, memory on this device, llama.cpp, what would be slow."""

from dataclasses import dataclass, fields

import torch

from kdloop.settings import Settings
from kdloop.student import footprint, memory
from kdloop.student.audit import Files, llamacpp_refuses
from kdloop.student.base import embedded_gguf
from kdloop.student.engines import CHATS
from kdloop.student.footprint import GIB, gib
from kdloop.student.probes import REFUSED, Row
from kdloop.student.transformers import attends_to_all, device_and_dtype, reply_dtype

TEXT = ("chat", "turns", "end")  # without which there is no chat
LARGE = 2 * GIB  # weights that a CPU reads for each token: more is slow
WIDE = 100_000  # tokens of a vocabulary


@dataclass(frozen=True)
class Audit:
    row: Row
    lines: tuple[str, ...]
    refusals: tuple[str, ...]  # each a sentence: none, and the student can be served and trained here

    def __str__(self) -> str:
        names = {
            f.name: f.name.replace("_", " ").replace("reasoning content", "reasoning_content") for f in fields(Row)
        }
        shown = [f"{name:<18} {getattr(self.row, field)}" for field, name in names.items()]
        refused = [f"refused            {why}" for why in self.refusals]
        return "\n".join([*shown, "", *self.lines, *refused])


def audit(files: Files, settings: Settings, engine: str, rank: int) -> Audit:
    """`engine` is that of chats, `rank` the adapters'."""
    shape, row = footprint.Shape.of(files.model, rank), Row.of(files.tokenizer)
    (device, dtype), refuses = device_and_dtype(), llamacpp_refuses(files)
    needs = needed(shape, settings, "transformers" if refuses and engine == "llamacpp" else engine, device, dtype)
    room = memory.free(device)
    refusals = [f"{name}: {getattr(row, name)}" for name in TEXT if getattr(row, name).status == REFUSED]
    if refuses and engine == "llamacpp":
        refusals.append(f"KDLOOP_ENGINE=llamacpp: {refuses}")
    both = {name: sum(parts.values()) for name, parts in needs.items()}
    refusals += [
        f"{name} needs {gib(need)}, and {gib(room)} are free on this {device.replace('cuda', 'GPU')}"
        for name, need in both.items()
        if need > room
    ][:1]
    lines = [
        f"{'model':<18} {described(files, shape)}",
        f"{'dtype':<18} {name_of(reply_dtype())} in replies, {name_of(dtype)} in rounds, on {device}{as_stored(files)}",
        *(f"{'memory, ' + name:<18} {gib(both[name])} ({told(parts)})" for name, parts in needs.items()),
        f"{'memory, free':<18} {gib(room)}",
        f"{'llama.cpp':<18} {'does not take it: ' + refuses if refuses else 'takes it'}",
        *(f"{'slow':<18} {why}" for why in slow(files, shape, settings, device, dtype, refuses)),
    ]
    return Audit(row, tuple(lines), tuple(refusals))


def needed(shape, settings: Settings, engine: str, device: str, dtype: torch.dtype) -> dict[str, dict]:
    """{"serving", "a round", "both": {what takes it: bytes}} on this device."""
    context, runtime = settings.context_tokens, {"runtime": footprint.RUNTIME[device]}
    if engine == "llamacpp":
        embedded = embedded_gguf(settings.student)
        size = embedded.stat().st_size if embedded else 2 * shape.parameters
        chats = footprint.serving_gguf(shape, size, context, CHATS)
    elif engine == "openai":
        chats = {}  # elsewhere
    else:
        chats = footprint.serving(shape, reply_dtype(), context, settings.bits)
    serving = chats | runtime
    one = footprint.training(shape, dtype, device, 2 * settings.round_max_tokens, settings.bits) | runtime
    names = dict.fromkeys([*serving, *one])
    return {
        "serving": serving,
        "a round": one,
        "both": {name: serving.get(name, 0) + one.get(name, 0) for name in names},
    }


def described(files: Files, shape: footprint.Shape) -> str:
    text = files.config.get_text_config()
    context = getattr(text, "max_position_embeddings", None)
    parts = [files.config.model_type, f"{shape.parameters / 1e6:,.0f} million parameters"]
    parts += [f"{text.vocab_size:,} tokens in its vocabulary"]
    return ", ".join(parts + ([f"context of {context:,}"] if context else []))


def as_stored(files: Files) -> str:
    if not files.stored:
        return f"; config says {name_of(files.config.dtype)}, weights are not here yet" if files.config.dtype else ""
    return "; stored as " + ", ".join(f"{dtype} ({gib(size)})" for dtype, size in files.stored.items())


def slow(files: Files, shape, settings: Settings, device: str, dtype: torch.dtype, refuses: str) -> list[str]:
    """What would be, or what is left out, a sentence each."""
    text, found = files.config.get_text_config(), []
    reads = shape.parameters * reply_dtype().itemsize
    if device == "cpu" and reads > LARGE:
        found.append(f"each token of a reply reads {gib(reads)} of weights from memory")
    if device == "cpu" and dtype is torch.float32:
        found.append("rounds compute in fp32: this CPU has no fast bf16")
    if device == "cpu" and refuses:
        found.append("replies come one at a time, by the transformers engine: llama.cpp does not take the student")
    if text.vocab_size > WIDE:
        logits = footprint.step_logits(text, dtype, device, 2 * settings.round_max_tokens)
        found.append(f"{text.vocab_size:,} logits a token: up to {gib(logits)} of them in a training step")
    if not attends_to_all(files.config):
        found.append("not all layers see all that came before: prompts are read all at once, no CUDA graphs on a GPU")
    context = getattr(text, "max_position_embeddings", None)
    if context and context < settings.context_tokens:
        found.append(f"it reads {context} tokens: set KDLOOP_CONTEXT_TOKENS={context}, not {settings.context_tokens}")
    return found


def told(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {gib(size)}" for name, size in parts.items() if size)


def name_of(dtype) -> str:
    return str(dtype).removeprefix("torch.")
