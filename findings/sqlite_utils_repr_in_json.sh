#!/usr/bin/env bash
# A loss of type np.float32 becomes four bytes in SQLite, and the text of its repr inside a dict, without an error
#
# Packages: sqlite-utils 4.2.1, numpy 2.4.6; Python 3.11, CPU
# Guess: A dict in a row is stored as JSON; what JSON cannot hold raises, as json.dumps does, or becomes a number.
# What happens: As a column's own value np.float32 is stored as a BLOB of its four bytes: sqlite3 takes whatever has a
#   buffer. In a dict or a list it is stored as the string of its repr: sqlite-utils calls json.dumps with
#   default=repr. np.float64 is a float, so both are right with it.
# Seen:
#   np.float32 by itself: b'\x00\x00\x80>'
#   in a dict: {"loss": "np.float32(0.25)", "steps": [1, "np.int64(2)"]}
#   by json_extract: text, 'np.float32(0.25)'
#   np.float64: 0.25 and {"loss": 0.25}
# Means: Metrics of a training look stored, and come back as texts that sort by letters and break a plot, from the day
#   that the model trains in single precision. Call .item() on each number first.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile sqlite-utils==4.2.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import sqlite_utils

db = sqlite_utils.Database(memory=True)
loss, steps = np.float32(0.25), np.int64(2)
db["rounds"].insert({"id": 1, "loss": loss, "metrics": {"loss": loss, "steps": [1, steps]}})
row = db["rounds"].get(1)
print(f"np.float32 by itself: {row['loss']!r}")
print(f"in a dict: {row['metrics']}")
question = "select typeof(json_extract(metrics, '$.loss')), json_extract(metrics, '$.loss') from rounds"
kind, value = db.execute(question).fetchone()
print(f"by json_extract: {kind}, {value!r}")
db["rounds"].insert({"id": 2, "loss": np.float64(0.25), "metrics": {"loss": np.float64(0.25)}})
double = db["rounds"].get(2)
print(f"np.float64: {double['loss']} and {double['metrics']}")
if kind != "text" or not isinstance(row["loss"], bytes) or double["loss"] != 0.25:
    sys.exit("NumPy numbers of single precision are stored as numbers now, or raise.")
PYTHON
