#!/usr/bin/env bash
# Math-Verify takes 7%, 7 and 0.07 for equal, and 10:30 for 10:45.
#
# Packages: math-verify 0.9.0; Python 3.11, CPU
# Guess: Equal values are equal however they are written, and others are not; the relation is transitive.
# What happens: 7% equals 7 and 0.07, which are not equal to each other. Of a time only the hour is read, 1,2 is
#   1.2, an open interval equals a set of its ends, B equals b. 1e2 is read as 1, and a bare letter or word as
#   nothing, which equals nothing, itself included.
# Seen:
#   equal: 7% and 7, 7% and 0.07, 10:30 and 10:45, 1,2 and 1.2, $(1,2)$ and $\{1,2\}$, $B$ and $b$
#   not equal: 7 and 0.07, 100 and 1e2, B and B, yes and yes, 1/3 and 0.333
# Means: As a reward for percentages, times, choices by letter or scientific notation it pays wrong answers and
#   refuses right ones. Check the kind of the gold answer first.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile math-verify==0.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

from math_verify import parse, verify


def same(gold, told):
    return verify(parse(gold), parse(told))


equal = [("7%", "7"), ("7%", "0.07"), ("10:30", "10:45"), ("1,2", "1.2"), ("$(1,2)$", r"$\{1,2\}$"), ("$B$", "$b$")]
unequal = [("7", "0.07"), ("100", "1e2"), ("B", "B"), ("yes", "yes"), ("1/3", "0.333")]
for label, cases in (("equal", equal), ("not equal", unequal)):
    print(
        f"{label}: {', '.join(f'{gold} and {told}' for gold, told in cases if same(gold, told) == (label == 'equal'))}"
    )
if not all(same(*case) for case in equal) or any(same(*case) for case in unequal):
    sys.exit("Math-Verify judges one of these otherwise now.")
PYTHON
