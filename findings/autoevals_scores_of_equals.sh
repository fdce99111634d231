#!/usr/bin/env bash
# autoevals: ExactMatch gives the same arguments in another order 0, and NumericDiff a wrong sum 0.96.
#
# Packages: autoevals 0.4.1; Python 3.11, CPU
# Guess: Two equal dictionaries match exactly, equal numbers too; a score near 1 is for what is as good as right.
# What happens: ExactMatch compares texts, and a dictionary's text has the order of its keys; so 1.0 is not 1, and the
#   text 12 is the number 12. NumericDiff is relative: 1 - |a - b| / (|a| + |b|). JSONDiff counts the letters in which
#   two values differ, so another type of the same number is mostly wrong.
# Seen:
#   ExactMatch {'city': 'Lindau', 'days': 2} in the other order 0, 1.0 and 1 0, '12' and 12 1
#   NumericDiff 12 for 11 0.96; JSONDiff '1' for 1 0.33
# Means: Compare values after parsing, and count sums as right or wrong; a mean of such scores hides which they are.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile autoevals==0.4.1
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

from autoevals import ExactMatch, JSONDiff, NumericDiff

CALL = {"city": "Lindau", "days": 2}
TURNED = dict(reversed(CALL.items()))


def score(kind, output, expected):
    return round(kind().eval(output=output, expected=expected).score, 2)


exact = [score(ExactMatch, *both) for both in ((TURNED, CALL), (1.0, 1), ("12", 12))]
numeric, as_json = score(NumericDiff, 12, 11), score(JSONDiff, {"n": "1"}, {"n": 1})
print("seen: ExactMatch {} in the other order {}, 1.0 and 1 {}, '12' and 12 {}".format(CALL, *exact))
print(f"seen: NumericDiff 12 for 11 {numeric}; JSONDiff '1' for 1 {as_json}")
if TURNED != CALL or exact != [0, 0, 1] or numeric != 0.96 or as_json != 0.33:
    sys.exit("autoevals scores these otherwise now.")
PYTHON
