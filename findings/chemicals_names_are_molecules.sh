#!/usr/bin/env bash
# "hydrogen" weighs 2.016 in chemicals and 1.008 in periodictable: one names molecules, the other atoms.
#
# Packages: chemicals 1.5.2, periodictable 2.1.0; Python 3.11, CPU
# Guess: An element's name means the element in both, so that a table of one can check answers made from the other.
# What happens: For the seven elements of two atoms chemicals finds the molecule by the name and the atom by the
#   symbol ("hydrogen" is H2, "H" atomic hydrogen). All other elements it knows as atoms, sulfur and phosphorus, which
#   are molecules as well (S8, P4), among them.
# Seen:
#   name / periodictable, by element: {'hydrogen': 2.0, 'nitrogen': 2.0, 'oxygen': 2.0, 'fluorine': 2.0,
#   'chlorine': 2.0, 'bromine': 2.0, 'iodine': 2.0, 'sulfur': 1.0, 'phosphorus': 1.0, 'iron': 1.0, 'helium': 1.0}
#   symbol 'H' / periodictable: 1.0
# Means: Ask chemicals for elements by their symbol, and compare two sources before questions are made of either.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile chemicals==1.5.2 periodictable==2.1.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import periodictable
from chemicals import search_chemical

TWO = ["hydrogen", "nitrogen", "oxygen", "fluorine", "chlorine", "bromine", "iodine"]
ONE = ["sulfur", "phosphorus", "iron", "helium"]


def ratio(asked, name):
    return round(search_chemical(asked).MW / periodictable.elements.name(name).mass, 2)


by_name = {name: ratio(name, name) for name in TWO + ONE}
by_symbol = ratio("H", "hydrogen")
print(f"seen: name / periodictable, by element: {by_name}")
print(f"seen: symbol 'H' / periodictable: {by_symbol}")
if by_name != {name: 2.0 if name in TWO else 1.0 for name in TWO + ONE} or by_symbol != 1.0:
    sys.exit("Names and symbols of elements no longer mean different things.")
PYTHON
