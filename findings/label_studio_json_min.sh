#!/usr/bin/env bash
# Label Studio's JSON_MIN writes one choice as a string and two as an object, and takes over the task's own id.
#
# Packages: label-studio-sdk 2.1.2; Python 3.11, CPU
# Guess: A control has one shape in all rows, and the task's data come through as they went in.
# What happens: One choice is 'long', two are {'choices': [...]}; one text is a string, two are {'text': [...]}. The
#   data's own `id` is overwritten by Label Studio's. A data field named like a control shows through where an
#   annotator left the control empty: imported values pose as votes.
# Seen:
#   {'id': 1, 'fault': 'long', 'why': 'wordy', 'quality': 'imported'}
#   {'id': 1, 'fault': {'choices': ['long', 'rude']}, 'why': {'text': ['wordy', 'cold']}, 'quality': 'imported'}
# Means: Read the full JSON export, or accept both shapes; name no data field `id` or like a control.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile label-studio-sdk==2.1.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import pathlib
import sys

from label_studio_sdk.converter import Converter

CONFIG = """<View><Text name="text" value="$text"/><Rating name="quality" toName="text"/>
<Choices name="fault" toName="text" choice="multiple"><Choice value="long"/><Choice value="rude"/></Choices>
<TextArea name="why" toName="text"/></View>"""


def annotation(rater, faults, reasons):
    parts = {"fault": ("choices", {"choices": faults}), "why": ("textarea", {"text": reasons})}
    result = [dict(from_name=n, to_name="text", type=t, value=v) for n, (t, v) in parts.items()]
    return {"id": rater, "completed_by": rater, "result": result}


data = {"text": "Hello", "id": "completion-77", "quality": "imported"}
task = {
    "id": 1,
    "data": data,
    "annotations": [annotation(1, ["long"], ["wordy"]), annotation(2, ["long", "rude"], ["wordy", "cold"])],
}
pathlib.Path("in").mkdir()
pathlib.Path("in/task.json").write_text(json.dumps([task]))
Converter(CONFIG, "in").convert_to_json_min("in", "out")
rows = json.loads(pathlib.Path("out/result.json").read_text())
for row in rows:
    print({key: row[key] for key in ("id", "fault", "why", "quality")})
one, two = rows
if (
    (one["fault"], two["fault"]) != ("long", {"choices": ["long", "rude"]})
    or one["id"] != 1
    or one["quality"] != "imported"
):
    sys.exit("JSON_MIN writes one of these otherwise now.")
PYTHON
