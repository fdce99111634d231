#!/usr/bin/env bash
# One message with parts among OpenAI's chat lines, and DuckDB returns every other message's text in quotation marks.
#
# Packages: duckdb 2.0.1; Python 3.11, CPU
# Guess: Where content is a text in one line and a list in another, the file is refused, or texts stay as they are.
# What happens: The type of content becomes JSON for all rows, and a text as JSON has its quotation marks and escapes.
#   The same query over the file without that line returns plain text, so what was tested on a sample changes with the
#   first image that somebody sends.
# Seen:
#   texts alone: VARCHAR ['Hi', 'Say "bee"'], one with parts: JSON ['"Hi"', '"Say \\"bee\\""']
# Means: Name the columns' types in read_json, or take content ->> '$' where it is JSON; compare a text after loading.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from pathlib import Path

import duckdb

TEXTS = [{"messages": [{"role": "user", "content": text}]} for text in ("Hi", 'Say "bee"')]
PARTS = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look"}]}]}
QUERY = "select typeof(m.content), m.content from (select unnest(messages) as m from '{}.jsonl') limit 2"

found = {}
for name, rows in {"texts": TEXTS, "parts": [*TEXTS, PARTS]}.items():
    Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = duckdb.sql(QUERY.format(name)).fetchall()
    found[name] = (read[0][0], [text for _, text in read])
print("seen: texts alone: {} {}, one with parts: {} {}".format(*found["texts"], *found["parts"]))
if found["texts"][1] != ["Hi", 'Say "bee"'] or found["parts"] != ("JSON", ['"Hi"', '"Say \\"bee\\""']):
    sys.exit("DuckDB reads contents of two kinds otherwise now.")
PYTHON
