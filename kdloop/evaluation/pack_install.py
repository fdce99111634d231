"""Packs from outside into the home: a folder, a wheel's data or a data set of the Hub.

Only the files of a pack are copied, within limits, and only after all of them were read without a mistake.
"""

import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from stat import S_ISLNK
from tempfile import TemporaryDirectory

from kdloop import packs
from kdloop.evaluation.pack_remove import keep, require_unused
from kdloop.packs.generated import generate
from kdloop.packs.reading import PARTS, Problem, pack_in, read_part, read_toml, tasks_in
from kdloop.raters import verifiers
from storage import files

TOML = "pack.toml"
TOP = (TOML, *(f"{part}.jsonl" for part in PARTS), "README.md", "LICENSE", "NOTICE")
DOCUMENT = re.compile(r"documents/[\w. -]{1,100}\.txt")
MAX_FILES = 2000
MAX_FILE = 50_000_000  # bytes
MAX_TOML = 1_000_000
MAX_PACK = 200_000_000
MAX_MEMBERS = 20_000  # of an archive, those that are no pack's included
HUB = re.compile(r"(?:hf://datasets/)?([\w.-]{1,96}/[\w.-]{1,96})")


def belongs(name: str) -> bool:
    """Whether a file of this relative name (with /) is one of a pack's; all others are left behind."""
    return name in TOP or DOCUMENT.fullmatch(name) is not None


def install(source: str, name: str = "") -> packs.Place:
    """Under `name`, or the source's own. Raises ValueError saying what is wrong, or OSError; then nothing has changed.

    `source` is a folder with a pack.toml, a wheel or ZIP archive that holds one, or a data set of the Hub (OWNER/NAME).
    """
    with fetched(source) as (folder, own):
        name = free_name(name or own)
        validate(folder)
        return put(folder, name)


@contextmanager
def fetched(source: str) -> Iterator[tuple[Path, str]]:
    """The folder of the pack's files, and the name that it has there."""
    path = Path(source).expanduser()
    if path.is_dir():
        yield path, path.resolve().name
        return
    with TemporaryDirectory() as scratch:
        if path.is_file():
            yield Path(scratch), unpack(path, Path(scratch))
        elif named := on_hub(source):
            yield download(named, Path(scratch)), named.split("/")[1].lower()
        else:
            raise ValueError(f"{source} is no folder, no file, and no data set of the Hub (OWNER/NAME)")


def on_hub(source: str) -> str | None:
    """The OWNER/NAME of a data set of the Hub, where the source is no path."""
    named = None if source.startswith((".", "/", "~")) else HUB.fullmatch(source)
    return named[1] if named else None


def unpack(archive: Path, into: Path) -> str:
    """Write the one pack of a wheel or ZIP archive to `into`, and return its name."""
    try:
        if archive.stat().st_size > MAX_PACK:
            raise ValueError(f"{archive} is of more than {MAX_PACK // 10**6} MB")
        with zipfile.ZipFile(archive) as opened:
            if len(opened.infolist()) > MAX_MEMBERS:
                raise ValueError(f"{archive} holds {len(opened.infolist())} files; at most {MAX_MEMBERS}")
            found = [m for m in opened.infolist() if PurePosixPath(m.filename).name == TOML]
            if len(found) != 1:
                inside = ", ".join(m.filename for m in found) or "none"
                raise ValueError(f"{archive} should hold one {TOML}; it holds {inside}")
            folder = PurePosixPath(found[0].filename).parent
            members = {m.filename.removeprefix(f"{folder}/"): m for m in opened.infolist()}
            wanted = {name: m for name, m in members.items() if belongs(name)}
            if links := [name for name, m in wanted.items() if S_ISLNK(m.external_attr >> 16)]:
                raise ValueError(f"{archive}: {links[0]} is a link: a pack's files are read as they are")
            require_small({name: m.file_size for name, m in wanted.items()})
            for name, member in wanted.items():
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as data:
                    (into / name).write_bytes(data.read(member.file_size))  # no more, whatever it unpacks to
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{archive} cannot be unpacked: {error}") from error
    return folder.name or archive.stem.split("-")[0].lower()


def require_small(sizes: dict[str, int]) -> None:
    """Raises ValueError where the files, by name, are too many or too large."""
    if len(sizes) > MAX_FILES or sum(sizes.values()) > MAX_PACK:
        raise ValueError(f"A pack has at most {MAX_FILES} files, of {MAX_PACK // 10**6} MB together")
    for name, size in sizes.items():
        if size > (most := MAX_TOML if name == TOML else MAX_FILE):
            raise ValueError(f"{name} is of {size} bytes; at most {most}")


def download(dataset: str, into: Path) -> Path:
    """The files of a pack in a data set of the Hub, and none of its others."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.hf_api import RepoFile

    api, of = HfApi(), {"repo_type": "dataset"}
    try:
        listed = [f for f in api.list_repo_tree(dataset, recursive=True, **of) if isinstance(f, RepoFile)]
        sizes = {f.path: f.size for f in listed if belongs(f.path)}
        require_small(sizes)
        for name in sizes if TOML in sizes else ():
            api.hf_hub_download(dataset, name, local_dir=into, **of)
    except (OSError, HTTPError, RuntimeError) as error:  # RuntimeError: of Xet, which moves large files
        raise ValueError(f"The Hub does not give {dataset}: {error}") from error
    if TOML not in sizes:
        raise ValueError(f"{dataset} has no {TOML}: `pack new NAME --from {dataset}` makes a pack of its rows")
    return into


def free_name(name: str) -> str:
    """Raises ValueError for a name that no folder should have, or that a pack of kdloop's own has."""
    if not packs.NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no pack's name: a to z, 0 to 9, - and _, at most 40: choose another (--name)")
    if name in packs.shipped():
        raise ValueError(f"{name!r} is a pack that comes with kdloop: choose another name (--name)")
    return name


def validate(folder: Path) -> None:
    """Raises ValueError with the first ten mistakes of the files that belong to a pack."""
    sizes = {}
    for path in (p for top in TOP for p in folder.glob(top)):
        sizes[path.name] = size_of(path)
    for path in sorted(folder.glob("documents/*.txt")):
        if not belongs(name := f"documents/{path.name}"):
            raise ValueError(f"{name}: a document's name has letters, digits, spaces, dots, - and _, at most 100")
        sizes[name] = size_of(path)
    if TOML not in sizes:
        raise ValueError(f"{folder} has no {TOML}: `pack new NAME --from {folder}` makes a pack of its files")
    require_small(sizes)
    require_right(folder, "This is no pack yet:")
    for name in (n for n in sizes if n.endswith(".txt")):
        files.read_text(folder / name)


def size_of(path: Path) -> int:
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{path} is a link or no file: a pack's files are read as they are")
    return path.stat().st_size


def require_right(folder: Path, otherwise: str) -> None:
    """Raises ValueError with the first ten mistakes, which `otherwise` begins."""
    if found := problems(folder):
        more = [f"and {len(found) - 10} more"] if len(found) > 10 else []
        raise ValueError("\n  ".join([otherwise, *map(str, found[:10]), *more]))


def problems(folder: Path) -> list[Problem]:
    """Every mistake in the files, and every check that does not exist or cannot be asked so."""
    values, found = read_toml(folder)
    parts = {part: read_part(folder, part) for part in PARTS}
    found += [p for _, wrong in parts.values() for p in wrong]
    if found:
        return found
    own = {(TOML, 0): values.get("checks", ())}
    rows = {(f"{part}.jsonl", line): row for part, (rows, _) in parts.items() for line, row in rows.items()}
    asked = own | {at: row.get("checks", ()) for at, row in rows.items()}
    answers = {at: row.get("answer", "") for at, row in rows.items()}
    for (file, line), checks in asked.items():
        for i, check in enumerate(checks, 1):
            if what := verifiers.wrong_check(check, answers.get((file, line))):
                found.append(Problem(file, line, f"checks {i}", what))
    for at, row in rows.items():
        for check in values.get("checks", ()):
            if what := verifiers.wrong_check(check, row.get("answer", "")):
                found.append(Problem(*at, "answer", what))
    if not any(rows for rows, _ in parts.values()) and "source" not in values:
        found.append(Problem("train.jsonl", 0, "", "there is no prompt: neither a part nor a [source]"))
    return found


def put(folder: Path, name: str) -> packs.Place:
    """Copy the pack's files to the home; what was there under this name is kept."""
    home = packs.installed_in()
    home.mkdir(parents=True, exist_ok=True)
    files.sweep(home)
    there = home / name
    with files.scratch(there) as partial:
        partial.mkdir()
        for path in [folder / top for top in TOP] + sorted(folder.glob("documents/*.txt")):
            if path.is_file():
                target = partial / path.relative_to(folder)
                target.parent.mkdir(exist_ok=True)
                files.write(target, path.read_bytes())
        read_all(partial, name)  # what was copied, not what lay there a moment ago
        files.sync(partial)
        if there.exists():
            require_unused(name)
            keep(there)
        os.replace(partial, there)
    return packs.place(name)


def read_all(folder: Path, name: str) -> None:
    """Raises ValueError for what cannot be read, or generated, here."""
    pack = pack_in(name, folder)
    if pack.source:
        generate(pack)
    for part in PARTS:
        tasks_in(pack, folder, part)
