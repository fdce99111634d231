#!/usr/bin/env bash
# A JSONL column in which every text looks like a date is loaded as times.
#
# Packages: datasets 5.2.0; Python 3.11, CPU
# Guess: JSON has no dates; what stands in quotes is loaded as text.
# What happens: If all values of a column look like ISO dates it becomes timestamp[s], its values datetimes, and
#   writing the set as JSONL again changes the text. One other value, and it is text.
# Seen:
#   Value('timestamp[s]'), first completion datetime.datetime(2024, 3, 1, 0, 0)
#   Value('string'), first completion '2024-03-01'
#   written again as JSONL: 1709251200000
#   with features of strings: '2024-03-01 00:00:00'
# Means: Completions of a date-extraction task, or ids like 2024-03-01, stop being strings on the day that all of
#   them fit; templates and tokenizers then fail, and the copy on disk holds milliseconds since 1970. `features`
#   with Value('string') do not help: they turn the times into other texts. Read the lines with json, and
#   Dataset.from_list.

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

from datasets import Features, Value, disable_progress_bars, load_dataset

disable_progress_bars()
question = "When did it begin?"


def load(name, answers, **options):
    rows = [{"prompt": question, "completion": answer} for answer in answers]
    pathlib.Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_dataset("json", data_files=f"{name}.jsonl", split="train", cache_dir=name, **options)


dates = load("dates", ["2024-03-01", "2024-04-12"])
mixed = load("mixed", ["2024-03-01", "in April"])
for rows in (dates, mixed):
    print(f"{rows.features['completion']}, first completion {rows[0]['completion']!r}")
dates.to_json("again.jsonl")
again = json.loads(pathlib.Path("again.jsonl").read_text().splitlines()[0])["completion"]
print(f"written again as JSONL: {again!r}")
strings = Features({"prompt": Value("string"), "completion": Value("string")})
told = load("told", ["2024-03-01", "2024-04-12"], features=strings)[0]["completion"]
print(f"with features of strings: {told!r}")
if isinstance(dates[0]["completion"], str) or mixed[0]["completion"] != "2024-03-01" or "2024-03-01" in (again, told):
    sys.exit("A column of texts that look like dates stays text now.")
PYTHON
