#!/usr/bin/env bash
# Pint reads "6 ft 3 in" as 18 foot-inches, which is an area, "3 1/2 m" as 1.5 m, and "1,5 m" as 15 m.
#
# Packages: pint 0.25.3; Python 3.11, CPU
# Guess: A compound quantity or a mixed number is added up, as people write them, or is an error.
# What happens: What stands beside each other is multiplied, units and numbers alike, and a comma is taken out as a
#   separator of thousands wherever it stands. None of it is told; where only sizes are compared nothing shows it.
# Seen:
#   6 ft 3 in = 18 foot * inch, 1 h 30 min = 30 hour * minute
#   3 1/2 m = 1.5 meter, 1,5 m = 15 meter
# Means: An answer with a unit is one number and one unit, by a pattern of your own, before Pint converts it.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile pint==0.25.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

from pint import UnitRegistry

units = UnitRegistry()
FOUND = {
    "6 ft 3 in": 18 * units.foot * units.inch,
    "1 h 30 min": 30 * units.hour * units.minute,
    "3 1/2 m": 1.5 * units.meter,
    "1,5 m": 15 * units.meter,
}
read = {text: units(text) for text in FOUND}
print("seen:", ", ".join(f"{text} = {quantity}" for text, quantity in read.items()))
if any(read[text] != quantity for text, quantity in FOUND.items()):
    sys.exit("Pint reads such quantities otherwise now.")
PYTHON
