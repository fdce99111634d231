#!/usr/bin/env bash
# Dataset.from_list drops columns that its first row lacks, but keeps nested keys that it lacks.
#
# Packages: datasets 5.2.0; Python 3.11, CPU
# Guess: Rows with different keys are filled with None, at every level alike.
# What happens: The first row alone decides the columns; inside an object all rows' keys are united. Nothing is said
#   about what was left out.
# Seen:
#   first row shorter: columns ['prompt', 'meta'], meta ['model', 'source']
#   first row longer: columns ['prompt', 'meta', 'reason'], meta ['model', 'source']
# Means: Examples collected from votes and teachers lose their rarer columns (`reason`, `tools`) if the first of
#   them has none. Give every row every key, or pass `features`.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile datasets==5.2.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys

from datasets import Dataset

first = {"prompt": "Q", "meta": {"source": "vote"}}
second = {"prompt": "Q2", "meta": {"source": "teacher", "model": "big"}, "reason": "clear"}
seen = {"first row shorter": Dataset.from_list([first, second]), "first row longer": Dataset.from_list([second, first])}
for name, rows in seen.items():
    print(f"{name}: columns {rows.column_names}, meta {sorted(rows.features['meta'])}")
short, long = seen.values()
if "reason" in short.column_names or "reason" not in long.column_names or "model" not in short.features["meta"]:
    sys.exit("from_list takes columns from other rows than the first now.")
PYTHON
