"""LLaMA-Factory's dataset_info.json: which of the files beside it are data sets, and what their columns are called.

Its columns and tags are renamed to those of ShareGPT and Alpaca, whose readers then read the rows.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from kdloop.feedback.imports import chats, fields
from kdloop.feedback.imports.fields import Format, Wrong, mapping, text
from kdloop.feedback.imports.reading import LONGEST, Unreadable
from storage import files
from storage.imports import Rated

ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}  # its own names, where columns say nothing
ALPACA |= {name: name for name in ("history", "system", "chosen", "rejected", "kto_tag", "tools", "images", "videos")}
SHAREGPT = {"messages": "conversations"} | {
    n: n for n in ("system", "chosen", "rejected", "kto_tag", "tools", "images")
}
TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt", "system_tag": "system"}
TAGS |= {"observation_tag": "observation", "function_tag": "function_call"}
OURS = {"user_tag": "human", "assistant_tag": "gpt", "system_tag": "system", "observation_tag": "observation"}
OURS |= {"function_tag": "function_call"}
UNSET = ("history", "system", "chosen", "rejected", "kto_tag", "tools", "images", "videos")  # unless columns name them


def is_info(path: Path) -> bool:
    return path.name == "dataset_info.json"


def datasets(path: Path) -> Iterator[tuple[Path, Format]]:
    """The files that a dataset_info.json names, with their formats; entries of the Hub are left out. Raises Unreadable,
    also for a file outside of its directory."""
    if path.stat().st_size > LONGEST:
        raise Unreadable(f"{path.name} is longer than any list of data sets")
    try:
        entries = mapping(json.loads(files.read_text(path)), path.name).items()
        for name, entry in entries:
            entry = mapping(entry, name)
            if (
                "file_name" not in entry
                or entry.get("hf_hub_url")
                or entry.get("ms_hub_url")
                or entry.get("script_url")
            ):
                continue
            file = path.parent / text(entry["file_name"], f"{name}.file_name")
            if not file.resolve().is_relative_to(path.parent.resolve()):
                raise Wrong(f"{name}.file_name is {entry['file_name']!r}: not in the directory of {path.name}")
            if file.is_file():
                yield file, of_entry(name, entry)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path.name}: {error}") from None


def of_entry(name: str, entry: dict) -> Format:
    formatting = entry.get("formatting", "alpaca")
    if formatting not in ("alpaca", "sharegpt"):
        raise Wrong(f"{name}.formatting is {formatting!r:.40}; known are alpaca, sharegpt")
    known = SHAREGPT if formatting == "sharegpt" else ALPACA
    columns = {
        k: text(v, f"{name}.columns.{k}") for k, v in mapping(entry.get("columns") or {}, f"{name}.columns").items()
    }
    tags = {k: text(v, f"{name}.tags.{k}") for k, v in mapping(entry.get("tags") or {}, f"{name}.tags").items()}
    if entry.get("ranking"):
        columns = {"chosen": "chosen", "rejected": "rejected"} | columns
    named = {ours: columns.get(theirs, ours if theirs not in UNSET else None) for theirs, ours in known.items()}
    read = partial(renamed, named, TAGS | tags if formatting == "sharegpt" else None)
    return Format(f"LLaMA-Factory, {name} ({formatting})", lambda r: True, read)


def renamed(names: dict[str, str | None], tags: dict[str, str] | None, row: dict) -> Iterator[Rated]:
    ours = {our: row[their] for our, their in names.items() if their is not None and their in row}
    if not tags:
        return chats.alpaca(ours)
    for name in ("conversations", "chosen", "rejected"):
        if name in ours:
            ours[name] = retagged(ours[name], names[name], tags)
    return chats.sharegpt(ours)


def retagged(value: Any, field: str, tags: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [retagged(m, f"{field}[{i}]", tags) for i, m in enumerate(value)]
    m = mapping(value, field)
    if tags["role_tag"] not in m:
        raise Wrong(f"{field} has no {tags['role_tag']}")
    roles = {their: OURS[tag] for tag, their in tags.items() if tag in OURS}
    role = fields.choice(m[tags["role_tag"]], f"{field}.{tags['role_tag']}", roles)
    return {"from": role, "value": m.get(tags["content_tag"])}
