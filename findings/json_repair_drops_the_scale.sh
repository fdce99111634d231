#!/usr/bin/env bash
# json-repair reads "4 out of 10" as the number 4 and 85% as 85, and of two verdicts the last.
#
# Packages: json-repair 0.64.6; Python 3.11, CPU
# Guess: It mends what is cut off or unquoted; a value that is not JSON stays a text, as 8/10 does, or is left out.
# What happens: Where a value begins with digits and a space or a sign follows, the digits are returned as a number and
#   the rest is dropped: the scale, the unit, the second operand. After several objects only the last one is returned,
#   where they have the same keys.
# Seen:
#   {"score": 4 out of 10} 4, {"score": 85%} 85, {"score": 10 - 3} 10, {"score": 8/10} '8/10'
#   {"winner": "A"} at first sight, but {"winner": "B"} if brevity counts: {'winner': 'B'}
# Means: Do not repair a judge's verdict: read it strictly, and count what cannot be read.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile json-repair==0.64.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import json_repair

VERDICTS = {'{"score": 4 out of 10}': 4, '{"score": 85%}': 85, '{"score": 10 - 3}': 10, '{"score": 8/10}': "8/10"}
TWO = '{"winner": "A"} at first sight, but {"winner": "B"} if brevity counts'

read = {text: json_repair.loads(text)["score"] for text in VERDICTS}
print("seen:", ", ".join(f"{text} {score!r}" for text, score in read.items()))
of_two = json_repair.loads(TWO)
print(f"seen: {TWO}: {of_two}")
if read != VERDICTS or of_two != {"winner": "B"}:
    sys.exit("json-repair reads such verdicts otherwise now.")
PYTHON
