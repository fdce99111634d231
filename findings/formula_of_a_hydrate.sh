#!/usr/bin/env bash
# CuSO4.5H2O is a hydrate of 249.7 to molmass, and to periodictable and chempy 185.6: four and a half oxygens.
#
# Packages: periodictable 2.1.0, molmass 2026.1.8, chempy 0.10.2; Python 3.11, CPU
# Guess: A formula as textbooks and models write it has one mass, or an error where a package does not know the dot.
# What happens: periodictable and chempy read the dot as a decimal point of the count before it. Their own signs for a
#   hydrate are + and two dots. And a number in front multiplies for periodictable, but names an isotope for molmass.
# Seen:
#   CuSO4.5H2O: periodictable 185.6, chempy 185.6, molmass 249.7
#   2H2O: periodictable 36.03, molmass 20.03
# Means: Check masses against two packages, and write hydrates and multiples the way that the one in use reads.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile periodictable==2.1.0 molmass==2026.1.8 chempy==0.10.2
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import periodictable
from chempy import Substance
from molmass import Formula

HYDRATE, TWO = "CuSO4.5H2O", "2H2O"
hydrate = [
    round(float(mass), 1)
    for mass in (periodictable.formula(HYDRATE).mass, Substance.from_formula(HYDRATE).mass, Formula(HYDRATE).mass)
]
two = [round(float(mass), 2) for mass in (periodictable.formula(TWO).mass, Formula(TWO).mass)]
print("seen: {}: periodictable {}, chempy {}, molmass {}".format(HYDRATE, *hydrate))
print("seen: {}: periodictable {}, molmass {}".format(TWO, *two))
if hydrate != [185.6, 185.6, 249.7] or two != [36.03, 20.03]:
    sys.exit("These packages read such formulas otherwise now.")
PYTHON
