#!/usr/bin/env bash
# Argilla's nested export of a record does not say which responses were discarded.
#
# Packages: argilla 2.8.0; Python 3.11, CPU
# Guess: A response that somebody discarded, or only began, is marked as such in every export, or left out.
# What happens: The flat export has a column of statuses; the nested one, which is the default of to_list, to_dict and
#   to_json, has value and user alone, so a discarded response reads as a submitted one.
# Seen:
#   nested {'ranking': [{'value': ['a', 'b']}, {'value': ['b', 'a']}]}
#   flat ['submitted', 'discarded']
# Means: Export flat (to_list(flatten=True), to_datasets), and take the submitted ones.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile argilla==2.8.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import uuid

import argilla as rg
from argilla.records._io import GenericIO

given = [(["a", "b"], "submitted"), (["b", "a"], "discarded")]
responses = [rg.Response("ranking", value, uuid.uuid4(), status=status) for value, status in given]
record = rg.Record(id="1", fields={"prompt": "Why?", "a": "Because.", "b": "No."}, responses=responses)
(nested,), (flat,) = (GenericIO.to_list([record], flatten=f) for f in (False, True))
told = {q: [{k: v for k, v in one.items() if k != "user_id"} for one in all] for q, all in nested["responses"].items()}
print("nested", told)
print("flat", [str(s) for s in flat["ranking.responses.status"]])
if any("status" in one for one in nested["responses"]["ranking"]) or len(nested["responses"]["ranking"]) != 2:
    sys.exit("The nested export tells discarded responses apart now.")
PYTHON
