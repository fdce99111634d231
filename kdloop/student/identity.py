"""Which base student this is: a digest of its files' contents, not of its name or their times; and its public name.

Three short pieces of each tensor are read, about a thousandth of the file: enough to tell a student from one that was
trained further.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

CONFIG = "config.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # PEFT's files
PEFT_PREFIX = "base_model.model."  # of the names of an adapter's tensors
CONVERTED = "converted_from.json"  # in a directory that was converted from a GGUF: {"file", "identity"} of that
PIECE = 256  # bytes
PIECES = 512  # of a file of another format than safetensors: 128 kB
WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt")
TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
TEMPLATE = ("chat_template.jinja", "tokenizer_config.json")
IRRELEVANT = (
    "_name_or_path",
    "name_or_path",
    "transformers_version",
    "torch_dtype",
    "dtype",
)  # of a config: not the model
CACHED = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/[^/]+/?$")
NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


class Incomplete(ValueError):
    "A model directory that lacks files, or whose files are truncated"


def identity(directory: str | Path) -> str:
    """24 hexadecimal digits of a model directory or a GGUF file: of its weights, shape, tokenizer and template. Raises
    Incomplete for truncated files."""
    path = Path(directory)
    files = [path] if path.is_file() else sorted(f for f in path.iterdir() if f.is_file())
    return digest_of(tuple((str(f.resolve()), f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files))


@lru_cache(maxsize=8)  # keyed by sizes and times, which tell within a process whether files have changed
def digest_of(files: tuple[tuple[str, str, int, int], ...]) -> str:
    """`files` are (path, name, size, time in ns)."""
    digest, names = hashlib.sha256(), {name for _, name, *_ in files}
    read_whole = {CONVERTED} if CONVERTED in names else {CONFIG, *TOKENIZER, *TEMPLATE}
    for path, name, *_ in files:
        if name in read_whole:
            digest.update(name.encode() + normalized(Path(path)))
        elif name.endswith(WEIGHTS) and not name.startswith(("adapter_model", "training_args")):
            for piece in pieces(Path(path)):
                digest.update(piece)
    return digest.hexdigest()[:24]


def vocabulary(tokenizer) -> str:
    """16 hexadecimal digits of the tokenizer's map from tokens to ids."""
    return hashlib.sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest()[:16]


def normalized(path: Path) -> bytes:
    """A file's contents; of JSON, without key order and IRRELEVANT keys. Raises Incomplete for invalid JSON."""
    data = path.read_bytes()
    if path.suffix != ".json":
        return data
    try:
        values = json.loads(data)
    except ValueError as error:
        raise Incomplete(f"{path} is no whole JSON ({error})") from error
    return json.dumps({k: v for k, v in values.items() if k not in IRRELEVANT}, sort_keys=True).encode()


def pieces(path: Path) -> Iterator[bytes]:
    """A file's size, and short pieces of it: of each tensor where the format gives their offsets."""
    size = path.stat().st_size
    yield str(size).encode()
    with path.open("rb") as file:
        for at in offsets(path, size):
            file.seek(at)
            yield file.read(PIECE)


def offsets(path: Path, size: int) -> list[int]:
    """Where the pieces begin: at the start, middle and end of each tensor, else evenly spaced."""
    if path.suffix != ".safetensors":
        return [i * size // PIECES for i in range(PIECES)]
    start, tensors = header(path)
    spans = [t["data_offsets"] for name, t in sorted(tensors.items())]
    return [start + max(a, at) for a, b in spans for at in (a, (a + b) // 2, b - PIECE)]


def header(path: Path) -> tuple[int, dict[str, dict]]:
    """(where the data begins, name -> {"dtype", "shape", "data_offsets"}) of a safetensors file. Raises Incomplete."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            entries = json.loads(file.read(length)) if 0 < length < size else None
        except ValueError:
            entries = None
    tensors = {name: t for name, t in (entries or {}).items() if name != "__metadata__"}
    if not tensors or 8 + length + max(t["data_offsets"][1] for t in tensors.values()) != size:
        raise Incomplete(f"{path} is cut off or damaged")
    return 8 + length, tensors


def check_whole(directory: Path) -> None:
    """Raises Incomplete where a model directory lacks a file, or one is truncated."""
    weights = sorted(directory.glob("*.safetensors"))
    for name in (CONFIG, "tokenizer.json"):
        if not (directory / name).is_file():
            raise Incomplete(f"{directory} has no {name}")
        normalized(directory / name)
    if not weights:
        raise Incomplete(f"{directory} has no weights")
    for file in weights:
        header(file)


def base_model(student: str, source: str | Path, default: str) -> str:
    """The base student's name on other machines: its name on the Hub where that is known, else the last part of its
    directory's path. `student` is the setting, `source` the model directory, `default` the embedded student's name."""
    if not student:
        return default
    cached = CACHED.search(str(source)) or CACHED.search(student)
    if cached:
        return f"{cached[1]}/{cached[2]}"
    if not os.path.isdir(student):
        return student
    config = Path(student) / CONFIG
    name = json.loads(config.read_text(encoding="utf-8")).get("_name_or_path", "") if config.is_file() else ""
    return name if NAME.fullmatch(name) and not os.path.exists(name) else Path(student).resolve().name


def named_base(adapter: Path) -> str:
    """The base model's name in an adapter's config; "" where that is a path of some machine."""
    config = adapter / ADAPTER_CONFIG
    name = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path") if config.is_file() else ""
    return "" if not name or os.path.isabs(name) or name.startswith(".") or os.path.exists(name) else name


def name_base(directory: Path, name: str) -> None:
    """Write the base model's name into an adapter's config, in place of its path on this machine."""
    config = directory / ADAPTER_CONFIG
    values = json.loads(config.read_text(encoding="utf-8"))
    for key in ("base_model_name_or_path", "parent_library_path"):
        if key in values:
            values[key] = name
    config.write_text(json.dumps(values, indent=2), encoding="utf-8")
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's template, which has that path too; cards write their own
