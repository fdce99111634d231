#!/usr/bin/env bash
# Whether two JSONL files of conversations load depends on the order they are named in.
#
# Packages: datasets 5.2.0; Python 3.11, CPU
# Guess: load_dataset takes the union of the keys of all files, or refuses them all.
# What happens: The first file decides the nested keys. A file with tool calls after one without is refused with a
#   cast error; in the other order, or in one file, all is well.
# Seen:
#   ['plain.jsonl', 'tools.jsonl']: DatasetGenerationError, TypeError
#   ['tools.jsonl', 'plain.jsonl']: 2 rows
#   ['both.jsonl']: 2 rows
# Means: Name the files by size of schema, concatenate them first, or write every key of a message (null where it is
#   not used) in every line of an export.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile datasets==5.2.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import json
import pathlib
import sys

from datasets import disable_progress_bars, load_dataset
from datasets.exceptions import DatasetGenerationError

disable_progress_bars()
said = {"messages": [{"role": "user", "content": "hi"}]}
called = {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {"x": 1}}]}]}
for name, rows in {"plain": [said], "tools": [called], "both": [said, called]}.items():
    pathlib.Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def load(*files):
    try:
        rows = load_dataset("json", data_files=list(files), split="train", cache_dir="cache of " + " ".join(files))
    except DatasetGenerationError as error:
        return f"{type(error).__name__}, {type(error.__cause__).__name__}"
    return f"{len(rows)} rows"


seen = {
    files: load(*files) for files in (("plain.jsonl", "tools.jsonl"), ("tools.jsonl", "plain.jsonl"), ("both.jsonl",))
}
for files, result in seen.items():
    print(f"{list(files)}: {result}")
if list(seen.values()) != ["DatasetGenerationError, TypeError", "2 rows", "2 rows"]:
    sys.exit("The order of the files no longer decides whether they load.")
PYTHON
