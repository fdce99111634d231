"""Which base student this is: by what is in its files, not by its name or their times, and without reading them all.

Of each tensor three short pieces are read, so that a student that was trained further is another one, at about a
thousandth of its size. And what it is called where other machines can find it.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
CONVERTED = "converted_from.json"  # in a directory that was made of a GGUF: {"file", "identity"} of that
PIECE = 256  # bytes
PIECES = 512  # of a file whose tensors are not known
WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt")
TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
TEMPLATE = ("chat_template.jinja", "tokenizer_config.json")
PASSING = ("_name_or_path", "name_or_path", "transformers_version", "torch_dtype", "dtype")  # say nothing of the model
CACHED = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/[^/]+/?$")
NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


class Incomplete(ValueError):
    "A model directory whose files are not whole"


def identity(directory: str | Path) -> str:
    """24 hexadecimal digits of a model directory or a GGUF file: other weights, another shape, tokenizer or template
    give others. Raises Incomplete."""
    path = Path(directory)
    files = [path] if path.is_file() else sorted(f for f in path.iterdir() if f.is_file())
    return digest_of(tuple((str(f.resolve()), f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files))


@lru_cache(maxsize=8)  # of the same files, as far as their sizes and times tell, within this process
def digest_of(files: tuple[tuple[str, str, int, int], ...]) -> str:
    digest, names = hashlib.sha256(), {name for _, name, *_ in files}
    said = {CONVERTED} if CONVERTED in names else {CONFIG, *TOKENIZER, *TEMPLATE}
    for path, name, *_ in files:
        if name in said:
            digest.update(name.encode() + told(Path(path)))
        elif name.endswith(WEIGHTS) and not name.startswith(("adapter_model", "training_args")):
            for piece in pieces(Path(path)):
                digest.update(piece)
    return digest.hexdigest()[:24]


def vocabulary(tokenizer) -> str:
    """16 hexadecimal digits: which number means which token."""
    return hashlib.sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest()[:16]


def told(path: Path) -> bytes:
    """What a file says, whoever has written it down again."""
    data = path.read_bytes()
    if path.suffix != ".json":
        return data
    try:
        said = json.loads(data)
    except ValueError as error:
        raise Incomplete(f"{path} is no whole JSON ({error})") from error
    return json.dumps({k: v for k, v in said.items() if k not in PASSING}, sort_keys=True).encode()


def pieces(path: Path) -> Iterator[bytes]:
    """A file's size, and short pieces of it: of each tensor where the file says where they lie."""
    size = path.stat().st_size
    yield str(size).encode()
    with path.open("rb") as file:
        for at in offsets(path, size):
            file.seek(at)
            yield file.read(PIECE)


def offsets(path: Path, size: int) -> list[int]:
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
            said = json.loads(file.read(length)) if 0 < length < size else None
        except ValueError:
            said = None
    tensors = {name: t for name, t in (said or {}).items() if name != "__metadata__"}
    if not tensors or 8 + length + max(t["data_offsets"][1] for t in tensors.values()) != size:
        raise Incomplete(f"{path} is cut off or damaged")
    return 8 + length, tensors


def check_whole(directory: Path) -> None:
    """Raises Incomplete where a model directory lacks a part, or one is cut off."""
    weights = sorted(directory.glob("*.safetensors"))
    for name in (CONFIG, "tokenizer.json"):
        if not (directory / name).is_file():
            raise Incomplete(f"{directory} has no {name}")
        told(directory / name)
    if not weights:
        raise Incomplete(f"{directory} has no weights")
    for file in weights:
        header(file)


def base_model(student: str, source: str | Path, default: str) -> str:
    """What the base student is called elsewhere: its name on the Hub where that is known, else the name of its
    directory alone, without where it lies. `student` is the setting, `source` the model directory, `default` the name
    of the embedded one."""
    if not student:
        return default
    found = CACHED.search(str(source)) or CACHED.search(student)
    if found:
        return f"{found[1]}/{found[2]}"
    if not os.path.isdir(student):
        return student
    config = Path(student) / CONFIG
    said = json.loads(config.read_text(encoding="utf-8")).get("_name_or_path", "") if config.is_file() else ""
    return said if NAME.fullmatch(said) and not os.path.exists(said) else Path(student).resolve().name


def named_base(adapter: Path) -> str:
    """What an adapter directory says that its base is called; "" where that is a place on some machine."""
    config = adapter / ADAPTER_CONFIG
    name = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path") if config.is_file() else ""
    return "" if not name or os.path.isabs(name) or name.startswith(".") or os.path.exists(name) else name


def name_base(directory: Path, name: str) -> None:
    """An adapter directory says what its base is called elsewhere, and no more where it lay on this machine."""
    config = directory / ADAPTER_CONFIG
    said = json.loads(config.read_text(encoding="utf-8"))
    for key in ("base_model_name_or_path", "parent_library_path"):
        if key in said:
            said[key] = name
    config.write_text(json.dumps(said, indent=2), encoding="utf-8")
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's form, with that place in it; cards write one
