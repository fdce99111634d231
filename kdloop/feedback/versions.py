"""A version to take elsewhere, in the form of another tool, loaded back and compared before it is handed over.

`check.json` beside the files has the champion's greedy tokens after a few prompts, so that whoever loads them can
compare; what was compared here is written into the card.
"""

import importlib.metadata
import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kdloop.feedback import cards, exports
from kdloop.settings import Settings
from kdloop.student import EngineUnavailable
from kdloop.student.base import base_name, find_student, licence, origin, read_weights
from kdloop.student.identity import identity, name_base, named_base
from storage import checkpoints
from storage.checkpoints import Checkpoint
from storage.conversations import as_prompt

PROBES = ("What should I do on a rainy Sunday?", "Name three birds.", "Why is the sky blue? One sentence.")
TOKENS = 24  # of each greedy completion
UNCHECKED = "Not loaded back: `python -m kdloop export --version N` writes the files and does."


@dataclass(frozen=True)
class Form:
    """`write(student, adapter, out)` fills the directory; `tokens(student, out, heads)` are the greedy ids by the tool
    that reads the form, None where that is not installed; `tool` is that tool's package."""

    title: str
    write: Callable[[str, Path, Path], None]
    tokens: Callable[[str, Path, list[list[int]]], list[list[int]]] | None
    tool: str


def write(settings: Settings, k: Checkpoint, form: str, out: Path, check: bool = True) -> str:
    """Write a version in one of FORMS, with its card; what was compared, as a sentence. To `check` is to load it twice
    more. Raises ValueError for v0 and an unknown form, BrokenCheckpoint, and NotConvertible where the form cannot hold
    the version."""
    if form not in FORMS:
        raise ValueError(f"Unknown form {form!r}; there are {', '.join(FORMS)}")
    student = find_student(settings.student, settings.home)
    adapter = checkpoints.adapter_dir(settings.db, k, identity(student))
    if adapter is None:
        raise ValueError("v0 is the base student: it has no adapter")
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise ValueError(f"{out} is not empty: name a new directory")
    published = named_base(adapter) or base_name(settings.student, settings.home)
    FORMS[form].write(student, adapter, out)
    if (out / "adapter_model.safetensors").exists():
        name_base(out, published)
        checkpoints.seal(out, checkpoints.manifest(out))
    found = compared(FORMS[form], student, adapter, out) if check else UNCHECKED
    card = cards.of_version(
        settings.db, k, published, licence(settings.student, settings.home), origin(settings.student, settings.home)
    )
    (out / "README.md").write_text(f"{card}\n## Loaded back\n\n{found}\n", encoding="utf-8")
    return found


def compared(form: Form, student: str, adapter: Path, out: Path) -> str:
    """Do the files give the champion's greedy tokens in the tool that they are for? Writes check.json."""
    from kdloop.student.transformers import TransformersEngine

    engine = TransformersEngine(student).load(adapter)
    heads, ends = [engine.template.prompt_ids(as_prompt(q)) for q in PROBES], engine.template.ends
    wanted = [without(ids, ends) for ids in generated(engine.model, heads)]
    told = {"prompts": heads, "completions": wanted, "about": "greedy tokens of the version after these prompts"}
    (out / "check.json").write_text(json.dumps(told), encoding="utf-8")
    if form.tokens is None or importlib.util.find_spec(form.tool.replace("-", "_")) is None:
        return (
            f"Not loaded back: {form.tool} is not installed here. `check.json` has the greedy tokens to compare with."
        )
    try:
        found = form.tokens(student, out, heads)
    except (EngineUnavailable, RuntimeError, ValueError, OSError) as error:
        return f"Could not be loaded back by {form.tool} {version(form.tool)}: {str(error)[:300]}"
    same = sum(agreeing(a, without(b, ends)) for a, b in zip(wanted, found, strict=True))
    n = sum(map(len, wanted))
    return f"Loaded back by {form.tool} {version(form.tool)}: {same} of {n} greedy tokens are the version's own."


def without(ids: list[int], ends: tuple[int, ...]) -> list[int]:
    """Without the end of the turn, which not every tool gives back."""
    return [id for id in ids if id not in ends]


def agreeing(wanted: list[int], found: list[int]) -> int:
    """How many of the first tokens are the same, up to the first that is not."""
    pairs = enumerate(zip(wanted, found, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(wanted), len(found)))


def version(tool: str) -> str:
    return importlib.metadata.version(tool)


def generated(model, heads: list[list[int]]) -> list[list[int]]:
    import torch

    found = []
    for head in heads:
        ids = torch.tensor([head])
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False)
        found.append(out[0, len(head) :].tolist())
    return found


def as_adapter(student: str, adapter: Path, out: Path) -> None:
    shutil.copytree(adapter, out, dirs_exist_ok=True)


def by_peft(student: str, out: Path, heads: list[list[int]]) -> list[list[int]]:
    import torch
    from peft import PeftModel

    return generated(PeftModel.from_pretrained(read_weights(student, torch.float32), str(out)), heads)


def by_transformers(student: str, out: Path, heads: list[list[int]]) -> list[list[int]]:
    import torch

    return generated(read_weights(out, torch.float32), heads)


def as_gguf(student: str, adapter: Path, out: Path) -> None:
    from kdloop.student import gguf

    gguf.write_adapter(adapter, Path(student), out / "adapter.gguf")


def as_ollama(student: str, adapter: Path, out: Path) -> None:
    from transformers import AutoTokenizer

    from kdloop.student import gguf, ollama

    text = ollama.modelfile(AutoTokenizer.from_pretrained(student))  # first: it says at once what cannot be said
    with exports.merged_directory(student, adapter) as merged:
        gguf.write_student(merged, out / "model.gguf")
    (out / "Modelfile").write_text(text, encoding="utf-8")


def by_llamacpp(student: str, out: Path, heads: list[list[int]]) -> list[list[int]]:
    """Of model.gguf alone: what a server of it answers to the prompts as text, which it tokenizes itself."""
    from transformers import AutoTokenizer

    from kdloop.student.llamacpp import OwnServer

    tokenizer, found = AutoTokenizer.from_pretrained(student), []
    server = OwnServer(student, out / "model.gguf", 1024, 1, None)
    for head in heads:
        text = tokenizer.decode(head, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        asked = {"prompt": text, "n_predict": TOKENS, "temperature": 0.0, "return_tokens": True, "cache_prompt": False}
        address = str(server.client.base_url).removesuffix("v1/") + "completion"
        found.append(server.client.post(address, body=asked, cast_to=object)["tokens"])
    return found


def as_mlx(student: str, adapter: Path, out: Path) -> None:
    from kdloop.student import mlx

    mlx.write_adapter(adapter, out)


def by_mlx(student: str, out: Path, heads: list[list[int]]) -> list[list[int]]:
    import mlx.core as mx
    from mlx_lm import load
    from mlx_lm.generate import generate_step

    model, _ = load(student, adapter_path=str(out))
    return [[int(token) for token, _ in generate_step(mx.array(head), model, max_tokens=TOKENS)] for head in heads]


FORMS = {
    "adapter": Form("LoRA adapter (PEFT)", as_adapter, by_peft, "peft"),
    "gguf": Form("LoRA adapter (GGUF, for llama.cpp)", as_gguf, None, "llama.cpp"),
    "merged": Form("Merged weights (safetensors)", exports.merge, by_transformers, "transformers"),
    "ollama": Form("Merged weights (GGUF) with an Ollama Modelfile", as_ollama, by_llamacpp, "xllamacpp"),
    "mlx": Form("LoRA adapter (MLX)", as_mlx, by_mlx, "mlx-lm"),
}
