#!/usr/bin/env bash
# polars leaves out a key of JSONL that comes first after line 100.
#
# Packages: polars 2.1.0; Python 3.11, CPU
# Guess: The column is there with its one value, or reading raises, as it does where a number's type changes late.
# What happens: The schema is inferred from the first 100 lines; a later key is dropped with its values, by
#   read_ndjson and scan_ndjson, without a word.
# Seen:
#   read_ndjson: 201 rows, columns ['stars']
#   scan_ndjson: 201 rows, columns ['stars']
#   read_ndjson, infer_schema_length=None: 201 rows, columns ['stars', 'reason']
# Means: Comments and reasons are the rare fields of feedback. Write every key in every line, or read with
#   infer_schema_length=None.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile polars==2.1.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import pathlib
import sys

import polars

votes = [{"stars": 3}] * 150 + [{"stars": 1, "reason": "rude"}] + [{"stars": 4}] * 50
pathlib.Path("votes.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in votes))
seen = {
    "read_ndjson": polars.read_ndjson("votes.jsonl"),
    "scan_ndjson": polars.scan_ndjson("votes.jsonl").collect(),
    "read_ndjson, infer_schema_length=None": polars.read_ndjson("votes.jsonl", infer_schema_length=None),
}
for name, frame in seen.items():
    print(f"{name}: {frame.height} rows, columns {frame.columns}")
if [frame.columns for frame in seen.values()] != [["stars"], ["stars"], ["stars", "reason"]]:
    sys.exit("A key that comes first on line 151 is read otherwise now.")
PYTHON
